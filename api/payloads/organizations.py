"""The query of `GET /v3/organizations`."""

from __future__ import annotations

from api.payloads.directory import NamedResourcesQuery


class OrganizationsQuery(NamedResourcesQuery):
    """Which organizations to list."""
