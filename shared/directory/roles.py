"""What each role may do to the service instances of its space or organization, as Cloud Foundry has it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.security.tokens import Caller


class Access(Enum):
    """How much of an instance a caller may use; each includes the one before it."""

    NONE = 0
    READ = 1
    WRITE = 2


ACCESS_OF_ROLE: Final = {
    "space_developer": Access.WRITE,
    "space_manager": Access.READ,
    "space_auditor": Access.READ,
    "space_supporter": Access.READ,
    "organization_manager": Access.READ,
    "organization_auditor": Access.NONE,
    "organization_billing_manager": Access.NONE,
    "organization_user": Access.NONE,
}


def access_of(caller: Caller, roles: Iterable[str]) -> Access:
    """The access that `caller` has to an instance, holding `roles` in its space and organization."""
    if caller.is_admin:
        return Access.WRITE
    access = [ACCESS_OF_ROLE[role] for role in roles]
    if caller.sees_everything:
        access.append(Access.READ)
    return max(access, key=lambda level: level.value, default=Access.NONE)
