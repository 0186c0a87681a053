"""The operations as their steps see them: where the broker has the resource, how it is asked, what answers mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from shared.states import Operation
from worker.broker.outcome import of_delete, of_delete_poll, of_poll, of_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.records import Claim, Json
    from worker.broker.client import Answer, NotReceivedError, UnclearError
    from worker.broker.outcome import Outcome

    Read = Callable[[str, Answer | NotReceivedError | UnclearError], Outcome]


@dataclass(frozen=True, slots=True)
class BrokerOperation:
    """What is done at the broker with a sub-resource of an instance, and polled at its own `last_operation`."""

    collection: str
    method: str
    read_start: Read
    read_poll: Read
    has_facts: bool = False  #: whether GET of the resource tells more about a finished one

    def path(self, claim: Claim) -> str:
        """Where the broker has the resource of `claim`, percent-encoded."""
        instance = quote(claim.service_instance_guid, safe="")
        return f"/v2/service_instances/{instance}/{self.collection}/{claim.resource_guid}"


#: 9999-12-31 in Unix seconds: what calendars end with, PostgreSQL's driver among them.
_END_OF_TIME: Final = 253_402_300_800

AT_BROKER: Final = {
    Operation.CREATE_BACKUP: BrokerOperation("backups", "PUT", of_start, of_poll, has_facts=True),
    Operation.RESTORE: BrokerOperation("restores", "PUT", of_start, of_poll),
    Operation.DELETE_BACKUP: BrokerOperation("backups", "DELETE", of_delete, of_delete_poll),
    Operation.CLEAN_UP_BACKUP: BrokerOperation("backups", "DELETE", of_delete, of_delete_poll),
    Operation.CLEAN_UP_RESTORE: BrokerOperation("restores", "DELETE", of_delete, of_delete_poll),
}


def read_facts(body: Json) -> Json:
    """What we keep of a finished backup: `size_bytes`, and `expires_at` in Unix seconds; wrong values are left out."""
    return {
        name: value
        for name, limit in (("size_bytes", 1 << 53), ("expires_at", _END_OF_TIME))
        if isinstance(value := body.get(name), int) and not isinstance(value, bool) and 0 <= value < limit
    }
