"""Requests as a person would send them: each printed as a curl line, with its answer."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from deploy.local.errors import LocalStackError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

TIMEOUT_S: Final = 30
SHOWN_HEADERS: Final = ("Location", "Retry-After")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: status, headers, text."""

    status: int
    reason: str
    headers: Message
    text: str

    @property
    def json(self) -> Any:  # Any: JSON
        """The body as JSON."""
        return json.loads(self.text)


def curl(method: str, url: str, body: Mapping[str, Any] | None = None) -> str:
    """The curl line for a request, with the token in `$TOKEN`."""
    words = ["curl", "-i"] + (["-X", method] if method != "GET" else [])
    line = shlex.join(words) + ' -H "Authorization: bearer $TOKEN"'
    if body is not None:
        line += " -H 'Content-Type: application/json' -d " + shlex.quote(json.dumps(body))
    return f"{line} {shlex.quote(url)}"


class Http:
    """Sends requests with one bearer token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def send(
        self, method: str, url: str, body: Mapping[str, Any] | None = None, *, expect: int, is_quiet: bool = False
    ) -> Response:
        """Send a request and print it with its answer. Raises LocalStackError unless the status is `expect`."""
        headers = {"Authorization": f"bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(url, method=method, data=data, headers=headers)  # noqa: S310 - URLs of our own stack
        if not is_quiet:
            print(f"  $ {curl(method, url, body)}", flush=True)
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
                response = Response(answer.status, answer.reason, answer.headers, answer.read().decode())
        except HTTPError as error:
            response = Response(error.code, error.reason, error.headers, error.read().decode())
        except (URLError, OSError) as error:
            raise LocalStackError(f"{method} {url} was not answered: {error}") from error
        if not is_quiet:
            print(f"    {response.status} {response.reason}")
            for name in SHOWN_HEADERS:
                if value := response.headers.get(name):
                    print(f"    {name}: {value}")
            if response.text:
                print(f"    {response.text}")
        if response.status != expect:
            raise LocalStackError(f"{method} {url} was answered with {response.status}, not {expect}: {response.text}")
        return response
