"""What the broker offers. `metadata.osmapi` is how an offering, or a plan in its place, says that it has backups."""

from __future__ import annotations

from typing import Final

from openbrokerapi.catalog import ServiceMetadata, ServicePlan, ServicePlanMetadata
from openbrokerapi.service_broker import Service

SERVICE_ID: Final = "5b6c9a0e-6a55-4f0e-9d3c-0f8f2a2f6b01"
SMALL_PLAN_ID: Final = "5b6c9a0e-6a55-4f0e-9d3c-0f8f2a2f6b02"
UNPROTECTED_PLAN_ID: Final = "5b6c9a0e-6a55-4f0e-9d3c-0f8f2a2f6b03"

POLLING_DURATION_MAX_S: Final = 7200
FEATURES: Final = ("backup", "backup.delete", "restore", "restore.cross_instance")


def catalog() -> Service:
    """The offering `postgres` with its plans; the features of `unprotected` replace those of the offering."""
    return Service(
        id=SERVICE_ID,
        name="postgres",
        description="A PostgreSQL database of your own, with backups",
        bindable=True,
        tags=["postgres", "sql"],
        metadata=ServiceMetadata(
            displayName="PostgreSQL",
            osmapi={
                "version": "1.0",
                "features": list(FEATURES),
                "maximum_polling_duration": POLLING_DURATION_MAX_S,
            },
        ),
        plans=[
            ServicePlan(
                id=SMALL_PLAN_ID,
                name="small",
                description="One database",
                maximum_polling_duration=POLLING_DURATION_MAX_S,
            ),
            ServicePlan(
                id=UNPROTECTED_PLAN_ID,
                name="unprotected",
                description="One database, without backups",
                metadata=ServicePlanMetadata(osmapi={"version": "1.0", "features": []}),
            ),
        ],
    )


def has_backups(plan_id: str) -> bool:
    """Whether instances of the plan can be backed up."""
    return plan_id == SMALL_PLAN_ID
