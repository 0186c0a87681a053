"""What is in the queues of ours, on Redis and on RabbitMQ alike, without Safekeep's own code."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import kombu
import redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.settings import Settings

NAMES: Final = ("start", "poll")


def length(settings: Settings, name: str) -> int:
    """How many messages wait in the queue of that name."""
    if _is_redis(settings):
        with redis.Redis.from_url(settings.queue_url.get_secret_value()) as client:
            return int(client.llen(settings.queue_prefix + name))
    with channel(settings) as opened:
        return int(opened.queue_declare(settings.queue_prefix + name, passive=True).message_count)


def names(*several: Settings) -> set[str]:
    """The queues that there are with these settings."""
    return {settings.queue_prefix + name for settings in several for name in NAMES if _is_there(settings, name)}


def _is_there(settings: Settings, name: str) -> bool:
    if _is_redis(settings):
        return length(settings, name) > 0
    with channel(settings) as opened:
        try:
            opened.queue_declare(settings.queue_prefix + name, passive=True)
        except opened.connection.channel_errors:
            return False
    return True


def empty(settings: Settings) -> int:
    """Throw away everything of ours, and nothing of others; how many keys or messages that was."""
    if _is_redis(settings):
        with redis.Redis.from_url(settings.queue_url.get_secret_value()) as client:
            return sum(int(client.delete(key)) for key in client.scan_iter(f"{settings.queue_prefix}*"))
    return sum(_purge(settings, name) for name in NAMES)


def _purge(settings: Settings, name: str) -> int:
    with channel(settings) as opened:
        try:
            return int(opened.queue_purge(settings.queue_prefix + name))
        except opened.connection.channel_errors:
            return 0  # there is no such queue


def _is_redis(settings: Settings) -> bool:
    return settings.queue_url.get_secret_value().startswith("redis")


@contextmanager
def channel(settings: Settings) -> Iterator[Any]:
    """A channel to RabbitMQ."""
    with kombu.Connection(settings.queue_url.get_secret_value(), connect_timeout=2) as connection:
        yield connection.channel()
