"""The operations as their steps see them: where the broker has the resource, and what else to ask once it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from shared.states import Operation

if TYPE_CHECKING:
    from shared.records import Claim, Json


@dataclass(frozen=True, slots=True)
class BrokerResource:
    """A kind of sub-resource of an instance at the broker, made by PUT and polled at its own `last_operation`."""

    noun: str
    collection: str
    has_facts: bool  #: whether GET of it tells more about a finished one

    def path(self, claim: Claim) -> str:
        """Where the broker has the resource of `claim`, percent-encoded."""
        instance = quote(claim.service_instance_guid, safe="")
        return f"/v2/service_instances/{instance}/{self.collection}/{claim.resource_guid}"


RESOURCE_OF: Final = {
    Operation.CREATE_BACKUP: BrokerResource("backup", "backups", has_facts=True),
    Operation.RESTORE: BrokerResource("restore", "restores", has_facts=False),
}


def read_facts(body: Json) -> Json:
    """What we keep of a finished backup: `size_bytes`, and `expires_at` in Unix seconds; wrong types are left out."""
    return {
        name: value
        for name in ("size_bytes", "expires_at")
        if isinstance(value := body.get(name), int) and not isinstance(value, bool) and 0 <= value < 1 << 53
    }
