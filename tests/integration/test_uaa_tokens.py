"""Which tokens are taken, over HTTP, from a UAA that signs with RSA: a table of those that are not, and both 401s."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from shared.errors import InvalidAuthTokenError
from shared.security.verifier import create_verifier
from tests.integration.conftest import HintLog, client_of
from tests.support import seed
from tests.uaa import AUDIENCES, Uaa, key_entry, public_pem, rsa_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import ClientResponse

    from shared.settings import Settings
    from tests.integration.conftest import Client

JOB = "/v3/jobs/x"  # not found, for those who may ask
STRANGER = 9  # a key that UAA does not list


@pytest.fixture
def database_url(database_of_module: str) -> str:
    return database_of_module


@pytest.fixture
async def uaa() -> AsyncIterator[Uaa]:
    async with Uaa(keys=(1, 2)) as uaa:
        yield uaa


@pytest.fixture
def settings(make_settings: Callable[..., Settings], uaa: Uaa) -> Settings:
    return make_settings(uaa_url=uaa.url)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with client_of(settings, HintLog(), create_verifier(settings)) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"bearer {token}"}


async def code_of(response: ClientResponse) -> tuple[int, int]:
    (error,) = (await response.json())["errors"]
    return response.status, error["code"]


def encode(raw: bytes | str | dict[str, Any]) -> str:
    data = json.dumps(raw).encode() if isinstance(raw, dict) else raw.encode() if isinstance(raw, str) else raw
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(uaa: Uaa, *, header: Any = None, payload: Any = None, key: int = 1) -> str:
    """A token made by hand, well signed with RS256 whatever stands in it."""
    head = {"alg": "RS256", "typ": "JWT"} | header if isinstance(header, dict) else header or {"alg": "RS256"}
    text = f"{encode(head)}.{encode(uaa.claims() if payload is None else payload)}"
    return f"{text}.{encode(rsa_key(key).sign(text.encode(), padding.PKCS1v15(), SHA256()))}"


def with_secret(uaa: Uaa, secret: bytes, algorithm: str = "HS256") -> str:
    text = f"{encode({'alg': algorithm, 'typ': 'JWT', 'kid': 'key-1'})}.{encode(uaa.claims())}"
    return f"{text}.{encode(hmac.digest(secret, text.encode(), f'sha{algorithm[2:]}'))}"


def der(encoding: PublicFormat) -> bytes:
    return rsa_key(1).public_key().public_bytes(Encoding.DER, encoding)


def tampered(uaa: Uaa) -> str:
    head, _, signature = uaa.sign().split(".")
    return f"{head}.{encode(uaa.claims(user_id='somebody-else'))}.{signature}"


def twice(uaa: Uaa) -> str:
    first, second = uaa.sign(), uaa.sign(key=2)
    return f"{first}.{second.rpartition('.')[2]}"


def own_jwk(_uaa: Uaa) -> dict[str, Any]:
    return dict(RSAAlgorithm.to_jwk(rsa_key(STRANGER).public_key(), as_dict=True))


def now() -> int:
    return int(time.time())


BAD: dict[str, Callable[[Uaa], str]] = {
    # Not of the form of a token at all.
    "one word": lambda _: "nonsense",
    "empty parts": lambda _: "..",
    "no signature": lambda uaa: uaa.sign().rpartition(".")[0],
    "empty signature": lambda uaa: uaa.sign().rpartition(".")[0] + ".",
    "five parts, as if encrypted": lambda uaa: f"{uaa.sign()}.{encode('x')}.{encode('y')}",
    "two signatures": twice,
    "padding": lambda uaa: uaa.sign() + "==",
    "other alphabet": lambda uaa: uaa.sign()[:-4] + "+/+/",
    "not ASCII": lambda uaa: uaa.sign() + "é",
    "header is no JSON": lambda uaa: signed(uaa, header="{"),
    "header is a list": lambda uaa: signed(uaa, header="[]"),
    "header is not UTF-8": lambda uaa: signed(uaa, header=b'{"alg":"RS256","x":"\xff"}'),
    "header is deep": lambda uaa: signed(uaa, header='{"x":' + "[" * 2_500),
    "header has a huge number": lambda uaa: signed(uaa, header='{"alg":"RS256","x":' + "9" * 5_000 + "}"),
    # What the header claims counts for nothing.
    "alg none": lambda uaa: f"{encode({'alg': 'none'})}.{encode(uaa.claims())}.",
    "alg none with a signature": lambda uaa: f"{encode({'alg': 'none'})}.{encode(uaa.claims())}.{encode('x')}",
    "alg None in capitals": lambda uaa: f"{encode({'alg': 'NONE'})}.{encode(uaa.claims())}.{encode('x')}",
    "alg is missing": lambda uaa: signed(uaa, header='{"typ":"JWT"}'),
    "alg is a list": lambda uaa: signed(uaa, header={"alg": ["RS256"]}),
    "alg is null": lambda uaa: signed(uaa, header={"alg": None}),
    "alg is PS256": lambda uaa: uaa.sign(algorithm="PS256"),
    "HS256 with the PEM": lambda uaa: with_secret(uaa, public_pem(rsa_key(1))),
    "HS256 with the PEM, without its last line end": lambda uaa: with_secret(uaa, public_pem(rsa_key(1)).strip()),
    "HS512 with the PEM": lambda uaa: with_secret(uaa, public_pem(rsa_key(1)), "HS512"),
    "HS256 with the DER": lambda uaa: with_secret(uaa, der(PublicFormat.SubjectPublicKeyInfo)),
    "HS256 with the DER of PKCS 1": lambda uaa: with_secret(uaa, der(PublicFormat.PKCS1)),
    "HS256 with the modulus": lambda uaa: with_secret(uaa, str(key_entry(1)["n"]).encode()),
    "HS256 with nothing": lambda uaa: with_secret(uaa, b""),
    "HS256 with our own development key": lambda uaa: with_secret(uaa, b"k" * 64),
    "unknown key": lambda uaa: uaa.sign(key=STRANGER),
    "unknown key with the kid of a known one": lambda uaa: uaa.sign(key=STRANGER, headers={"kid": "key-1"}),
    "kid is a path": lambda uaa: uaa.sign(key=STRANGER, headers={"kid": "../../../../dev/null"}),
    "kid is SQL": lambda uaa: uaa.sign(key=STRANGER, headers={"kid": "x' union select 'secret' --"}),
    "kid is a URL": lambda uaa: uaa.sign(key=STRANGER, headers={"kid": f"{uaa.url}/elsewhere"}),
    "kid is a number": lambda uaa: signed(uaa, header={"kid": 1}),
    "kid is NUL": lambda uaa: uaa.sign(key=STRANGER, headers={"kid": "\0"}),
    "brings its own key": lambda uaa: uaa.sign(key=STRANGER, headers={"jwk": own_jwk(uaa)}),
    "says where its key is": lambda uaa: uaa.sign(key=STRANGER, headers={"jku": f"{uaa.url}/elsewhere"}),
    "says where its certificate is": lambda uaa: uaa.sign(key=STRANGER, headers={"x5u": f"{uaa.url}/elsewhere"}),
    "brings its certificate": lambda uaa: uaa.sign(key=STRANGER, headers={"x5c": ["MIIB"]}),
    "something critical": lambda uaa: signed(uaa, header={"crit": ["exp"], "exp": 1}),
    "something critical that PyJWT knows": lambda uaa: signed(uaa, header={"crit": ["b64"], "b64": True}),
    "payload outside": lambda uaa: signed(uaa, header={"crit": ["b64"], "b64": False}),
    "payload outside, secretly": lambda uaa: signed(uaa, header={"b64": False}),
    "nothing critical": lambda uaa: signed(uaa, header={"crit": []}),
    "signature of another algorithm": lambda uaa: signed(uaa, header={"alg": "RS512"}),
    "signature is short": lambda uaa: uaa.sign().rpartition(".")[0] + "." + encode(b"\1" * 32),
    "signature is zero": lambda uaa: uaa.sign().rpartition(".")[0] + "." + encode(b"\0" * 256),
    "tampered payload": tampered,
    # Well signed, and no good all the same.
    "payload is no JSON": lambda uaa: signed(uaa, payload="{"),
    "payload is a list": lambda uaa: signed(uaa, payload="[]"),
    "payload is null": lambda uaa: signed(uaa, payload="null"),
    "payload is UTF-16": lambda uaa: signed(uaa, payload=json.dumps(uaa.claims()).encode("utf-16")),
    "payload is deep": lambda uaa: signed(uaa, payload='{"x":' + "[" * 2_500 + "]" * 2_500 + "}"),
    "payload has a huge number": lambda uaa: signed(uaa, payload='{"exp":' + "9" * 5_000 + "}"),
    "exp one second ago": lambda uaa: uaa.sign(exp=now() - 1),
    "exp now": lambda uaa: uaa.sign(exp=now()),
    "exp is missing": lambda uaa: uaa.sign(exp=None),
    "exp is a float": lambda uaa: uaa.sign(exp=now() + 60.5),
    "exp is a text": lambda uaa: uaa.sign(exp=str(now() + 60)),
    "exp is true": lambda uaa: uaa.sign(exp=True),
    "exp is huge": lambda uaa: uaa.sign(exp=10**300),
    "exp is infinite": lambda uaa: uaa.sign(exp=float("inf")),
    "exp is negative": lambda uaa: uaa.sign(exp=-now()),
    "exp is a list": lambda uaa: uaa.sign(exp=[now() + 60]),
    "aud is missing": lambda uaa: uaa.sign(aud=None),
    "aud is another": lambda uaa: uaa.sign(aud="cloud_controller_service_permissions"),
    "aud holds only others": lambda uaa: uaa.sign(aud=["openid", "cloud_controller.read"]),
    "aud is empty": lambda uaa: uaa.sign(aud=[]),
    "aud is an object": lambda uaa: uaa.sign(aud={"cloud_controller": 1}),
    "aud is nested": lambda uaa: uaa.sign(aud=[["cloud_controller"]]),
    "iss is missing": lambda uaa: uaa.sign(iss=None),
    "iss is another": lambda uaa: signed(uaa, payload=uaa.claims(iss="https://uaa.example/oauth/token")),
    "iss is the beginning": lambda uaa: uaa.sign(iss=uaa.url),
    "iss has one more slash": lambda uaa: uaa.sign(iss=f"{uaa.issuer}/"),
    "iss is a list": lambda uaa: signed(uaa, payload=uaa.claims(iss=[uaa.issuer])),
    "jti is missing": lambda uaa: uaa.sign(jti=None),
    "jti is empty": lambda uaa: uaa.sign(jti=""),
    "jti is a number": lambda uaa: uaa.sign(jti=1),
    "jti of a refresh token": lambda uaa: uaa.sign(jti="0123456789abcdef-r"),
    "no subject": lambda uaa: uaa.sign(user_id=None, client_id=None),
    "user_id is empty": lambda uaa: uaa.sign(user_id=""),
    "user_id is a number": lambda uaa: uaa.sign(user_id=1),
    "user_id has NUL": lambda uaa: uaa.sign(user_id="u\0"),
    "user_id has half a character": lambda uaa: uaa.sign(user_id="u\ud800"),
    "user_id has a line end": lambda uaa: uaa.sign(user_id="u\r\nSet-Cookie: x=y"),
    "user_id is long": lambda uaa: uaa.sign(user_id="u" * 256),
    "client_id is a list": lambda uaa: uaa.sign(user_id=None, client_id=["cf"]),
    "scope is missing": lambda uaa: uaa.sign(scope=None),
    "scope is a text": lambda uaa: uaa.sign(scope="cloud_controller.admin"),
    "scope holds numbers": lambda uaa: uaa.sign(scope=["cloud_controller.read", 1]),
    "scope holds lists": lambda uaa: uaa.sign(scope=[["cloud_controller.admin"]]),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in BAD.items()])
async def test_item_12_it_refuses_a_bad_token(client: Client, uaa: Uaa, make: Callable[[Uaa], str]) -> None:
    headers = {"Authorization": f"bearer {make(uaa)}"}
    assert await code_of(await client.get(JOB, headers=headers)) == (401, 1000)
    assert await code_of(await client.get(JOB, headers=bearer(signed(uaa)))) == (404, 10010)
    assert uaa.asked["/elsewhere"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as UAA makes it"),
        pytest.param({"aud": "cloud_controller"}, id="aud is a text"),
        pytest.param({"aud": [None, *AUDIENCES]}, id="aud holds null, too"),
        pytest.param({"exp": 253402300799}, id="exp is far"),
        pytest.param({"nbf": 253402300799, "iat": "soon"}, id="nbf and iat are not looked at"),
        pytest.param({"user_id": None}, id="a client without a person"),
        pytest.param({"user_id": "Ünï-☃"}, id="user_id is not ASCII"),
        pytest.param({"user_name": None}, id="no name"),
        pytest.param({"sub": ["x"]}, id="sub is not looked at"),
    ],
)
async def test_item_12_it_takes_a_good_token(client: Client, uaa: Uaa, changes: dict[str, Any]) -> None:
    response = await client.get(JOB, headers=bearer(uaa.sign(**changes)))
    assert await code_of(response) == (404, 10010)


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
async def test_item_12_it_takes_every_length_of_hash(client: Client, uaa: Uaa, algorithm: str) -> None:
    assert await code_of(await client.get(JOB, headers=bearer(uaa.sign(algorithm=algorithm)))) == (404, 10010)


@pytest.mark.parametrize("kid", ["key-2", "unknown", "../../etc/passwd", "' or 1=1 --"])
async def test_item_12_it_takes_no_notice_of_the_kid(client: Client, uaa: Uaa, kid: str) -> None:
    assert await code_of(await client.get(JOB, headers=bearer(uaa.sign(headers={"kid": kid})))) == (404, 10010)


@pytest.mark.parametrize("name", ["\0", "\ud800", "line\nend", "n" * 300, 7, ["ann"]])
async def test_it_calls_a_user_by_the_guid_whose_name_cannot_be_stored(
    client: Client, settings: Settings, uaa: Uaa, name: Any
) -> None:
    async with create_verifier(settings) as verifier:
        assert (await verifier.verify(uaa.sign(user_name=name))).user_name == "u-1"
    assert await code_of(await client.get(JOB, headers=bearer(uaa.sign(user_name=name)))) == (404, 10010)


@pytest.mark.parametrize("size", [9_000, 60_000, 1_000_000])
async def test_it_refuses_a_long_token_before_it_asks_for_keys(settings: Settings, uaa: Uaa, size: int) -> None:
    async with create_verifier(settings) as verifier:
        for token in ("a" * size, "." * size, f"a.{'b' * size}.c", f"{encode({'alg': 'RS256'})}.{'b' * 2 * size}.c"):
            with pytest.raises(InvalidAuthTokenError):
                await verifier.verify(token)
    assert uaa.asked["/token_keys"] == 0


@pytest.mark.parametrize(("scope", "status"), [("cloud_controller.read", 404), ("cloud_controller.write", 403)])
async def test_it_takes_head_for_reading(client: Client, uaa: Uaa, scope: str, status: int) -> None:
    assert (await client.head(JOB, headers=bearer(uaa.sign(scope=[scope])))).status == status


HEADERS = [
    pytest.param([], id="none"),
    pytest.param([""], id="empty"),
    pytest.param(["Basic dTpw"], id="Basic"),
    pytest.param(["bearer"], id="no token"),
    pytest.param(["Bearer   "], id="only blanks"),
    pytest.param(["Bearer one two"], id="three words"),
    pytest.param(["Bearer {good} x"], id="a good token and a third word"),
    pytest.param(["Bearer {good}, Bearer {good}"], id="two in one header"),
    pytest.param(["{good}"], id="no scheme"),
    pytest.param(["BearerX {good}"], id="a longer scheme"),
    pytest.param(["Token {good}"], id="another scheme"),
    pytest.param(["Bearer {good}", "Bearer {good}"], id="the header twice"),
    pytest.param(["Bearer {good}", "Basic dTpw"], id="two ways at once"),
    pytest.param(["", "Bearer {good}"], id="an empty header and a good one"),
]


@pytest.mark.parametrize("sent", HEADERS)
async def test_item_12_it_tells_no_token_from_a_bad_one(client: Client, uaa: Uaa, sent: list[str]) -> None:
    lines = [f"Authorization: {value.format(good=uaa.sign())}".encode() for value in sent]
    status, body = await over_socket(client, *lines)
    assert (status, json.loads(body)["errors"][0]["code"]) == (401, 10002)


@pytest.mark.parametrize("sent", ["bearer {good}", "BEARER {good}", "Bearer  {good}", "bEaReR {good} "])
async def test_item_12_it_reads_the_scheme_in_any_case(client: Client, uaa: Uaa, sent: str) -> None:
    status, _ = await over_socket(client, f"Authorization: {sent.format(good=uaa.sign())}".encode())
    assert status == 404


@pytest.mark.parametrize("end", [b"\xff", b"\xed\xa0\x80", b"\xc3\xa9", b"=", b"%00"])
async def test_item_12_it_refuses_bytes_that_are_in_no_token(client: Client, uaa: Uaa, end: bytes) -> None:
    status, body = await over_socket(client, b"Authorization: bearer " + uaa.sign().encode() + end)
    assert (status, json.loads(body)["errors"][0]["code"]) == (401, 1000)


async def over_socket(client: Client, *lines: bytes) -> tuple[int, bytes]:
    """Status and body for a GET with exactly these header lines, which no client library would send."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"\r\n".join([f"GET {JOB} HTTP/1.1".encode(), b"Host: x", b"Connection: close", *lines, b"", b""]))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


async def test_it_names_the_caller_in_the_answer(client: Client, settings: Settings, uaa: Uaa) -> None:
    seed(settings)
    person, program = {"user_id": "developer-guid"}, {"user_id": None, "client_id": "Ünï"}
    for subject, guid in ((person, "developer-guid"), (program, "Ünï")):
        token = uaa.sign(**subject, scope=["cloud_controller.admin"])
        response = await client.get("/v3/service_instances/i-1/backups", headers=bearer(token))
        assert (response.status, response.headers["X-USER-GUID"]) == (200, guid)


# ---------------------------------------------------------------- secrets instead of keys

SECRETS = ("first-" + "a" * 64, "second-" + "b" * 64)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", SECRETS)
async def test_item_12_it_tries_every_secret(
    make_settings: Callable[..., Settings], uaa: Uaa, algorithm: str, secret: str
) -> None:
    settings = make_settings(token_secrets=",".join(SECRETS), token_issuer=uaa.issuer)
    async with create_verifier(settings) as verifier:
        caller = await verifier.verify(with_secret(uaa, secret.encode(), algorithm))
    assert caller.user_guid == "u-1"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda uaa: uaa.sign(), id="of UAA's key"),
        pytest.param(lambda uaa: with_secret(uaa, b"x" * 64), id="another secret"),
        pytest.param(lambda uaa: with_secret(uaa, ",".join(SECRETS).encode()), id="both secrets"),
        pytest.param(lambda uaa: with_secret(uaa, b"short" * 7, "HS512"), id="a secret that is too short for its hash"),
        pytest.param(lambda uaa: f"{encode({'alg': 'none'})}.{encode(uaa.claims())}.x", id="alg none"),
    ],
)
async def test_item_12_it_takes_only_tokens_of_its_secrets_where_there_are_some(
    make_settings: Callable[..., Settings], uaa: Uaa, make: Callable[[Uaa], str]
) -> None:
    settings = make_settings(token_secrets=",".join([*SECRETS, "short" * 7]), uaa_url=uaa.url)
    async with client_of(settings, HintLog(), create_verifier(settings)) as client:
        assert await code_of(await client.get(JOB, headers=bearer(make(uaa)))) == (401, 1000)
        good = with_secret(uaa, SECRETS[1].encode())
        assert await code_of(await client.get(JOB, headers=bearer(good))) == (404, 10010)
    assert uaa.asked["/token_keys"] == 0
    assert uaa.asked["/.well-known/openid-configuration"] == 1
