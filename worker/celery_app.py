"""Celery, and the only module that imports it: hints go out and come in here, and nothing else travels in the queue.

The settings below are chosen for hints that may be lost: early acknowledgement, no results, no prefetching, a bound on
every wait. `docs/decisions/0003-celery-carries-hints.md` says why for each.

Besides hints there are pulses, with which a worker process finds out whether it still receives at all. Each process
that is started with a `name` consumes one more queue, `pulse.<name>`, of its own. Whoever watches it calls
`CeleryHints.send_pulse(name)` from time to time, and `run_worker` calls `on_pulse` for each that came all the way
through the queue and Celery's pool.
"""

from __future__ import annotations

import threading
import time
import warnings
from contextlib import suppress
from queue import Empty
from typing import TYPE_CHECKING, Any, Final

import celery
import kombu
from celery import signals
from celery.platforms import SecurityWarning
from kombu.transport import TRANSPORT_ALIASES, redis

from shared.errors import HintError, QueueLengthError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.records import Hint
    from shared.settings import Settings

_log = get_logger(__name__)

TASK: Final = "safekeep.look"
PULSE_TASK: Final = "safekeep.pulse"
QUEUES: Final = ("start", "poll")
#: Celery threads that hand hints over to the engine, which takes next to no time. Yet where all of them are at it, the
#: consumer looks away from the queue, and up again only when its timer says so, a second later; so there are many.
THREADS: Final = 64
CONNECT_TIMEOUT_S: Final = 2
SOCKET_TIMEOUT_S: Final = 3
HEALTH_CHECK_S: Final = 10
#: What is left of a worker that is gone disappears after this long: the queue of its pulses, and these themselves.
PULSE_EXPIRES_S: Final = 60
#: How long a queue's length is believed.
LENGTH_LIFETIME_S: Final = 0.1

_REDIS_OPTIONS: Final = {
    "socket_timeout": SOCKET_TIMEOUT_S,
    "socket_connect_timeout": CONNECT_TIMEOUT_S,
    "socket_keepalive": True,
    "health_check_interval": HEALTH_CHECK_S,
    "client_name": "safekeep",
    # One list for each queue and no other key. What a worker has in hand needs no record in the queue: a hint may be
    # lost. Without them there is less that can be damaged, and a message costs two round trips less.
    "ack_emulation": False,
    "priority_steps": [0],
}
_AMQP_OPTIONS: Final = {
    # Publishing waits for the queue's word, so that a hint which was not taken is known.
    "confirm_publish": True,
    "connect_timeout": CONNECT_TIMEOUT_S,
    "read_timeout": SOCKET_TIMEOUT_S,
    "write_timeout": SOCKET_TIMEOUT_S,
}


class _Channel(redis.Channel):  # type: ignore[misc] # kombu publishes no types
    """Takes messages out of Redis' lists, and drops what is none instead of ending the process over it."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # Somebody pushed into our list what kombu has not written. It is out of the list by now.
            _log.warning("an entry of the queue that is no message was dropped", error=type(error).__name__)
            raise Empty from error


class RedisTransport(redis.Transport):  # type: ignore[misc] # kombu publishes no types
    """Redis, with the channel above. Known to kombu under its own names, which also say whether TLS is used."""

    Channel = _Channel


for _name in ("redis", "rediss"):
    TRANSPORT_ALIASES[_name] = f"{__name__}:{RedisTransport.__name__}"


class _Queue(kombu.Queue):  # type: ignore[misc] # kombu publishes no types
    """A queue that is reached by its name: it has no exchange and no binding, so none can be lost or damaged."""

    def declare(self, nowait: bool = False, channel: Any = None) -> Any:  # noqa: ARG002, FBT001, FBT002 # kombu's
        """Make the queue where there is none. Both sides do it on every new connection, before anything else."""
        self.measure(channel or self.channel)
        return self.name

    def measure(self, channel: Any) -> int:
        """How many messages wait. Not done passively, so that a queue which somebody deleted is there again.

        (Kombu's passive declaration would also look for a Redis key without its prefix.)
        """
        try:
            return int(self.queue_declare(channel=channel).message_count)
        except Exception as error:  # the transports' errors share no root
            if "WRONGTYPE" not in str(error):
                raise
            # Redis: something else stands where our list belongs, and would refuse every push and pop for ever. The
            # name is ours by its prefix and holds hints at most, so nothing is lost by making room.
            _log.warning("a key that is no queue was deleted", queue=self.name)
            with channel.conn_or_acquire() as client:
                client.delete(self.name)
            return 0


def create_celery(settings: Settings, name: str | None = None) -> Any:  # Any: celery publishes no types
    """A Celery application for hints on the configured queue; with a `name`, also for that worker's pulses."""
    url = settings.queue_url.get_secret_value()
    is_redis = url.startswith("redis")
    # With Redis the prefix stands before every key; RabbitMQ has no such option, so it is part of the names.
    prefix = "" if is_redis else settings.queue_prefix
    queues = {queue: _Queue(prefix + queue) for queue in QUEUES}
    if name is not None:
        queues["pulse"] = _pulse_queue(prefix, name)
    options = _REDIS_OPTIONS | {"global_keyprefix": settings.queue_prefix} if is_redis else _AMQP_OPTIONS
    app = celery.Celery("safekeep", broker=url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_queues=list(queues.values()),
        task_create_missing_queues=False,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=is_redis,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_detect_quorum_queues=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # An error that the queue answers (a key of a wrong type, no memory, read-only after a failover, a deleted
        # queue) would end the worker process; this way the consumer connects again, with a pause of Celery's.
        broker_channel_error_retry=True,
        broker_connection_timeout=CONNECT_TIMEOUT_S,
        # AMQP only: a connection that is gone without a word is found out in twice this. The tick of one second is also
        # how soon an idle consumer looks up, and sees that it is to stop.
        broker_heartbeat=HEALTH_CHECK_S,
        broker_heartbeat_checkrate=HEALTH_CHECK_S,
        broker_pool_limit=2,
        broker_transport_options=options,
    )
    app.safekeep_queues = queues
    app.safekeep_prefix = prefix
    return app


class CeleryHints:
    """Sends hints and pulses through Celery, from any thread. All calls block, for a few seconds at worst."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_celery(settings)
        # A hint that is older than the next one would be is only in its way.
        self._expires_s = settings.hint_interval_s
        self._length_max = settings.queue_length_max
        self._lock = threading.Lock()
        self._connection: Any = None
        self._channel: Any = None
        #: The length of each queue, and until when it is believed.
        self._lengths: dict[str, tuple[int, float]] = {}

    def send(self, hint: Hint) -> None:
        """Put `hint` in its queue, unless that is long enough. Raises QueueLengthError, or another HintError."""
        queue = self._app.safekeep_queues[hint.queue]
        with self._lock:
            if self._length(queue) >= self._length_max:
                raise QueueLengthError("the queue is long enough")
            self._publish(queue, TASK, (list(hint.job_guids),), self._expires_s)

    def send_pulse(self, name: str) -> None:
        """Send a pulse to the worker process that runs with this `name`. Raises HintError."""
        queue = _pulse_queue(self._app.safekeep_prefix, name)
        with self._lock:
            self._publish(queue, PULSE_TASK, (), PULSE_EXPIRES_S)

    def check(self) -> None:
        """Find out whether the queue can be reached. Raises HintError."""
        try:
            with self._app.connection_for_write(connect_timeout=CONNECT_TIMEOUT_S) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_TIMEOUT_S)
        except Exception as error:  # the transports' errors share no root
            raise HintError(f"the queue cannot be reached: {_cause(error)}") from error

    def close(self) -> None:
        """Close the connection. Another message would open one again."""
        with self._lock:
            self._give_up()

    def _publish(self, queue: Any, task: str, arguments: tuple[Any, ...], expires_s: float) -> None:
        try:
            self._app.send_task(
                task,
                args=arguments,
                queue=queue,
                expires=expires_s,
                ignore_result=True,
                retry=False,
                producer=self._app.amqp.Producer(self._open(), auto_declare=False),
                confirm_timeout=SOCKET_TIMEOUT_S,
            )
        except Exception as error:  # the transports' errors share no root
            self._give_up()
            raise HintError(f"the queue did not take a message: {_cause(error)}") from error

    def _length(self, queue: Any) -> int:
        """How many messages wait in `queue`."""
        length, until = self._lengths.get(queue.name, (0, 0.0))
        if time.monotonic() < until:
            return length
        try:
            length = int(queue.measure(self._open()))
        except Exception as error:  # the transports' errors share no root
            self._give_up()
            raise HintError(f"the queue does not say its length: {_cause(error)}") from error
        self._lengths[queue.name] = (length, time.monotonic() + LENGTH_LIFETIME_S)
        return length

    def _open(self) -> Any:
        """The channel, on a connection of our own: what went wrong on one is never met again on the next."""
        if self._channel is None:
            self._connection = self._app.connection_for_write(connect_timeout=CONNECT_TIMEOUT_S)
            self._connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_TIMEOUT_S)
            self._channel = self._connection.channel()
        return self._channel

    def _give_up(self) -> None:
        """Drop the connection after an error; the next message gets a new one."""
        connection, self._connection, self._channel = self._connection, None, None
        self._lengths.clear()
        if connection is not None:
            with suppress(Exception):  # the connection is broken, and how it says so does not matter
                connection.collect()


def delete_queues(settings: Settings) -> None:
    """Leave nothing of ours on the queue. Raises HintError."""
    app = create_celery(settings)
    try:
        with app.connection_for_write(connect_timeout=CONNECT_TIMEOUT_S) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_TIMEOUT_S)
            for queue in app.safekeep_queues.values():
                bound = queue(connection.channel())
                bound.declare()
                bound.purge()  # on Redis a queue is its messages
                bound.delete()
    except Exception as error:  # the transports' errors share no root
        raise HintError(f"the queues were not deleted: {_cause(error)}") from error


def run_worker(
    settings: Settings,
    take: Callable[[Sequence[str]], None],
    on_ready: Callable[[], None],
    *,
    on_pulse: Callable[[], None] | None = None,
    name: str | None = None,
) -> int:
    """Consume hints until SIGTERM or SIGINT, handing each to `take`; the exit code.

    `on_ready` is called when the queue is being consumed. With a `name`, unique to this process, `on_pulse` is called
    in a thread of Celery's for each pulse that was sent to that name. Blocks, and must run in the main thread, for the
    signals.
    """
    app = create_celery(settings, name)

    @app.task(name=TASK)  # type: ignore[untyped-decorator] # celery publishes no types
    def look(guids: Any) -> None:
        # What is in a message is not trusted: anything that is no list is dropped.
        if isinstance(guids, list):
            take(guids)

    @app.task(name=PULSE_TASK)  # type: ignore[untyped-decorator] # celery publishes no types
    def pulse() -> None:
        if on_pulse is not None:
            on_pulse()

    # Celery would configure logging unless somebody listens to this.
    signals.setup_logging.connect(_leave_logging_alone)
    signals.worker_ready.connect(lambda **_: on_ready(), weak=False)
    with warnings.catch_warnings():
        # Celery warns a root user because of pickled messages; we take JSON only.
        warnings.simplefilter("ignore", SecurityWarning)
        worker = app.Worker(
            pool="threads",
            concurrency=THREADS,
            queues=[queue.name for queue in app.safekeep_queues.values()],
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
    worker.start()
    return int(worker.exitcode or 0)


def _pulse_queue(prefix: str, name: str) -> _Queue:
    return _Queue(f"{prefix}pulse.{name}", expires=PULSE_EXPIRES_S)


def _leave_logging_alone(**_: object) -> None:
    pass


def _cause(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
