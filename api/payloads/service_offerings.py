"""The query of `GET /v3/service_offerings`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.payloads.directory import NamedResourcesQuery
from api.payloads.pages import Values


class ServiceOfferingsQuery(NamedResourcesQuery):
    """Which service offerings to list."""

    service_broker_guids: Annotated[Values, Field(description="Only those of one of these service brokers.")] = ()
    service_broker_names: Annotated[Values, Field(description="Only those of one of these service brokers.")] = ()
    space_guids: Annotated[Values, Field(description="Only those with an instance in one of these spaces.")] = ()
    organization_guids: Annotated[
        Values, Field(description="Only those with an instance in one of these organizations.")
    ] = ()
