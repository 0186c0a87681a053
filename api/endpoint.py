"""One operation of the API as data: its route, what it takes, what it answers, and the handler that does it.

Routing, reading of query and body, and `/openapi.json` are all made from this, so that none can drift from the others.
To add an operation: write the handler in the module of its noun, put `@endpoint(…)` on it, and name it in `routes.py`.
Its docstring is what readers of the document see.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from api.context import CONTEXT
from api.payloads.body import check_size, read_body, receive
from api.payloads.query import NoQuery, Query, read_query
from shared.cf_errors import CfError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pydantic import BaseModel

    # Any: a handler takes the request and then the query and the body, if it has them; a test compares the names.
    Handler = Callable[..., Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that is no error."""

    text: str  #: what it means, for the document
    body: Any = None  # Any: the TypedDict of a presenter, or another type that pydantic makes a schema of
    headers: Mapping[str, str] | None = None  #: with what they mean
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Header:
    """A request header that the operation heeds."""

    name: str
    text: str
    pattern: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One operation. `name` is its title; for what Broadcom publishes, the published one."""

    method: str
    path: str
    name: str
    text: str
    handler: Handler
    query: type[Query] | None  #: None: the query is not looked at
    body: type[BaseModel] | None
    headers: tuple[Header, ...]
    answers: Mapping[int, Answer]
    errors: frozenset[CfError]  #: those that it can answer beyond the common ones
    is_public: bool  #: answered without a token
    scopes: frozenset[str]  #: any of these opens it, too, to a token that may not read or write in general

    @property
    def noun(self) -> str:
        """What it is about: the module of its handler."""
        return self.handler.__module__.rpartition(".")[2]

    @property
    def operation_id(self) -> str:
        """The title in camel case."""
        first, *others = _WORD.findall(self.name)
        return "".join([first.lower(), *(word[0].upper() + word[1:] for word in others)])

    def all_errors(self) -> frozenset[CfError]:
        """Every error that it can answer."""
        found = self.errors | ALWAYS
        if not self.is_public:
            found |= WITH_TOKEN
        if self.query is not None:
            found |= {CfError.BAD_QUERY_PARAMETER}
        if self.body is not None:
            found |= {CfError.MESSAGE_PARSE_ERROR, CfError.UNPROCESSABLE_ENTITY}
        return found

    def route(self) -> web.RouteDef:
        """The route, whose handler is given what it takes; wrong input is answered before it is called."""

        async def handle(request: web.Request) -> web.StreamResponse:
            check_size(request)
            inputs: list[object] = []
            if self.query is not None:
                query = read_query(request, self.query)
                if self.query is not NoQuery:
                    inputs.append(query)
            if self.method != "GET":
                # Also where no body is documented, so that one that is late or broken never follows an answer of 202.
                await receive(request, timeout_s=request.app[CONTEXT].settings.request_body_timeout_s)
            if self.body is not None:
                inputs.append(await read_body(request, self.body))
            return await self.handler(request, *inputs)

        if self.method == "GET":
            return web.get(self.path, handle)
        return web.route(self.method, self.path, handle)


_WORD: Final = re.compile(r"[A-Za-z0-9]+")

#: What any request can be answered with, whatever it asks for.
ALWAYS: Final = frozenset({CfError.BAD_REQUEST, CfError.UNKNOWN})
WITH_TOKEN: Final = frozenset(
    {
        CfError.NOT_AUTHENTICATED,
        CfError.INVALID_AUTH_TOKEN,
        CfError.NOT_AUTHORIZED,
        CfError.RATE_LIMIT_EXCEEDED,
        CfError.IP_BASED_RATE_LIMIT_EXCEEDED,
        CfError.UAA_UNAVAILABLE,
        CfError.UAA_RATE_LIMITED,
        CfError.SERVICE_UNAVAILABLE,
        CfError.DATABASE_ERROR,
    }
)
#: What looking for one thing adds.
FINDING: Final = (CfError.RESOURCE_NOT_FOUND,)
#: What writing to a service instance adds to that.
WRITING: Final = (
    *FINDING,
    CfError.ORG_SUSPENDED,
    CfError.SPACE_SUSPENDED,
    CfError.RESOURCE_BEING_DELETED,
    CfError.UNPROCESSABLE_ENTITY,
)


def endpoint(
    method: str,
    path: str,
    name: str,
    *,
    answers: Mapping[int, Answer],
    query: type[Query] | None = NoQuery,
    body: type[BaseModel] | None = None,
    headers: tuple[Header, ...] = (),
    errors: tuple[CfError, ...] = (),
    is_public: bool = False,
    scopes: frozenset[str] = frozenset(),
) -> Callable[[Handler], Endpoint]:
    """Make an operation of a handler."""

    def decorate(handler: Handler) -> Endpoint:
        return Endpoint(
            method=method,
            path=path,
            name=name,
            text=inspect.cleandoc(handler.__doc__ or ""),
            handler=handler,
            query=query,
            body=body,
            headers=headers,
            answers=answers,
            errors=frozenset(errors),
            is_public=is_public,
            scopes=scopes,
        )

    return decorate
