"""Settings: what is wrong is named, and nothing secret is shown."""

from __future__ import annotations

import os

import pytest

from shared.errors import SettingsError
from shared.settings import load_settings

GOOD = {"SAFEKEEP_DATABASE_URL": "postgresql://u:s3cret@h/d", "SAFEKEEP_QUEUE_URL": "redis://:s3cret@h/0"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SAFEKEEP_"):
            monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_it_needs_only_the_two_urls() -> None:
    settings = load_settings()
    assert settings.environment == "production"
    assert settings.queue_prefix == "safekeep:"


def test_it_shows_no_secret_when_printed() -> None:
    assert "s3cret" not in repr(load_settings())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SAFEKEEP_DATABASE_URL", "", "SAFEKEEP_DATABASE_URL: is not set"),
        ("SAFEKEEP_DATABASE_URL", "mysql://h", "SAFEKEEP_DATABASE_URL: must start with postgresql://"),
        ("SAFEKEEP_DATABASE_URL", "postgresql://u:s3cret@[::1/d", "SAFEKEEP_DATABASE_URL: is not a valid connection"),
        ("SAFEKEEP_QUEUE_URL", "http://h", "SAFEKEEP_QUEUE_URL: must start with redis://, rediss://, amqp:// or"),
        ("SAFEKEEP_EXTERNAL_URL", "example.org", "SAFEKEEP_EXTERNAL_URL: must be an absolute http:// or https://"),
        ("SAFEKEEP_LISTEN_PORT", "70000", "SAFEKEEP_LISTEN_PORT: "),
        ("SAFEKEEP_LEASE_S", "40", "SAFEKEEP_LEASE_S must be more than twice SAFEKEEP_BROKER_TIMEOUT_S"),
        ("SAFEKEEP_LEASE_S", "-1", "SAFEKEEP_LEASE_S: "),
        ("SAFEKEEP_ENVIRONMENT", "staging", "SAFEKEEP_ENVIRONMENT: "),
        ("SAFEKEEP_UAA_URL", "uaa.example", "SAFEKEEP_UAA_URL: must be an absolute http:// or https://"),
        ("SAFEKEEP_UAA_URL", "https://u:s3cret@uaa.example", "SAFEKEEP_UAA_URL: must hold no user and password"),
        ("SAFEKEEP_LOGIN_URL", "ftp://login.example", "SAFEKEEP_LOGIN_URL: must be an absolute http:// or https://"),
        ("SAFEKEEP_TOKEN_SECRETS", "s3cret", "SAFEKEEP_TOKEN_SECRETS needs SAFEKEEP_TOKEN_ISSUER"),
    ],
)
def test_it_names_what_is_wrong(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert message in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


def test_it_names_everything_that_is_wrong_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFEKEEP_DATABASE_URL")
    monkeypatch.delenv("SAFEKEEP_QUEUE_URL")
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert str(refusal.value).splitlines() == ["SAFEKEEP_DATABASE_URL: is not set", "SAFEKEEP_QUEUE_URL: is not set"]


def test_it_takes_several_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEKEEP_SECRET_KEYS", "one, two,")
    monkeypatch.setenv("SAFEKEEP_TOKEN_SECRETS", "three,four ,")
    monkeypatch.setenv("SAFEKEEP_TOKEN_ISSUER", "https://uaa.example")
    settings = load_settings()
    assert [key.get_secret_value() for key in settings.secret_keys] == ["one", "two"]
    assert [key.get_secret_value() for key in settings.token_secrets] == ["three", "four"]
