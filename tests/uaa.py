"""A UAA over real HTTP: keys that can be rotated, tokens for users and clients, and the ways in which it can be away.

`Uaa` runs in the loop of a test; `uaa_in_thread` runs one for tests whose clients block.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

import jwt
from aiohttp import BasicAuth, web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from shared.security.tokens import USER_SCOPES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from types import TracebackType

AUDIENCES: Final = ("cloud_controller", "openid", "cf")


@lru_cache
def rsa_key(number: int) -> RSAPrivateKey:
    """The key of that number, made once in a run: it takes a while."""
    del number
    return generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(key: RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_entry(number: int) -> dict[str, Any]:
    """A key as UAA lists it: as PEM and as numbers."""
    key = rsa_key(number)
    numbers = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    pem = public_pem(key).decode()
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": f"key-{number}", "value": pem} | {
        name: numbers[name] for name in ("n", "e")
    }


@dataclass(frozen=True)
class Account:
    """Somebody who can log in."""

    guid: str
    password: str
    scopes: Sequence[str] = USER_SCOPES


@dataclass
class Uaa:
    """A UAA on a free port of the loopback interface.

    It signs with the first of `keys` and lists all of them. `trouble` answers instead of it, by path, and `asked`
    counts what was asked for, whoever answered. Tokens live for `lifetime_s` seconds.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    keys: tuple[int, ...] = (1,)
    extra_entries: list[Any] = field(default_factory=list)
    issuer: str = ""
    lifetime_s: int = 600
    trouble: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _port: int = 0
    _refresh_tokens: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        await self.listen()
        self.issuer = self.issuer or f"{self.url}/oauth/token"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_away()

    async def listen(self) -> None:
        """Answer, on the same port as before."""
        app = web.Application(middlewares=[self._note])
        app.add_routes(
            [
                web.get("/token_keys", self._token_keys),
                web.get("/.well-known/openid-configuration", self._discovery),
                web.post("/oauth/token", self._token),
                web.get("/elsewhere", self._token_keys),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def go_away(self) -> None:
        """Accept no connections any more, until `listen`."""
        await self._runner.cleanup()

    # ------------------------------------------------------------------ tokens

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good user token, with changes; what is changed to None is left out."""
        now = int(time.time())
        good: dict[str, Any] = {
            "jti": uuid.uuid4().hex,
            "sub": "u-1",
            "user_id": "u-1",
            "user_name": "ann",
            "client_id": "cf",
            "grant_type": "password",
            "scope": list(USER_SCOPES),
            "aud": list(AUDIENCES),
            "iss": self.issuer,
            "iat": now,
            "exp": now + self.lifetime_s,
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def sign(self, *, key: int | None = None, algorithm: str = "RS256", headers: Any = None, **changes: Any) -> str:
        """A token with these claims, by default of the key that UAA uses."""
        number = self.keys[0] if key is None else key
        more = {"kid": f"key-{number}"} | (headers or {})
        return jwt.encode(self.claims(**changes), rsa_key(number), algorithm=algorithm, headers=more)

    # ------------------------------------------------------------------ what it answers

    @web.middleware
    async def _note(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.asked[request.path] += 1
        return await self.trouble.get(request.path, handler)(request)

    async def _token_keys(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [*self.extra_entries, *map(key_entry, self.keys)]})

    async def _discovery(self, _request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.issuer, "jwks_uri": f"{self.url}/token_keys"})

    async def _token(self, request: web.Request) -> web.Response:
        """The grants that clients use, as RFC 6749 has them."""
        client = BasicAuth.decode(request.headers.get("Authorization", ""))
        form = await request.post()
        if (client.login, client.password) != ("cf", ""):
            return _refusal("unauthorized", "Bad credentials")
        match form.get("grant_type"):
            case "password":
                account = self.accounts.get(str(form.get("username")))
                if account is None or form.get("password") != account.password:
                    return _refusal("unauthorized", "Bad credentials")
                claims: dict[str, Any] = {"user_id": account.guid, "scope": list(account.scopes)}
                claims["user_name"] = str(form["username"])
            case "refresh_token":
                known = self._refresh_tokens.get(str(form.get("refresh_token")))
                if known is None:
                    return _refusal("invalid_token", "The token expired, was revoked, or the token ID is incorrect.")
                claims = known
            case "client_credentials":
                scopes = list(USER_SCOPES)
                return web.json_response(self._answer({"user_id": None, "user_name": None, "scope": scopes}))
            case _:
                return _refusal("unsupported_grant_type", "Unsupported grant type", status=400)
        refresh_token = self.sign(**claims, jti=f"{uuid.uuid4().hex}-r")
        self._refresh_tokens[refresh_token] = claims
        return web.json_response(self._answer(claims) | {"refresh_token": refresh_token})

    def _answer(self, claims: dict[str, Any]) -> dict[str, Any]:
        token = self.sign(**claims)
        return {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": self.lifetime_s,
            "scope": " ".join(claims["scope"]),
            "jti": uuid.uuid4().hex,
        }


def _refusal(error: str, description: str, *, status: int = 401) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)


def answering(
    body: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A way of trouble: UAA answers this. A text or bytes are sent as they are, anything else as JSON."""

    async def answer(_request: web.Request) -> web.Response:
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return web.Response(status=status, body=text, content_type="application/json", headers=headers)

    return answer


@contextmanager
def uaa_in_thread(uaa: Uaa) -> Iterator[Uaa]:
    """Run `uaa` in a loop and thread of its own, for as long as the block lasts."""
    is_up, loop = threading.Event(), asyncio.new_event_loop()
    is_over = asyncio.Event()

    async def serve() -> None:
        async with uaa:
            is_up.set()
            await is_over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert is_up.wait(10)
        yield uaa
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
        loop.close()
