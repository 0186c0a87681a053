"""UAA's keys and issuer as time goes by: rotation, a UAA that is away or talks nonsense, and how seldom it is asked."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from shared.errors import SettingsError
from shared.security.tokens import DevelopmentTokens
from shared.security.uaa import UaaTokens
from shared.security.verifier import create_verifier
from tests.integration.conftest import HintLog, client_of
from tests.support import eventually
from tests.uaa import Uaa, answering, key_entry, public_pem, rsa_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from aiohttp import ClientResponse

    from shared.settings import Settings
    from tests.integration.conftest import Client

    ApiOf = Callable[..., AbstractAsyncContextManager[Client]]

JOB = "/v3/jobs/x"  # not found, for those who may ask
KEYS = "/token_keys"
DISCOVERY = "/.well-known/openid-configuration"
AT_ONCE_S = 0.001  # so short that it is over by the next request
NEVER_S = 3600.0
GOOD = (404, 10010)
BAD = (401, 1000)
AWAY = (502, 20004)


@pytest.fixture
def database_url(database_of_module: str) -> str:
    return database_of_module


@pytest.fixture
async def uaa() -> AsyncIterator[Uaa]:
    async with Uaa() as uaa:
        yield uaa


@pytest.fixture
def api_of(make_settings: Callable[..., Settings], uaa: Uaa) -> ApiOf:
    """Starts APIs that ask the UAA at once whenever there is a reason, unless told otherwise."""

    @asynccontextmanager
    async def start(**values: Any) -> AsyncIterator[Client]:
        defaults = {"uaa_url": uaa.url, "uaa_pause_s": AT_ONCE_S, "uaa_keys_age_s": NEVER_S}
        settings = make_settings(**(defaults | values))
        async with client_of(settings, HintLog(), create_verifier(settings)) as client:
            yield client

    return start


async def ask(client: Client, token: str) -> tuple[int, int]:
    response = await client.get(JOB, headers={"Authorization": f"bearer {token}"})
    return await code_of(response)


async def code_of(response: ClientResponse) -> tuple[int, int]:
    (error,) = (await response.json())["errors"]
    return response.status, error["code"]


# ---------------------------------------------------------------- rotation


async def test_item_13_it_picks_up_a_new_key_with_one_more_request(api_of: ApiOf, uaa: Uaa) -> None:
    async with api_of() as client:
        assert await ask(client, uaa.sign()) == GOOD
        old = uaa.sign()
        uaa.keys = (2, 1)
        answers = await asyncio.gather(*(ask(client, uaa.sign()) for _ in range(40)))
        assert set(answers) == {GOOD}
        assert await ask(client, old) == GOOD
        assert uaa.asked == {KEYS: 2, DISCOVERY: 1}


async def test_item_13_it_takes_several_keys_at_once(api_of: ApiOf, uaa: Uaa) -> None:
    uaa.keys = (1, 2, 3)
    async with api_of() as client:
        assert [await ask(client, uaa.sign(key=key)) for key in (3, 1, 2)] == [GOOD] * 3
        assert uaa.asked[KEYS] == 1


async def test_item_13_it_forgets_a_key_that_uaa_withdrew(api_of: ApiOf, uaa: Uaa) -> None:
    async with api_of(uaa_keys_age_s=AT_ONCE_S) as client:
        old = uaa.sign()
        assert await ask(client, old) == GOOD
        uaa.keys = (2,)
        await eventually_answers(client, old, BAD)
        assert await ask(client, uaa.sign()) == GOOD


async def eventually_answers(client: Client, token: str, expected: tuple[int, int]) -> None:
    async def is_so() -> bool:
        return await ask(client, token) == expected

    await eventually(is_so)


# ---------------------------------------------------------------- away


async def answers_nothing(request: web.Request) -> web.StreamResponse:
    """Take the request and let it hang, until its client goes away."""
    await asyncio.sleep(NEVER_S)
    return web.Response(text=request.path)


async def drips(request: web.Request) -> web.StreamResponse:
    """A body that never ends, a little at a time."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"keys":')
    assert request.transport
    request.transport.abort()
    return response


NONSENSE: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
    "500": answering("oops", status=500),
    "404": answering({}, status=404),
    "a redirect": answering("", status=302, headers={"Location": "/elsewhere"}),
    "204": answering("", status=204),
    "an empty body": answering(""),
    "HTML": answering("<html>please log in</html>"),
    "half of JSON": answering('{"keys": ['),
    "deep JSON": answering('{"keys":' + "[" * 100_000),
    "not UTF-8": answering(b'{"keys": "\xff"}'),
    "a list": answering([1]),
    "null": answering(None),
    "no keys": answering({"keys": []}),
    "keys are an object": answering({"keys": {"kty": "RSA"}}),
    "keys are a text": answering({"keys": "RSA"}),
    "too much": answering('{"keys": [' + " " * (1 << 20) + "]}"),
    "compressed": answering(b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}),
    "nothing": answers_nothing,
    "never an end": drips,
    "half an answer": breaks_off,
}
AS_TABLE = [pytest.param(trouble, id=name) for name, trouble in NONSENSE.items()]


@pytest.mark.parametrize("trouble", AS_TABLE)
async def test_item_13_it_goes_on_with_the_keys_it_has(
    api_of: ApiOf, uaa: Uaa, trouble: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
    async with api_of(uaa_keys_age_s=AT_ONCE_S, uaa_timeout_s=0.2) as client:
        assert await ask(client, uaa.sign()) == GOOD
        uaa.trouble = {KEYS: trouble, DISCOVERY: trouble}
        for _ in range(3):
            assert await ask(client, uaa.sign()) == GOOD
        assert await ask(client, uaa.sign(key=9)) == BAD
        assert uaa.asked[KEYS] > 1
        assert uaa.asked["/elsewhere"] == 0


@pytest.mark.parametrize("trouble", AS_TABLE)
@pytest.mark.parametrize("path", [KEYS, DISCOVERY])
async def test_item_13_it_says_that_uaa_is_away_until_it_is_back(
    api_of: ApiOf, uaa: Uaa, path: str, trouble: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
    uaa.trouble = {path: trouble}
    async with api_of(uaa_timeout_s=0.2) as client:
        response = await client.get(JOB, headers={"Authorization": f"bearer {uaa.sign()}"})
        assert await code_of(response) == AWAY
        assert int(response.headers["Retry-After"]) >= 1
        uaa.trouble = {}
        await eventually_answers(client, uaa.sign(), GOOD)


async def test_item_13_it_outlives_a_uaa_that_is_gone_and_comes_back(api_of: ApiOf, uaa: Uaa) -> None:
    async with api_of(uaa_keys_age_s=AT_ONCE_S) as client, api_of() as newcomer:
        assert await ask(client, uaa.sign()) == GOOD
        await uaa.go_away()
        assert [await ask(client, uaa.sign()) for _ in range(3)] == [GOOD] * 3
        assert await ask(newcomer, uaa.sign()) == AWAY
        uaa.keys = (2,)
        await uaa.listen()
        await eventually_answers(newcomer, uaa.sign(), GOOD)
        await eventually_answers(client, uaa.sign(), GOOD)


async def test_item_13_it_passes_on_that_uaa_is_rate_limited_only_if_it_has_no_keys(api_of: ApiOf, uaa: Uaa) -> None:
    async with api_of(uaa_keys_age_s=AT_ONCE_S) as client, api_of() as newcomer:
        assert await ask(client, uaa.sign()) == GOOD
        uaa.trouble = {KEYS: answering("slow down", status=429)}
        assert await ask(client, uaa.sign()) == GOOD
        response = await newcomer.get(JOB, headers={"Authorization": f"bearer {uaa.sign()}"})
        assert await code_of(response) == (429, 20008)
        assert int(response.headers["Retry-After"]) >= 1


async def test_item_13_it_says_what_a_bad_token_is_without_uaa(api_of: ApiOf, uaa: Uaa) -> None:
    await uaa.go_away()
    async with api_of() as client:
        for token in ("nonsense", "eyJhbGciOiJub25lIn0.e30.x", "a" * 5_000):
            assert await ask(client, token) == BAD


# ---------------------------------------------------------------- keys that are none


def pem(key: Any) -> str:
    return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem() -> str:
    return rsa_key(1).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


async def test_it_passes_over_keys_that_it_cannot_use(api_of: ApiOf, uaa: Uaa) -> None:
    small = generate_private_key(public_exponent=65537, key_size=1024)
    uaa.extra_entries = [
        None,
        7,
        "RSA",
        [],
        {},
        {"kty": ["RSA"]},
        {"kty": "MAC", "alg": "HS256", "value": "tokenkey"},
        {"kty": "RSA"},
        {"kty": "RSA", "value": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"},
        {"kty": "RSA", "value": "\udc00\0"},
        {"kty": "RSA", "value": private_pem()},
        {"kty": "RSA", "value": pem(generate_ec_key(SECP256R1()).public_key())},
        {"kty": "RSA", "value": pem(small.public_key())},
        {"kty": "RSA", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "n": 5, "e": {}},
        {"kty": "RSA", "n": "AQAB", "e": ""},
        {"kty": "RSA", "n": "\udc00", "e": "é"},
        key_entry(9) | {"use": "enc"},
    ]
    async with api_of() as client:
        assert await ask(client, uaa.sign()) == GOOD
        assert await ask(client, uaa.sign(key=9)) == BAD
        uaa.trouble = {}
    uaa.keys = ()
    async with api_of() as client:
        assert await ask(client, uaa.sign(key=1)) == AWAY


async def test_it_takes_keys_as_numbers_or_as_pem(api_of: ApiOf, uaa: Uaa) -> None:
    numbers = {name: value for name, value in key_entry(2).items() if name != "value"}
    uaa.extra_entries = [numbers, {"kty": "RSA", "value": public_pem(rsa_key(3)).decode()}]
    async with api_of() as client:
        assert [await ask(client, uaa.sign(key=key)) for key in (1, 2, 3)] == [GOOD] * 3


# ---------------------------------------------------------------- floods


async def test_item_13_it_does_not_pass_a_flood_of_bad_tokens_on_to_uaa(api_of: ApiOf, uaa: Uaa) -> None:
    pause_s = 0.1
    async with api_of(uaa_pause_s=pause_s) as client:
        assert await ask(client, uaa.sign()) == GOOD
        begun = time.monotonic()
        tokens = [uaa.sign(key=9, jti=str(number)) for number in range(500)]
        assert set(await asyncio.gather(*(ask(client, token) for token in tokens))) == {BAD}
        # Never two within a pause, however many there were.
        assert uaa.asked[KEYS] <= 2 + (time.monotonic() - begun) / pause_s
        assert uaa.asked[DISCOVERY] == 1


async def test_item_13_it_asks_once_for_a_crowd_that_finds_no_keys(api_of: ApiOf, uaa: Uaa) -> None:
    async with api_of() as client:
        assert set(await asyncio.gather(*(ask(client, uaa.sign()) for _ in range(50)))) == {GOOD}
        assert uaa.asked == {KEYS: 1, DISCOVERY: 1}


@pytest.mark.parametrize("key", [1, 9])
async def test_item_13_it_leaves_a_uaa_alone_that_is_away(api_of: ApiOf, uaa: Uaa, key: int) -> None:
    uaa.trouble = {KEYS: answering("oops", status=500)}
    async with api_of(uaa_pause_s=NEVER_S) as client:
        assert set(await asyncio.gather(*(ask(client, uaa.sign(key=key)) for _ in range(100)))) == {AWAY}
        assert uaa.asked[KEYS] == 1


async def test_item_13_it_asks_for_no_keys_because_of_claims(api_of: ApiOf, uaa: Uaa) -> None:
    async with api_of() as client:
        assert await ask(client, uaa.sign()) == GOOD
        for changes in ({"exp": int(time.time()) - 1}, {"aud": "else"}, {"jti": "x-r"}, {"user_id": "\0"}):
            assert await ask(client, uaa.sign(**changes)) == BAD
        assert uaa.asked == {KEYS: 1, DISCOVERY: 1}


# ---------------------------------------------------------------- the issuer


async def test_item_13_it_asks_again_for_an_issuer_that_does_not_match(api_of: ApiOf, uaa: Uaa) -> None:
    async with api_of() as client:
        old = uaa.sign()
        assert await ask(client, old) == GOOD
        uaa.issuer = "https://uaa.example/oauth/token"
        answers = await asyncio.gather(*(ask(client, uaa.sign()) for _ in range(20)))
        assert set(answers) == {GOOD}
        assert uaa.asked == {KEYS: 1, DISCOVERY: 2}
        assert await ask(client, old) == BAD


async def test_item_13_it_does_not_pass_a_flood_of_foreign_issuers_on_to_uaa(api_of: ApiOf, uaa: Uaa) -> None:
    async with api_of(uaa_pause_s=NEVER_S) as client:
        answers = await asyncio.gather(*(ask(client, uaa.sign(iss=f"https://{n}.example")) for n in range(100)))
        assert set(answers) == {BAD}
        assert uaa.asked == {KEYS: 1, DISCOVERY: 1}


async def test_it_asks_for_no_issuer_where_one_is_configured(api_of: ApiOf, uaa: Uaa) -> None:
    async with api_of(token_issuer="https://configured.example") as client:
        assert await ask(client, uaa.sign()) == BAD
        assert await ask(client, uaa.sign(iss="https://configured.example")) == GOOD
        assert uaa.asked[DISCOVERY] == 0


# ---------------------------------------------------------------- which tokens an installation takes


async def test_it_chooses_by_settings_what_it_takes(make_settings: Callable[..., Settings]) -> None:
    assert isinstance(create_verifier(make_settings()), DevelopmentTokens)
    assert isinstance(create_verifier(make_settings(uaa_url="https://uaa.example")), UaaTokens)
    secrets = {"token_secrets": "s" * 32, "token_issuer": "https://uaa.example"}
    for environment in ("development", "production"):
        assert isinstance(create_verifier(make_settings(environment=environment, **secrets)), UaaTokens)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"environment": "production"}, "SAFEKEEP_UAA_URL: is not set, and neither is SAFEKEEP_TOKEN_SECRETS"),
        ({"token_key": None}, "SAFEKEEP_TOKEN_KEY: must be set, to at least 32 characters"),
        ({"token_secrets": "short", "token_issuer": "x"}, "SAFEKEEP_TOKEN_SECRETS: secret 1 is shorter than 32"),
        ({"token_secrets": "s" * 32 + "," + "t" * 31, "token_issuer": "x"}, "SAFEKEEP_TOKEN_SECRETS: secret 2"),
        ({"token_secrets": public_pem(rsa_key(1)).decode(), "token_issuer": "x"}, "or an asymmetric key"),
    ],
)
def test_it_does_not_start_where_nobodys_token_could_be_verified(
    make_settings: Callable[..., Settings], values: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        create_verifier(make_settings(**values))
    assert words in str(refusal.value)
    assert "BEGIN" not in str(refusal.value)


async def test_it_tells_clients_where_to_log_in(api_of: ApiOf, uaa: Uaa) -> None:
    async def links(client: Client) -> Any:
        links = (await (await client.get("/")).json())["links"]
        return links["login"], links["uaa"]

    async with api_of() as client:
        assert await links(client) == ({"href": uaa.url}, {"href": uaa.url})
    async with api_of(login_url="https://login.example/") as client:
        assert await links(client) == ({"href": "https://login.example"}, {"href": uaa.url})
    async with api_of(uaa_url=None) as client:
        assert await links(client) == (None, None)
