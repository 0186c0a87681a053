"""The HTTP client for service brokers: one bounded call, its headers, and an answer or the reason for none.

What an answer means for a job is decided in `outcome.py`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from shared.errors import SafekeepError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from shared.records import BrokerAddress, Json
    from shared.security.secrets import Sealer
    from shared.settings import Settings

API_VERSION: Final = "2.17"
BODY_BYTES_MAX: Final = 1 << 20


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


class BrokerClient:
    """Calls brokers, with connections kept per broker. Use it with `async with`, on the loop that makes the calls."""

    def __init__(self, settings: Settings, sealer: Sealer) -> None:
        self._sealer = sealer
        self._timeout_s = settings.broker_timeout_s
        # Cloud Foundry sends its own address without a scheme.
        self._api_info = settings.external_url.partition("://")[2] + "/"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
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
        password = self._sealer.open(broker.password_sealed)
        headers = _headers(origin) | {"X-Api-Info-Location": self._api_info}
        headers["Authorization"] = aiohttp.encode_basic_auth(broker.username, password)
        if body is not None:
            headers["Content-Type"] = "application/json"
        return await self._send(method, broker.url.rstrip("/") + path, query or {}, headers, body)

    async def fetch_catalog(self, url: str, username: str, password: str) -> Answer:
        """`GET /v2/catalog` of a broker that is not stored yet. Raises NotReceivedError, UnclearError."""
        headers = {
            "X-Broker-API-Version": API_VERSION,
            "Accept": "application/json",
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
        started = time.monotonic()
        try:
            async with self._session.request(
                method, URL(url, encoded=True), data=data, headers=headers, allow_redirects=False
            ) as response:
                return Answer(
                    response.status,
                    _json_object(await _read(response)),
                    _retry_after_s(response.headers.get("Retry-After")),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise NotReceivedError(f"could not be reached: {_reason(error)}") from error
        except TimeoutError as error:
            raise UnclearError(f"did not answer within {time.monotonic() - started:.0f} s") from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise UnclearError(f"broke off its answer: {_reason(error)}") from error


def _headers(origin: Origin) -> dict[str, str]:
    headers = {
        "X-Broker-API-Version": API_VERSION,
        "X-Broker-API-Request-Identity": origin.job_guid,
        "X-VCAP-Request-ID": origin.request_id,
        "Accept": "application/json",
    }
    if origin.user_guid is not None:
        identity = base64.b64encode(json.dumps({"user_id": origin.user_guid}).encode()).decode()
        headers["X-Broker-API-Originating-Identity"] = f"cloudfoundry {identity}"
    if origin.traceparent is not None:
        headers["traceparent"] = origin.traceparent
    return headers


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
    try:
        body = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _retry_after_s(value: str | None) -> float | None:
    """Seconds from a `Retry-After` in either of its forms (RFC 9110 10.2.3); None for anything else."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _reason(error: BaseException) -> str:
    """A short cause; never the whole text of the library, which may hold the URL."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return str(text).splitlines()[0][:200]
