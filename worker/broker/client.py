"""The HTTP client for service brokers: one bounded call, its headers, and an answer or the reason for none.

What an answer means for a job is decided in `outcome.py`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import socket
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NoReturn, Self
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from shared.errors import SafekeepError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from shared.records import BrokerAddress, Json
    from shared.security.secrets import Sealer
    from shared.settings import Settings

API_VERSION: Final = "2.17"
BODY_BYTES_MAX: Final = 1 << 20
#: Headers that are kept, since making them costs more than a tenth of a call: of so many brokers, and of so many users.
BROKERS_MAX: Final = 1000
USERS_MAX: Final = 10_000
RETRY_AFTER_S_MAX: Final = 2.0**31  # RFC 9111 1.2.2: as good as for ever, and still a number to reckon with
_BAD_NAME: Final = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH


@dataclass(frozen=True, slots=True)
class Answer:
    """What a broker answered. `body` is None unless it was a JSON object of a bearable size."""

    status: int
    body: Json | None
    retry_after_s: float | None


class NotReceivedError(SafekeepError):
    """The broker certainly did not get the request: no connection, no such name, no TLS."""


class UnclearError(SafekeepError):
    """The broker may or may not have got the request: it took too long, or the connection broke."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """On whose behalf a call is made, for the headers that let a broker's log be joined with ours."""

    job_guid: str
    request_id: str
    traceparent: str | None
    user_guid: str | None  #: None for what no user asked for


@dataclass(slots=True)
class _Progress:
    """How far a call has come. Once it had a connection nobody knows any more what the broker got."""

    had_connection: bool = False


_progress: ContextVar[_Progress] = ContextVar("progress of the call")


class _Connector(aiohttp.TCPConnector):
    """Hands out no connection on which the broker spoke unasked: the next call would take that for its own answer."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        is_silent = False
        try:
            # What has arrived while nobody looked is seen by the loop in one turn and handed on in the next.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            is_silent = connection.protocol is not None and not connection.protocol.should_close
        finally:
            if not is_silent:
                connection.close()
        if not is_silent:
            # Nothing was sent, so aiohttp tries once more, with another connection.
            raise aiohttp.ServerDisconnectedError
        _progress.get().had_connection = True
        return connection


class BrokerClient:
    """Calls brokers, with connections kept per broker. Use it with `async with`, on the loop that makes the calls."""

    def __init__(self, settings: Settings, sealer: Sealer) -> None:
        self._sealer = sealer
        self._authorization = lru_cache(BROKERS_MAX)(self._authorize)
        self._timeout_s = settings.broker_timeout_s
        # Cloud Foundry sends its own address without a scheme.
        self._api_info = settings.external_url.partition("://")[2] + "/"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            # `_send` bounds the whole call; aiohttp's own total is rounded up and ends with the last byte.
            timeout=aiohttp.ClientTimeout(total=None),
            # A few bytes can inflate to any size, so nothing is inflated: a compressed body is no JSON.
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def call(
        self,
        broker: BrokerAddress,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: str | None = None,
        origin: Origin,
    ) -> Answer:
        """Make one call, bounded in time and size whatever the broker does; redirects are answers, not followed.

        `path` is already percent-encoded. Raises NotReceivedError, UnclearError, SecretsError.
        """
        headers = _headers(origin) | {"X-Api-Info-Location": self._api_info}
        headers["Authorization"] = self._authorization(broker.username, broker.password_sealed)
        if body is not None:
            headers["Content-Type"] = "application/json"
        return await self._send(method, broker.url.rstrip("/") + path, query or {}, headers, body)

    def _authorize(self, username: str, password_sealed: str) -> str:
        return aiohttp.encode_basic_auth(username, self._sealer.open(password_sealed))

    async def fetch_catalog(self, url: str, username: str, password: str) -> Answer:
        """`GET /v2/catalog` of a broker that is not stored yet. Raises NotReceivedError, UnclearError."""
        headers = {
            "X-Broker-API-Version": API_VERSION,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": aiohttp.encode_basic_auth(username, password),
        }
        return await self._send("GET", url.rstrip("/") + "/v2/catalog", {}, headers, None)

    async def _send(
        self, method: str, url: str, query: Mapping[str, str], headers: Mapping[str, str], body: str | None
    ) -> Answer:
        if self._session is None:
            raise RuntimeError("the client is used outside its `async with`")
        if query:
            url += "?" + urlencode(query, quote_via=quote)
        data = None if body is None else body.encode()
        progress = _Progress()
        _progress.set(progress)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.request(
                    method, URL(url, encoded=True), data=data, headers=headers, allow_redirects=False
                ) as response,
            ):
                return Answer(
                    response.status,
                    _json_object(await _read(response)),
                    _retry_after_s(response.headers.get("Retry-After")),
                )
        except TimeoutError as error:
            if progress.had_connection:
                raise UnclearError(f"did not answer within {self._timeout_s:g} s") from error
            raise NotReceivedError(f"could not be reached within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: a URL, or a name in it, that aiohttp cannot use.
            if progress.had_connection:
                raise UnclearError(_why_unclear(error)) from error
            raise NotReceivedError(f"could not be reached: {_why_not_reached(error)}") from error


def _headers(origin: Origin) -> dict[str, str]:
    headers = {
        "X-Broker-API-Version": API_VERSION,
        "X-Broker-API-Request-Identity": origin.job_guid,
        "X-VCAP-Request-ID": origin.request_id,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }
    if origin.user_guid is not None:
        headers["X-Broker-API-Originating-Identity"] = _identity(origin.user_guid)
    if origin.traceparent is not None:
        headers["traceparent"] = origin.traceparent
    return headers


@lru_cache(USERS_MAX)
def _identity(user_guid: str) -> str:
    return "cloudfoundry " + base64.b64encode(json.dumps({"user_id": user_guid}).encode()).decode()


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None when it is larger than we are willing to hold."""
    chunks = []
    size = 0
    async for chunk in response.content.iter_chunked(1 << 16):
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _json_object(raw: bytes | None) -> Json | None:
    """The JSON object that `raw` is, whatever its type was said to be; None for anything that can be read two ways."""
    try:
        # A byte order mark may be ignored (RFC 8259 8.1); other encodings than UTF-8 may not be sent.
        text = raw.decode("utf-8-sig") if raw else "null"
        body = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object, unless a name stands in it twice: RFC 8259 leaves open which of the values counts."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _refuse(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is no JSON")


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _retry_after_s(value: str | None) -> float | None:
    """Seconds from a `Retry-After` in either of its forms (RFC 9110 10.2.3); None for anything else."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value), RETRY_AFTER_S_MAX)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    pause_s = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(0.0, pause_s), RETRY_AFTER_S_MAX)


def _why_not_reached(error: BaseException) -> str:
    """A short cause in our own words: the library's hold addresses and names of its classes."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    match cause:
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before the request was sent"
        case ssl.SSLCertVerificationError():
            name = "it is for another name" if cause.verify_code in _BAD_NAME else cause.verify_message
            return f"its TLS certificate is not accepted: {name}"
        case ssl.SSLError():
            return "it does not speak TLS as it should"
        case socket.gaierror():
            return "its name does not resolve"
        case OSError():
            return _of_system(cause) or "the connection was closed before the request was sent"
        case _:
            return "its URL cannot be used"


def _why_unclear(error: BaseException) -> str:
    match error:
        case aiohttp.ClientResponseError():
            return "sent something that is not valid HTTP"
        case aiohttp.ClientPayloadError():
            return "broke off in the middle of its answer"
        case aiohttp.ServerDisconnectedError():
            return "closed the connection without an answer"
        case OSError():
            return f"broke off its answer: {_of_system(error) or 'the connection was lost'}"
        case _:
            return "broke off its answer"


def _of_system(error: OSError) -> str | None:
    """The operating system's words for `error`; its own may name the address."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else None
