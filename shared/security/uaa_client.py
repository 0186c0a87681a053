"""The HTTP client for UAA: its keys and its issuer. Calls are bounded in time and size; what comes is not trusted."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import RSAAlgorithm

from shared.errors import UaaRateLimitedError, UaaUnavailableError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from types import TracebackType

    from shared.records import Json

_log = get_logger(__name__)

BODY_BYTES_MAX: Final = 256 * 1024
KEYS_MAX: Final = 10  # each is tried on a token that none fits, which takes up to half a millisecond
KEY_BITS_MIN: Final = 2048  # RFC 7518 3.3
KEY_BITS_MAX: Final = 8192  # verifying takes time with the square of it
ISSUER_LENGTH_MAX: Final = 2048


class UaaClient:
    """Asks the UAA at `url`, each time for at most `timeout_s` seconds. Use it with `async with`."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # A connection that is kept for half a minute is one that somebody in between has forgotten.
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `_ask` bounds the whole call
            auto_decompress=False,  # a few bytes can inflate to any size
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def fetch_keys(self) -> tuple[RSAPublicKey, ...]:
        """The RSA keys of `GET /token_keys`, at least one; those of other kinds, and broken ones, are passed over.

        Raises UaaUnavailableError, UaaRateLimitedError.
        """
        document = await self._ask("/token_keys")
        entries = document.get("keys")
        keys = [_rsa_key(entry) for entry in entries] if isinstance(entries, list) else []
        used = tuple(key for key in keys if key is not None)[:KEYS_MAX]
        if not used or len(used) < len(keys):
            _log.warning("keys of UAA are passed over", keys=len(keys), used=len(used))
        if not used:
            raise UaaUnavailableError
        return used

    async def fetch_issuer(self) -> str:
        """The `issuer` of `GET /.well-known/openid-configuration`. Raises UaaUnavailableError, UaaRateLimitedError."""
        issuer = (await self._ask("/.well-known/openid-configuration")).get("issuer")
        if not isinstance(issuer, str) or not 0 < len(issuer) <= ISSUER_LENGTH_MAX:
            _log.warning("UAA names no issuer that could be one")
            raise UaaUnavailableError
        return issuer

    async def _ask(self, path: str) -> Json:
        """The JSON object at `path`; a redirect, or anything else, is as good as no answer."""
        if self._session is None:
            raise RuntimeError("the client is used outside its `async with`")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.get(self._url + path, headers=headers, allow_redirects=False) as response,
            ):
                if response.status == HTTPStatus.TOO_MANY_REQUESTS:
                    _log.warning("UAA has too many requests", path=path)
                    raise UaaRateLimitedError
                if response.status != HTTPStatus.OK:
                    raise _NonsenseError(f"it answered {response.status}")
                return _json_object(await _read(response))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            _log.warning("UAA does not answer as it should", path=path, error=str(error) or type(error).__name__)
            raise UaaUnavailableError from error


class _NonsenseError(ValueError):
    """An answer that is of no use."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 14):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise _NonsenseError("its answer is too large")
    return bytes(body)


def _json_object(body: bytes) -> Json:
    try:
        document = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _NonsenseError("its answer is no JSON object")
    return document


def _rsa_key(entry: object) -> RSAPublicKey | None:
    """The key of an entry: UAA gives it as PEM in `value`, and as the numbers of RFC 7518 6.3.1."""
    if not isinstance(entry, dict) or entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig":
        return None
    try:
        if isinstance(entry.get("value"), str):
            key: object = load_pem_public_key(entry["value"].encode())
        else:
            key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": entry.get("n"), "e": entry.get("e")})
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        return None
    is_usable = isinstance(key, RSAPublicKey) and KEY_BITS_MIN <= key.key_size <= KEY_BITS_MAX
    return key if is_usable and isinstance(key, RSAPublicKey) else None
