"""Tokens of callers: who they are and what their token allows, in the claims that UAA uses.

This module has the development signer (HS256, a key from settings), which stands in for UAA on a developer's computer
and is refused elsewhere. What a caller may do to an instance is decided by the directory's roles, not here.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import jwt

from shared.errors import InvalidAuthTokenError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.settings import Settings

ISSUER: Final = "safekeep-development"
ALGORITHM: Final = "HS256"
REFRESH_TOKEN_MARK: Final = "-r"  # noqa: S105 - not a password: UAA ends the jti of refresh tokens with it
KEY_LENGTH_MIN: Final = 32  # RFC 7518 3.2: an HS256 key has at least 256 bits

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
    """Turns a bearer token into a caller."""

    async def verify(self, token: str) -> Caller:
        """The caller that `token` speaks for. Raises InvalidAuthTokenError."""
        ...


class DevelopmentTokens:
    """Signs and verifies tokens with one key from settings, in development only.

    Raises SettingsError outside development, or when the key is missing or too short.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.environment != "development":
            raise SettingsError(
                "SAFEKEEP_ENVIRONMENT: tokens signed by ourselves are for development only, "
                "and this version cannot verify UAA's yet"
            )
        key = settings.token_key.get_secret_value() if settings.token_key else ""
        if len(key.encode()) < KEY_LENGTH_MIN:
            raise SettingsError(f"SAFEKEEP_TOKEN_KEY: must be set, to at least {KEY_LENGTH_MIN} characters")
        self._key = key
        self._audience = settings.token_audience

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

    async def verify(self, token: str) -> Caller:
        """The caller that `token` speaks for. Raises InvalidAuthTokenError whatever is wrong with it."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=ISSUER,
                options={"require": ["exp", "aud", "iss", "jti"], "verify_iat": False, "verify_nbf": False},
            )
        except jwt.InvalidTokenError as error:
            raise InvalidAuthTokenError from error
        user_guid = claims.get("user_id") or claims.get("client_id")
        scopes = claims.get("scope")
        if (
            str(claims["jti"]).endswith(REFRESH_TOKEN_MARK)
            or not isinstance(user_guid, str)
            or not isinstance(scopes, list)
        ):
            raise InvalidAuthTokenError
        return Caller(user_guid, str(claims.get("user_name") or user_guid), frozenset(map(str, scopes)))
