"""Reading the directory's own tables noun by noun, for one caller: what they may see of it, a page at a time.

One statement per request, whatever is asked. What an operation on an instance needs is in `tables.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.directory.resources import (
    AnyResource,
    Organization,
    Resource,
    Role,
    ServiceBroker,
    ServiceInstance,
    ServiceOffering,
    ServicePlan,
    Space,
)
from shared.lists import Page
from shared.store.sql import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import LiteralString

    from shared.security.callers import Caller
    from shared.store.database import Database

_SQL = load("reading")

_STATEMENTS: Final[dict[type[Resource], LiteralString]] = {
    Organization: _SQL["visible_organizations"] + _SQL["page"],
    Space: _SQL["visible_spaces"] + _SQL["page"],
    Role: _SQL["visible_roles"] + _SQL["page"],
    ServiceBroker: _SQL["visible_service_brokers"] + _SQL["page"],
    ServiceOffering: _SQL["visible_service_offerings"] + _SQL["page"],
    ServicePlan: _SQL["visible_service_plans"] + _SQL["page"],
    ServiceInstance: _SQL["visible_service_instances"] + _SQL["page"],
}
#: The filters that any of the statements knows; those that are not given leave everything.
_FILTERS: Final = (
    "guids", "names", "types", "user_guids", "space_guids", "organization_guids", "broker_catalog_ids",
    "service_broker_guids", "service_broker_names", "service_offering_guids", "service_offering_names",
    "service_plan_guids", "service_plan_names", "service_instance_guids",
)  # fmt: skip


class TablesReading:
    """What a caller may see of our own tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(
        self,
        kind: type[AnyResource],
        caller: Caller,
        *,
        filters: Mapping[str, Sequence[str]],
        order_by: str,
        offset: int,
        limit: int,
    ) -> Page[AnyResource]:
        """At most `limit` resources after the first `offset` of those that `caller` may see and every filter allows.

        `filters` has the values that each of them allows, `order_by` a column of time or `name`, after a minus for the
        other way round.
        """
        parameters = {
            "user_guid": caller.user_guid,
            "sees_everything": caller.sees_everything,
            "order_by": order_by,
            "offset": offset,
            "limit": limit,
        }
        values = {name: list(filters[name]) if name in filters else None for name in _FILTERS}
        rows = await self._database.fetch(_STATEMENTS[kind], parameters | values)
        total = rows[0]["total"]
        columns = kind.__dataclass_fields__
        return Page(
            tuple(
                kind(**{name: value for name, value in row.items() if name in columns})
                for row in rows
                if row["position"] is not None
            ),
            total,
        )

    async def find(self, kind: type[AnyResource], guid: str, caller: Caller) -> AnyResource | None:
        """The resource, or None when it does not exist or `caller` may not see it."""
        page = await self.list_page(kind, caller, filters={"guids": [guid]}, order_by="created_at", offset=0, limit=1)
        return page.resources[0] if page.resources else None
