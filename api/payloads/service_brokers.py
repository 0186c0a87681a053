"""The query of `GET /v3/service_brokers`."""

from __future__ import annotations

from api.payloads.directory import NamedResourcesQuery


class ServiceBrokersQuery(NamedResourcesQuery):
    """Which service brokers to list."""
