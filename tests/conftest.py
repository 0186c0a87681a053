"""What all tests share: one PostgreSQL and one queue for the run, a fresh database and key prefix for each test.

They are embedded ones, or those of SAFEKEEP_DATABASE_URL and SAFEKEEP_QUEUE_URL. On a server of the user's, tests make
databases of their own and drop them, and touch no key without their prefix.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.databases import scratch_database
from deploy.local.postgres import PostgresServer
from deploy.local.valkey import ValkeyServer
from shared.security.secrets import generate_key
from shared.settings import Settings
from shared.store.migrate import migrate
from tests.rabbitmq import RabbitServer, require_rabbitmq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# Tests say what they need; nothing of a developer's shell may leak into them.
_OUTSIDE = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("SAFEKEEP_")}


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server to make databases on."""
    if url := _OUTSIDE.get("SAFEKEEP_DATABASE_URL"):
        yield url
        return
    with PostgresServer(tmp_path_factory.mktemp("postgres"), is_durable=False) as server:
        yield server.url()


@pytest.fixture(scope="session")
def queue_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if url := _OUTSIDE.get("SAFEKEEP_QUEUE_URL"):
        yield url
        return
    with ValkeyServer(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """The one of this run; a test that ends it starts it again."""
    require_rabbitmq()
    with RabbitServer(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database that fresh ones are copied from."""
    with scratch_database(postgres_url, prefix="safekeep_test") as url:
        migrate(url)
        yield url.rpartition("/")[2]


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A fresh, migrated, empty database."""
    with scratch_database(postgres_url, template=template, prefix="safekeep_test") as url:
        yield url


@pytest.fixture(scope="module")
def database_of_module(postgres_url: str, template: str) -> Iterator[str]:
    """A migrated database for tests of one file that only read, and so need none of their own."""
    with scratch_database(postgres_url, template=template, prefix="safekeep_test") as url:
        yield url


@pytest.fixture
def make_settings(request: pytest.FixtureRequest) -> Callable[..., Settings]:
    """Makes settings for the test's own database and queue prefix, with what else it wants."""

    def make(**values: Any) -> Settings:
        defaults = {
            "environment": "development",
            "database_url": request.getfixturevalue("database_url"),
            "queue_url": request.getfixturevalue("queue_url"),
            "queue_prefix": f"test-{secrets.token_hex(4)}:",
            "secret_keys": generate_key(),
            "token_key": secrets.token_hex(32),
        }
        return Settings(**(defaults | values))

    return make
