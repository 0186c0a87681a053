"""The query of `GET /v3/service_instances`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

from api.payloads.directory import NamedResourcesQuery
from api.payloads.pages import Values, one_of

if TYPE_CHECKING:
    from collections.abc import Mapping


Type = Literal["managed", "user-provided"]


class ServiceInstancesQuery(NamedResourcesQuery):
    """Which service instances to list."""

    type: Annotated[
        Type | SkipJsonSchema[None],
        BeforeValidator(one_of("Type", Type)),
        Field(description="Only those that a service broker manages, or only the others."),
    ] = None
    service_plan_guids: Annotated[Values, Field(description="Only those of one of these plans.")] = ()
    service_plan_names: Annotated[Values, Field(description="Only those of one of these plans.")] = ()
    space_guids: Annotated[Values, Field(description="Only those in one of these spaces, or shared to it.")] = ()
    organization_guids: Annotated[
        Values, Field(description="Only those in a space of one of these organizations, or shared to it.")
    ] = ()

    def filters(self) -> Mapping[str, tuple[str, ...]]:
        """The filters that were given, of which the type is one of one value."""
        given = {name: values for name, values in super().filters().items() if name != "type"}
        return given | ({"types": (self.type,)} if self.type else {})
