"""The query of `GET /v3/roles`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.payloads.directory import ResourcesQuery
from api.payloads.pages import OrderByTime, Values


class RolesQuery(ResourcesQuery):
    """Which roles to list. They have no name to be ordered by."""

    order_by: OrderByTime = "created_at"
    types: Annotated[Values, Field(description="Only these, such as `space_developer`.")] = ()
    user_guids: Annotated[Values, Field(description="Only those of these users.")] = ()
    space_guids: Annotated[Values, Field(description="Only those in one of these spaces.")] = ()
    organization_guids: Annotated[Values, Field(description="Only those in one of these organizations.")] = ()
