"""Who may do what to a service instance: the one table of roles, scopes and closed places, as Cloud Foundry has it.

`tables.py` finds the roles that a caller has; refusing is left to the API.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.security.callers import Caller


class Access(IntEnum):
    """How much of an instance a caller may use; each level includes those before it."""

    NONE = 0  #: it looks as if it did not exist
    SEE = 1  #: the instance itself
    READ = 2  #: its backups, too
    WRITE = 3  #: starting operations on it


class RoleAccess(NamedTuple):
    """What a role gives: `own` where the instance lives, `shared` where it only is shared to."""

    own: Access
    shared: Access


ACCESS_OF_ROLE: Final = {
    "space_developer": RoleAccess(own=Access.WRITE, shared=Access.SEE),
    "space_manager": RoleAccess(own=Access.READ, shared=Access.SEE),
    "space_auditor": RoleAccess(own=Access.READ, shared=Access.SEE),
    "space_supporter": RoleAccess(own=Access.READ, shared=Access.SEE),
    "organization_manager": RoleAccess(own=Access.READ, shared=Access.SEE),
    "organization_auditor": RoleAccess(own=Access.NONE, shared=Access.NONE),
    "organization_billing_manager": RoleAccess(own=Access.NONE, shared=Access.NONE),
    "organization_user": RoleAccess(own=Access.NONE, shared=Access.NONE),
}

#: What a scope gives everywhere, without any role.
ACCESS_OF_SCOPE: Final = {
    "cloud_controller.admin": Access.WRITE,
    "cloud_controller.admin_read_only": Access.READ,
    "cloud_controller.global_auditor": Access.READ,
}


class Closure(Enum):
    """A place and its status, which keep those out who could write otherwise. Reading goes on."""

    ORGANIZATION_DELETING = ("organization", "deleting")
    SPACE_DELETING = ("space", "deleting")
    ORGANIZATION_SUSPENDED = ("organization", "suspended")
    SPACE_SUSPENDED = ("space", "suspended")


#: Whom a closed space does not keep out. Admins pass everywhere.
PASSES_CLOSED_SPACE: Final = "organization_manager"


def access_of(caller: Caller, *, own: Collection[str], shared: Collection[str]) -> Access:
    """The access of `caller` to an instance, holding the roles `own` where it lives and `shared` where it is shared to.

    Roles in a space's organization count as those in the space.
    """
    return max(
        chain(
            (ACCESS_OF_SCOPE[scope] for scope in caller.scopes if scope in ACCESS_OF_SCOPE),
            (ACCESS_OF_ROLE[role].own for role in own),
            (ACCESS_OF_ROLE[role].shared for role in shared),
        ),
        default=Access.NONE,
    )


def closure_of(caller: Caller, *, own: Collection[str], organization_status: str, space_status: str) -> Closure | None:
    """The first of `Closure` that keeps `caller`, who holds the roles `own` there, from writing in a place."""
    if caller.is_admin or organization_status == space_status == "active":
        return None
    statuses = {"organization": organization_status, "space": space_status}
    if PASSES_CLOSED_SPACE in own:
        del statuses["space"]
    return next((closure for closure in Closure if closure.value in statuses.items()), None)
