"""The body of `POST /v3/service_instances/{guid}/actions/restore`, with the fields that Broadcom publishes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from shared.errors import UnprocessableEntityError
from shared.records import Json, RestorePoint

ShortText = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]*$")]


class RestorePayload(BaseModel):
    """What to restore. At least one of the first three fields must be given: a restore overwrites data."""

    model_config = ConfigDict(
        extra="forbid",
        defer_build=True,
        json_schema_extra={"examples": [{"backup_id": "6a3f1c1e-0d0b-4c57-9d6e-1f0a3c1b2d4e"}]},
    )

    backup_id: ShortText | None = Field(None, description="a backup's id, as listed")
    target_timestamp: datetime | None = Field(None, description="the moment to go back to, with its offset from UTC")
    restore_point: ShortText | None = Field(None, description="a point that the service broker knows, such as `pitr`")
    source_service_instance_guid: ShortText | None = Field(None, description="the instance whose backup it is")

    @field_validator("target_timestamp", mode="before")
    @classmethod
    def _is_date_time(cls, value: object) -> object:
        if value is None:
            return None
        if isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is not None and "T" in value.upper():
                    # The database knows fewer offsets, and no moment before or after our calendar.
                    return moment.astimezone(UTC)
            except (ValueError, OverflowError):
                pass  # of another form, or no moment that there is
        raise ValueError("must be a date-time of RFC 3339, such as 2026-11-23T12:00:00Z")

    def features(self) -> tuple[str, ...]:
        """The features that the plan must have for this restore."""
        features = ["restore"]
        if self.target_timestamp is not None or self.restore_point is not None:
            features.append("restore.pitr")
        if self.source_service_instance_guid is not None:
            features.append("restore.cross_instance")
        return tuple(features)

    def to_restore_point(self) -> RestorePoint:
        """The restore point as it is stored. Raises UnprocessableEntityError when the body names none."""
        if self.backup_id is None and self.target_timestamp is None and self.restore_point is None:
            raise UnprocessableEntityError("One of backup_id, target_timestamp and restore_point must be given.")
        return RestorePoint(**dict(self))

    def to_broker_fields(self) -> Json:
        """What is added to the broker's request: the same fields, of which the instance has the broker's name."""
        fields = self.model_dump(mode="json", exclude_none=True)
        if "source_service_instance_guid" in fields:
            fields["source_instance_id"] = fields.pop("source_service_instance_guid")
        return fields
