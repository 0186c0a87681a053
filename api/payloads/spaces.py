"""The query of `GET /v3/spaces`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.payloads.directory import NamedResourcesQuery
from api.payloads.pages import Values


class SpacesQuery(NamedResourcesQuery):
    """Which spaces to list."""

    organization_guids: Annotated[Values, Field(description="Only those in one of these organizations.")] = ()
