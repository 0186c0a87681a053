"""Tokens of callers: who they are and what their token allows, in the claims that UAA uses.

This module reads claims, and has the development signer (HS256, a key from settings), which stands in for UAA on a
developer's computer and is refused elsewhere. UAA's own tokens are verified in `uaa.py`. What a caller may do to an
instance is decided by the directory's roles, not here.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Final, Self, TypeGuard

import jwt

from shared.errors import InvalidAuthTokenError, SettingsError
from shared.security.callers import Caller
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
