"""Celery, and the only module that imports it: hints go out and come in here, and nothing else travels in the queue.

The settings below are chosen for hints that may be lost: early acknowledgement, no results, no prefetching, a bound on
every wait. `docs/decisions/0003-celery-carries-hints.md` says why for each.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import celery
import kombu
from celery import signals
from celery.platforms import SecurityWarning

from shared.errors import HintError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.records import Hint
    from shared.settings import Settings

TASK: Final = "safekeep.look"
QUEUES: Final = ("start", "poll")
#: Celery threads that hand hints over to the engine; a thread is held only while there is no room for its jobs.
THREADS: Final = 4
CONNECT_TIMEOUT_S: Final = 2
SOCKET_TIMEOUT_S: Final = 5
HEALTH_CHECK_S: Final = 10

_REDIS_OPTIONS: Final = {
    "socket_timeout": SOCKET_TIMEOUT_S,
    "socket_connect_timeout": CONNECT_TIMEOUT_S,
    "socket_keepalive": True,
    "health_check_interval": HEALTH_CHECK_S,
    "client_name": "safekeep",
}
_AMQP_OPTIONS: Final = {"confirm_publish": True, "connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": SOCKET_TIMEOUT_S}


def create_celery(settings: Settings) -> Any:  # Any: celery publishes no types
    """A Celery application for hints on the configured queue."""
    url = settings.queue_url.get_secret_value()
    is_redis = url.startswith("redis")
    # With Redis the prefix stands before every key; RabbitMQ has no such option, so it is part of the names.
    names = {queue: queue if is_redis else settings.queue_prefix + queue for queue in QUEUES}
    options = _REDIS_OPTIONS | {"global_keyprefix": settings.queue_prefix} if is_redis else _AMQP_OPTIONS
    app = celery.Celery("safekeep", broker=url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_queues=[
            kombu.Queue(name, kombu.Exchange(name, type="direct"), routing_key=name) for name in names.values()
        ],
        task_create_missing_queues=False,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=is_redis,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_TIMEOUT_S,
        broker_pool_limit=2,
        broker_transport_options=options,
    )
    app.safekeep_queue_names = names
    return app


class CeleryHints:
    """Sends hints through Celery. Both calls block, for a few seconds at worst."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_celery(settings)
        # A hint that is older than the next one would be is only in its way.
        self._expires_s = settings.hint_interval_s

    def send(self, hint: Hint) -> None:
        """Put `hint` in its queue. Raises HintError."""
        try:
            self._app.send_task(
                TASK,
                args=(list(hint.job_guids),),
                queue=self._app.safekeep_queue_names[hint.queue],
                expires=self._expires_s,
                ignore_result=True,
                retry=False,
            )
        except Exception as error:  # the transports' errors share no root
            raise HintError(f"the queue did not take a hint: {_cause(error)}") from error

    def check(self) -> None:
        """Find out whether the queue can be reached. Raises HintError."""
        try:
            with self._app.connection_for_write(connect_timeout=CONNECT_TIMEOUT_S) as connection:
                connection.ensure_connection(max_retries=1, timeout=CONNECT_TIMEOUT_S)
        except Exception as error:  # the transports' errors share no root
            raise HintError(f"the queue cannot be reached: {_cause(error)}") from error


def run_worker(settings: Settings, take: Callable[[Sequence[str]], None], on_ready: Callable[[], None]) -> int:
    """Consume hints until SIGTERM or SIGINT, handing each to `take`; the exit code.

    `on_ready` is called when the queue is being consumed. Blocks, and must run in the main thread, for the signals.
    """
    app = create_celery(settings)

    @app.task(name=TASK)  # type: ignore[untyped-decorator] # celery publishes no types
    def look(guids: Any) -> None:
        # What is in a message is not trusted: anything that is no list is dropped.
        if isinstance(guids, list):
            take(guids)

    # Celery would configure logging unless somebody listens to this.
    signals.setup_logging.connect(_leave_logging_alone)
    signals.worker_ready.connect(lambda **_: on_ready(), weak=False)
    with warnings.catch_warnings():
        # Celery warns a root user because of pickled messages; we take JSON only.
        warnings.simplefilter("ignore", SecurityWarning)
        worker = app.Worker(
            pool="threads",
            concurrency=THREADS,
            queues=list(app.safekeep_queue_names.values()),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
    worker.start()
    return int(worker.exitcode or 0)


def _leave_logging_alone(**_: object) -> None:
    pass


def _cause(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
