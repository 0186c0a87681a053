"""The query of `GET /v3/service_instances/{guid}/backups`, with the parameter that Broadcom publishes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.payloads.query import Between, Query


class BackupsQuery(Query):
    """How many backups to list."""

    limit: Annotated[int, Between("Limit", 1, 1000), Field(description="Maximum number of backups to return.")] = 50
