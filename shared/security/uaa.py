"""UAA's tokens: verified with its RSA keys, or with configured HMAC secrets, and held to its issuer.

Which of the two is decided by settings alone. Keys are fetched when they are needed, kept, and fetched again when they
are old or when a signature fits none of them; see `kept.py` for how seldom.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from shared.errors import InvalidAuthTokenError, SettingsError
from shared.security.jose import (
    HMAC_ALGORITHMS,
    RSA_ALGORITHMS,
    SECRET_LENGTH_MIN,
    check_form,
    is_secret,
    open_token,
    read_claims,
)
from shared.security.kept import Fixed, Kept
from shared.security.tokens import caller_of
from shared.security.uaa_client import UaaClient
from shared.security.verified import VerifiedTokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from shared.security.callers import Caller
    from shared.security.jose import Key
    from shared.security.kept import Source
    from shared.settings import Settings


class UaaTokens:
    """Verifies UAA's tokens by `settings`, which name a UAA, or secrets and an issuer. Raises SettingsError if not."""

    def __init__(self, settings: Settings) -> None:
        secrets = [secret.get_secret_value() for secret in settings.token_secrets]
        client = UaaClient(settings.uaa_url, settings.uaa_timeout_s) if settings.uaa_url else None
        self._client = client
        self._algorithms = HMAC_ALGORITHMS if secrets else RSA_ALGORITHMS
        self._audience = settings.token_audience
        self._stack = AsyncExitStack()
        self._keys = self._keys_from(secrets, settings)
        self._issuer = self._issuer_from(settings)
        self._verified = VerifiedTokens()

    async def __aenter__(self) -> Self:
        if self._client is not None:
            await self._stack.enter_async_context(self._client)
        for source in (self._keys, self._issuer):
            if isinstance(source, Kept):
                self._stack.push_async_callback(source.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def verify(self, token: str) -> Caller:
        """The caller that `token` speaks for, by the rules of Cloud Foundry's tokens.

        Raises InvalidAuthTokenError whatever is wrong with it; UaaUnavailableError or UaaRateLimitedError when UAA
        could not be asked for its keys or issuer, and none are kept from earlier.
        """
        # Only what was verified is found, and UAA is not asked before a token has the form of one.
        if self._verified.has(token):
            keys, issuer = await self._keys.current(), await self._issuer.current()
            if known := self._verified.find(token, keys.number, issuer.number):
                return known
        check_form(token, self._algorithms)
        payload, keys_number = await self._open(token)
        claims = read_claims(payload)
        caller = caller_of(claims, self._audience)
        issuer_number = await self._check_issuer(claims.get("iss"))
        self._verified.keep(token, caller, keys_number, issuer_number)
        return caller

    async def _open(self, token: str) -> tuple[bytes, int]:
        """The payload of a token that some key has signed, which may be one that UAA began to use just now.

        And the number of the keys that it is among.
        """
        keys = await self._keys.current()
        payload = open_token(token, keys.value, self._algorithms)
        if payload is None:
            newer = await self._keys.newer_than(keys)
            if newer is not None and newer.value != keys.value:
                keys = newer
                payload = open_token(token, keys.value, self._algorithms)
        if payload is None:
            raise InvalidAuthTokenError
        return payload, keys.number

    async def _check_issuer(self, issuer: object) -> int:
        """Raise InvalidAuthTokenError unless `issuer` is UAA's, which may have been given another one meanwhile.

        The number of the issuer that it is.
        """
        known = await self._issuer.current()
        if issuer != known.value:
            newer = await self._issuer.newer_than(known)
            if newer is None or issuer != newer.value:
                raise InvalidAuthTokenError
            known = newer
        return known.number

    def _keys_from(self, secrets: Sequence[str], settings: Settings) -> Source[Sequence[Key]]:
        for number, secret in enumerate(secrets, start=1):
            if not is_secret(secret):
                raise SettingsError(
                    f"SAFEKEEP_TOKEN_SECRETS: secret {number} is shorter than {SECRET_LENGTH_MIN} characters, "
                    "or an asymmetric key"
                )
        if secrets:
            return Fixed(tuple(secrets))
        if self._client is None:
            raise SettingsError("SAFEKEEP_UAA_URL: is not set, and neither is SAFEKEEP_TOKEN_SECRETS")
        return Kept(self._client.fetch_keys, age_max_s=settings.uaa_keys_age_s, pause_s=settings.uaa_pause_s)

    def _issuer_from(self, settings: Settings) -> Source[str]:
        if settings.token_issuer is not None:
            return Fixed(settings.token_issuer)
        if self._client is None:
            raise SettingsError("SAFEKEEP_TOKEN_ISSUER: must be set, since there is no SAFEKEEP_UAA_URL to ask")
        return Kept(self._client.fetch_issuer, age_max_s=math.inf, pause_s=settings.uaa_pause_s)
