"""What brokers published in their catalogs, of which only ids and names were checked: read with care, never as it is.

A catalog may hold secrets, such as those of a dashboard client, so that nothing is passed on but what is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.records import Json


class BackupSupportJson(TypedDict):
    """Safekeep's own addition: whether there are backups, and in words why not."""

    supported: bool
    features: Annotated[
        list[str], Field(description="Such as `backup`, `restore`, `restore.pitr`, `restore.cross_instance`.")
    ]
    reason: Annotated[str | None, Field(description="Why there are no backups; null when there are.")]


def present_backup_support(features: Collection[str], reason: str) -> BackupSupportJson:
    """The support that the stored `features` give; `reason` is told only when there is none."""
    is_supported = "backup" in features
    return {
        "supported": is_supported,
        "features": sorted(features) if is_supported else [],
        "reason": None if is_supported else reason,
    }


def text_of(published: Json, key: str) -> str:
    """The text that stands there, or an empty one."""
    value = published.get(key)
    return value if isinstance(value, str) else ""


def texts_of(published: Json, key: str) -> list[str]:
    """The texts in the list that stands there."""
    value = published.get(key)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def object_of(published: Json, key: str) -> Json:
    """The object that stands there, or an empty one."""
    value = published.get(key)
    return value if isinstance(value, dict) else {}


def flag_of(published: Json, key: str, *, default: bool) -> bool:
    """The truth value that stands there, or what OSB says when there is none."""
    value = published.get(key)
    return value if isinstance(value, bool) else default
