"""The HTTP edge: what is answered below the application, where its middlewares do not reach.

A request that is no HTTP, or that does not arrive in time, gets the same JSON and the same request id as any other, and
no body that nobody reads is taken in for long. aiohttp's parser, its timers and its connections stay as they are; the
parts that are named with an underscore here are those that it offers no other way to.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiohttp import http_exceptions, web
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from api.middlewares.errors import present
from api.middlewares.request_id import REQUEST_ID_HEADER, new_request_id
from shared.errors import ApiError, BadRequestError, UnknownError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.settings import Settings

_log = get_logger(__name__)

NAME: Final = "Safekeep"
KEEPALIVE_S: Final = 75.0
#: After an answer, how long and how much of a body that nobody has read is still taken in and thrown away, so that the
#: client comes to read the answer; then the connection is closed.
LINGERING_S: Final = 2.0
UNREAD_BYTES_MAX: Final = 1024 * 1024


class Runner(web.AppRunner):
    """Serves an application of `create_app`. `settings` bound how long a client may take to send a request."""

    __slots__ = ("_head_timeout_s",)

    def __init__(self, app: web.Application, settings: Settings, **options: Any) -> None:  # Any: aiohttp's own
        bounds: dict[str, Any] = {
            "keepalive_timeout": KEEPALIVE_S,
            "lingering_time": LINGERING_S,
            "auto_decompress": False,  # no client of Cloud Foundry compresses requests, and a bomb is a small one
            "access_log": None,
        }
        super().__init__(app, **(bounds | options))
        self._head_timeout_s = settings.request_head_timeout_s

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            _answering(made.request_handler),
            head_timeout_s=self._head_timeout_s,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=asyncio.get_running_loop(),
            **made._kwargs,  # noqa: SLF001 - aiohttp has no other way to a protocol of one's own
        )


class _Server(web.Server):
    """Makes a protocol of ours for every connection."""

    def __init__(
        self, handler: Any, *, head_timeout_s: float, **options: Any
    ) -> None:  # Any: what aiohttp's own server takes
        super().__init__(handler, **options)
        self._head_timeout_s = head_timeout_s

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, head_timeout_s=self._head_timeout_s, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """One connection: the time for a request's head, and the answers to what is no request."""

    __slots__ = ("_has_begun", "_head_timeout_s", "_head_timer", "_unread_bytes")

    def __init__(self, manager: web.Server, *, head_timeout_s: float, **options: Any) -> None:  # Any: aiohttp's own
        super().__init__(manager, **options)
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._has_begun = False
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        count = self._request_count
        super().data_received(data)
        if self._request_count != count:
            self._stop_head_timer()
            self._unread_bytes = 0
        elif self._is_idle:
            self._has_begun = True
            if self._head_timer is None:
                self._start_head_timer()
        elif self._current_request is None:
            self._unread_bytes += len(data)
            if self._unread_bytes > UNREAD_BYTES_MAX and self.transport is not None:
                self.transport.pause_reading()  # until the connection ends

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        if self._unread_bytes <= UNREAD_BYTES_MAX:
            super().resume_reading(resume_parser)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the parser's words quote what was sent
    ) -> web.StreamResponse:
        """Answer what is no request, and, should the middlewares fail, whatever they let through."""
        if request._payload_writer.output_size > 0:  # noqa: SLF001 - as in the method that this replaces
            raise ConnectionError("an answer is under way and cannot be taken back")
        error: ApiError
        if isinstance(exc, http_exceptions.HttpProcessingError):
            error = BadRequestError(_reason(exc), status=status)
        else:
            _log.error("an error below the middlewares", exc_info=exc)
            error = UnknownError()
        response = _complete(request, present(error))
        response.force_close()
        return response

    @property
    def _is_idle(self) -> bool:
        """Whether the connection waits for a request."""
        return self._waiter is not None and not self._waiter.done()

    def _start_head_timer(self) -> None:
        self._head_timer = self._loop.call_later(self._head_timeout_s, self._end_of_patience)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer, self._has_begun = None, False

    def _end_of_patience(self) -> None:
        self._head_timer = None
        if not self._is_idle or self._waiter is None:
            return
        if not self._has_begun:
            # Opened ahead of need and never used: an answer would be taken for that to the first request.
            self.force_close()
            return
        late = _TooSlowError(message="the request's head did not arrive in time")
        self._messages.append((_ErrInfo(status=408, exc=late, message=late.message), EMPTY_PAYLOAD))
        self._waiter.set_result(None)


class _TooSlowError(http_exceptions.HttpProcessingError):
    """A request's head did not arrive in time."""


async def name_server(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Say in an answer that is about to begin who we are, and not, as aiohttp would, what we are made of."""
    response.headers["Server"] = NAME


def _complete(request: web.BaseRequest, response: web.Response) -> web.Response:
    """An answer for which the application sends no signals, with what those put on every other one."""
    response.headers[REQUEST_ID_HEADER] = new_request_id(request.headers)
    response.headers["Server"] = NAME
    return response


def _reason(error: http_exceptions.HttpProcessingError) -> str:
    """What is wrong, in words of ours."""
    return next((words for kind, words in _REASONS if isinstance(error, kind)), "it is not a valid HTTP request")


_REASONS: Final = (
    (_TooSlowError, "the request did not arrive in time"),
    (http_exceptions.LineTooLong, "the request line or a header is too long"),
    (http_exceptions.InvalidURLError, "the request target is not valid"),
    (http_exceptions.PayloadEncodingError, "the body is not framed as its headers say"),
    (http_exceptions.InvalidHeader, "a header is not valid"),
)


def _answering(
    handler: Callable[[Any], Awaitable[web.StreamResponse]],
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """`handler`, which is an application, without what it refuses before its middlewares are called."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "100-continue").lower() in {"100-continue", ""}:
            return await handler(request)
        return _complete(request, present(BadRequestError("of expectations, only 100-continue is known")))

    return handle
