"""Sealing secrets, and the tokens of development."""

from __future__ import annotations

import base64
import time
from typing import Any

import jwt
import pytest

from shared.errors import InvalidAuthTokenError, SecretsError, SettingsError
from shared.security.secrets import Sealer, generate_key
from shared.security.tokens import ADMIN_SCOPES, ISSUER, USER_SCOPES, DevelopmentTokens
from shared.settings import Settings

KEY = "0123456789abcdef0123456789abcdef"


def make_settings(**values: Any) -> Settings:
    defaults = {"environment": "development", "database_url": "postgresql://h/d", "queue_url": "redis://h"}
    return Settings(**(defaults | {"token_key": KEY} | values))


def test_it_opens_what_it_sealed_and_what_an_older_key_sealed() -> None:
    old, new = generate_key(), generate_key()
    sealed = Sealer([old]).seal("pässword")
    assert "pässword" not in sealed
    assert Sealer([new, old]).open(sealed) == "pässword"


def test_it_does_not_open_with_another_key_or_after_tampering() -> None:
    sealer = Sealer([generate_key()])
    sealed = sealer.seal("secret")
    with pytest.raises(SecretsError):
        Sealer([generate_key()]).open(sealed)
    with pytest.raises(SecretsError):
        sealer.open(sealed[:-6] + "AAAAA=")


def test_it_takes_both_alphabets_of_base64() -> None:
    raw = bytes(range(224, 256))
    standard, urlsafe = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    assert standard != urlsafe
    assert Sealer([urlsafe]).open(Sealer([standard]).seal("x")) == "x"


@pytest.mark.parametrize("key", ["", "short", "!!!", base64.b64encode(b"x" * 31).decode()])
def test_it_refuses_keys_of_the_wrong_form_without_showing_them(key: str) -> None:
    with pytest.raises(SettingsError, match="SAFEKEEP_SECRET_KEYS") as refusal:
        Sealer([key])
    assert not key or key not in str(refusal.value)


async def test_it_knows_whom_a_token_speaks_for() -> None:
    tokens = DevelopmentTokens(make_settings())
    caller = await tokens.verify(tokens.sign("u-1", "ann", USER_SCOPES, 60))
    assert (caller.user_guid, caller.user_name, caller.is_admin) == ("u-1", "ann", False)
    assert caller.may_read
    assert caller.may_write
    assert (await tokens.verify(tokens.sign("u-2", "root", ADMIN_SCOPES, 60))).is_admin


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good: dict[str, Any] = {
        "jti": "j",
        "user_id": "u",
        "scope": ["cloud_controller.read"],
        "aud": ["cloud_controller"],
        "iss": ISSUER,
        "exp": now + 60,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        jwt.encode(claims(), "another key, also with enough characters"),
        jwt.encode(claims(), "", algorithm="none"),
        jwt.encode(claims(), KEY * 2, algorithm="HS512"),
        jwt.encode(claims(exp=int(time.time()) - 1), KEY),
        jwt.encode(claims(exp=None), KEY),
        jwt.encode(claims(exp="soon"), KEY),
        jwt.encode(claims(aud=["elsewhere"]), KEY),
        jwt.encode(claims(aud=None), KEY),
        jwt.encode(claims(iss="https://uaa.example"), KEY),
        jwt.encode(claims(jti=None), KEY),
        jwt.encode(claims(jti="j-r"), KEY),
        jwt.encode(claims(user_id=None), KEY),
        jwt.encode(claims(scope=None), KEY),
        jwt.encode(claims(scope="cloud_controller.admin"), KEY),
    ],
)
async def test_it_refuses_tokens_that_are_not_good(token: str) -> None:
    with pytest.raises(InvalidAuthTokenError):
        await DevelopmentTokens(make_settings()).verify(token)


def test_it_signs_nothing_outside_development() -> None:
    with pytest.raises(SettingsError, match="SAFEKEEP_ENVIRONMENT"):
        DevelopmentTokens(make_settings(environment="production"))


def test_it_wants_a_key_of_some_length() -> None:
    with pytest.raises(SettingsError, match="SAFEKEEP_TOKEN_KEY"):
        DevelopmentTokens(make_settings(token_key="short"))
