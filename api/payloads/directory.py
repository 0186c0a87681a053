"""What the queries of the directory's lists share: filters that are lists of values, and the order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from api.payloads.pages import Order, PageQuery, Values

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_FILTERS: Final = {"page", "per_page", "order_by"}


class ResourcesQuery(PageQuery):
    """Which resources, in which order. Every field of a subclass is a filter."""

    guids: Annotated[Values, Field(description="Only those with one of these guids.")] = ()
    order_by: Order = "created_at"

    def filters(self) -> Mapping[str, tuple[str, ...]]:
        """The filters that were given, each with the values that it allows."""
        return {name: values for name, values in self if values and name not in _NO_FILTERS}


class NamedResourcesQuery(ResourcesQuery):
    """The same of what has a name."""

    names: Annotated[Values, Field(description="Only those with one of these names.")] = ()
