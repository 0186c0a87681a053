"""`python -m deploy.postgres_broker`: serve the broker until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError
from waitress.server import create_server

from deploy.postgres_broker.app import create_app
from deploy.postgres_broker.settings import BrokerSettings

if TYPE_CHECKING:
    from types import FrameType

_log = logging.getLogger("postgres_broker")


def main() -> None:
    """Read the settings, serve, and end the work in hand when told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = BrokerSettings()
    except ValidationError as error:
        names = ", ".join(f"POSTGRES_BROKER_{str(problem['loc'][0]).upper()}" for problem in error.errors())
        sys.exit(f"postgres_broker: missing or wrong settings: {names}")

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    app, dumps = create_app(settings)
    try:
        server = create_server(app, host=settings.host, port=settings.port, threads=8)
        _log.info("listening on http://%s:%d", settings.host, settings.port)
        server.run()
    finally:
        dumps.stop()


if __name__ == "__main__":
    main()
