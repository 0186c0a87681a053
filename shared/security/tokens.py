"""Tokens of callers: who they are and what their token allows, in the claims that UAA uses.

This module reads claims, and has the development signer (HS256, a key from settings), which stands in for UAA on a
developer's computer and is refused elsewhere. UAA's own tokens are verified in `uaa.py`. What a caller may do to an
instance is decided by the directory's roles, not here.
"""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeGuard

import jwt

from shared.errors import InvalidAuthTokenError, SettingsError
from shared.security.jose import SECRET_LENGTH_MIN, check_form, open_token, read_claims
from shared.security.verified import VerifiedTokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from shared.settings import Settings

ISSUER: Final = "safekeep-development"
ALGORITHM: Final = "HS256"
REFRESH_TOKEN_MARK: Final = "-r"  # noqa: S105 - not a password: UAA ends the jti of refresh tokens with it
EXPIRY_S_MAX: Final = 253402300799  # the end of the year 9999, after which dates cannot be written down
NAME_LENGTH_MAX: Final = 255

ADMIN_SCOPES: Final = ("cloud_controller.admin", "cloud_controller.read", "cloud_controller.write")
USER_SCOPES: Final = ("cloud_controller.read", "cloud_controller.write")
READING_SCOPES: Final = frozenset(
    {
        "cloud_controller.read",
        "cloud_controller.admin",
        "cloud_controller.admin_read_only",
        "cloud_controller.global_auditor",
    }
)
GLOBAL_READING_SCOPES: Final = READING_SCOPES - {"cloud_controller.read"}
WRITING_SCOPES: Final = frozenset({"cloud_controller.write", "cloud_controller.admin"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `user_guid` is the token's `user_id`, or its `client_id` where no person is behind it."""

    user_guid: str
    user_name: str
    scopes: frozenset[str]
    #: When the token ends, in seconds since 1970. Who somebody is does not depend on it.
    expires_at_s: float = field(default=math.inf, compare=False)

    @property
    def is_admin(self) -> bool:
        """Whether every instance may be read and written."""
        return "cloud_controller.admin" in self.scopes

    @property
    def sees_everything(self) -> bool:
        """Whether every instance may be read, whatever the roles say."""
        return not self.scopes.isdisjoint(GLOBAL_READING_SCOPES)

    @property
    def may_read(self) -> bool:
        """Whether the token allows reading at all."""
        return not self.scopes.isdisjoint(READING_SCOPES)

    @property
    def may_write(self) -> bool:
        """Whether the token allows writing at all."""
        return not self.scopes.isdisjoint(WRITING_SCOPES)


class TokenVerifier(Protocol):
    """Turns a bearer token into a caller. Use it with `async with`, on the loop that verifies."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def verify(self, token: str) -> Caller:
        """The caller that `token` speaks for.

        Raises InvalidAuthTokenError whatever is wrong with the token, and UaaUnavailableError or UaaRateLimitedError
        when nobody can say whether anything is.
        """
        ...


def caller_of(claims: Mapping[str, Any], audience: str) -> Caller:  # Any: whatever JSON the signer put there
    """The caller that a token with these claims speaks for, by Cloud Foundry's rules; who issued it is left to others.

    `exp` is an integer later than now, without leeway; `aud` names `audience`; `jti` is there and not that of a refresh
    token. `nbf` and `iat` are not looked at. Raises InvalidAuthTokenError.
    """
    expiry_s, audiences, token_id = claims.get("exp"), claims.get("aud"), claims.get("jti")
    user_guid, scopes = claims.get("user_id"), claims.get("scope")
    if user_guid is None:
        user_guid = claims.get("client_id")
    if (
        type(expiry_s) is not int  # True is an int, too
        or not time.time() < expiry_s <= EXPIRY_S_MAX
        or audience not in ([audiences] if isinstance(audiences, str) else _strings(audiences))
        or not isinstance(token_id, str)
        or not token_id
        or token_id.endswith(REFRESH_TOKEN_MARK)
        or not _is_name(user_guid)
        or not isinstance(scopes, list)
        or not all(isinstance(scope, str) for scope in scopes)
    ):
        raise InvalidAuthTokenError
    user_name = claims.get("user_name")
    return Caller(user_guid, user_name if _is_name(user_name) else user_guid, frozenset(scopes), expiry_s)


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _is_name(value: object) -> TypeGuard[str]:
    """Whether `value` can be stored, logged and put into a header: no NUL, no line end, no half of a character."""
    return isinstance(value, str) and 0 < len(value) <= NAME_LENGTH_MAX and value.isprintable()


class DevelopmentTokens:
    """Signs and verifies tokens with one key from settings, in development only.

    Raises SettingsError outside development, or when the key is missing or too short.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.environment != "development":
            raise SettingsError("SAFEKEEP_ENVIRONMENT: tokens signed by ourselves are for development only")
        key = settings.token_key.get_secret_value() if settings.token_key else ""
        if len(key.encode()) < SECRET_LENGTH_MIN:
            raise SettingsError(f"SAFEKEEP_TOKEN_KEY: must be set, to at least {SECRET_LENGTH_MIN} characters")
        self._key = key
        self._audience = settings.token_audience
        self._verified = VerifiedTokens()

    def sign(self, user_guid: str, user_name: str, scopes: Sequence[str], lifetime_s: int) -> str:
        """A token for the user with these scopes, valid for `lifetime_s` seconds, with the claims of one from UAA."""
        now = int(time.time())
        claims = {
            "jti": uuid.uuid4().hex,
            "sub": user_guid,
            "user_id": user_guid,
            "user_name": user_name,
            "client_id": "cf",
            "grant_type": "password",
            "scope": list(scopes),
            "aud": [self._audience],
            "iss": ISSUER,
            "iat": now,
            "exp": now + lifetime_s,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def verify(self, token: str) -> Caller:
        """The caller that `token` speaks for. Raises InvalidAuthTokenError whatever is wrong with it."""
        if known := self._verified.find(token):
            return known
        check_form(token, [ALGORITHM])
        payload = open_token(token, [self._key], [ALGORITHM])
        if payload is None:
            raise InvalidAuthTokenError
        claims = read_claims(payload)
        if claims.get("iss") != ISSUER:
            raise InvalidAuthTokenError
        caller = caller_of(claims, self._audience)
        self._verified.keep(token, caller)
        return caller
