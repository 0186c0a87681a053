"""The log: one line per event, JSON for machines, readable text on a terminal. Secrets are never handed to it."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from shared.settings import Settings


#: The id of the request that is being handled, which stands in every line that is written meanwhile. A variable of our
#: own, since structlog's hold any number of names, and setting one costs every request twenty times as much.
logged_request_id: ContextVar[str | None] = ContextVar("logged_request_id", default=None)


def configure_logging(settings: Settings, process: str) -> None:
    """Send our own lines and those of libraries to standard error, in the configured form, marked with `process`."""
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer = _text() if as_text else structlog.processors.JSONRenderer(ensure_ascii=False)

    def add_process(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = process
        return event

    def add_request_id(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if (request_id := logged_request_id.get()) is not None:
            event.setdefault("request_id", request_id)
        return event

    before: list[structlog.typing.Processor] = [
        add_request_id,
        add_process,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        # Our own lines do without the standard library's records and handlers, which would double what a line costs.
        processors=[*before, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # Libraries say much at INFO that nobody on call needs.
    for noisy in ("celery", "kombu", "aiohttp.access", "psycopg.pool", "amqp"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[settings.log_level]))


class _Lines:
    """Writes lines to standard error, whole ones. Where nobody reads them, work goes on all the same."""

    def __init__(self, *_arguments: object) -> None:
        self._file: TextIO = sys.stderr

    def msg(self, line: str) -> None:
        """Write a line."""
        with _writing, suppress(OSError, ValueError):
            self._file.write(line + "\n")
            self._file.flush()

    debug = info = warning = error = critical = exception = msg


_writing = threading.Lock()


def _text() -> structlog.dev.ConsoleRenderer:
    # The default shows the local variables of every frame, and with them whatever secret is in one.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger for the module `name`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
