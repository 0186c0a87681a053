"""Who and what the local stack consists of: guids, names and secrets that stay the same while its data is kept."""

from __future__ import annotations

import json
import secrets
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from shared.security.secrets import generate_key

if TYPE_CHECKING:
    from pathlib import Path


def _guid() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Identity:
    """Made once for a directory of data and then read back."""

    organization_guid: str = field(default_factory=_guid)
    space_guid: str = field(default_factory=_guid)
    instance_guid: str = field(default_factory=_guid)
    instance_name: str = "orders-db"
    binding_guid: str = field(default_factory=_guid)
    developer_guid: str = field(default_factory=_guid)
    admin_guid: str = field(default_factory=_guid)
    broker_username: str = "safekeep"
    broker_password: str = field(default_factory=lambda: secrets.token_hex(16))
    secret_key: str = field(default_factory=generate_key)
    token_key: str = field(default_factory=lambda: secrets.token_hex(32))


def load_identity(directory: Path) -> Identity:
    """The identity kept in `directory`, made if there is none; only its owner can read the file."""
    file = directory / "identity.json"
    if file.exists():
        return Identity(**json.loads(file.read_text(encoding="utf-8")))
    identity = Identity()
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(identity), indent=2), encoding="utf-8")
    return identity
