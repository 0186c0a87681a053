"""The query of `GET /v3/service_plans`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.payloads.directory import NamedResourcesQuery
from api.payloads.pages import Values


class ServicePlansQuery(NamedResourcesQuery):
    """Which service plans to list."""

    broker_catalog_ids: Annotated[
        Values, Field(description="Only those that their service brokers call by one of these ids.")
    ] = ()
    service_offering_guids: Annotated[Values, Field(description="Only those of one of these service offerings.")] = ()
    service_offering_names: Annotated[Values, Field(description="Only those of one of these service offerings.")] = ()
    service_broker_guids: Annotated[Values, Field(description="Only those of one of these service brokers.")] = ()
    service_broker_names: Annotated[Values, Field(description="Only those of one of these service brokers.")] = ()
    service_instance_guids: Annotated[Values, Field(description="Only those of one of these service instances.")] = ()
    space_guids: Annotated[Values, Field(description="Only those with an instance in one of these spaces.")] = ()
    organization_guids: Annotated[
        Values, Field(description="Only those with an instance in one of these organizations.")
    ] = ()
