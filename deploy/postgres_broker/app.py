"""Putting the broker together: openbrokerapi's routes and ours, one set of checks before both."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Flask, jsonify, request
from openbrokerapi.api import BrokerCredentials, get_blueprint
from openbrokerapi.auth import BasicBrokerAuthenticator
from openbrokerapi.request_filter import check_originating_identity, check_version
from werkzeug.exceptions import HTTPException

from deploy.postgres_broker.backups import backup_blueprint
from deploy.postgres_broker.dumps import Dumps
from deploy.postgres_broker.instances import Server
from deploy.postgres_broker.osb import PostgresBroker
from deploy.postgres_broker.records import Records

if TYPE_CHECKING:
    from flask import Response
    from flask.typing import ResponseReturnValue

    from deploy.postgres_broker.settings import BrokerSettings

_log = logging.getLogger(__name__)


def create_app(settings: BrokerSettings) -> tuple[Flask, Dumps]:
    """The broker's application, and the work in its background, which has been resumed; stop it at the end."""
    records = Records(settings.data_directory)
    server = Server(settings.database_url.get_secret_value())
    dumps = Dumps(server, records, settings.data_directory, pg_bin=settings.pg_bin, concurrency=settings.concurrency)
    credentials = BrokerCredentials(settings.username, settings.password.get_secret_value())
    app = Flask(__name__)
    app.register_blueprint(get_blueprint(PostgresBroker(server, records), credentials, logging.getLogger("openbroker")))
    backups = backup_blueprint(records, dumps)
    for check in (check_version, check_originating_identity, BasicBrokerAuthenticator(credentials)):
        backups.before_request(check)
    app.register_blueprint(backups)
    app.after_request(_echo_request_identity)
    app.register_error_handler(Exception, _as_json)
    dumps.resume()
    return app, dumps


def _echo_request_identity(response: Response) -> Response:
    """OSB 2.17, "Request Identity": so that logs of both sides can be joined."""
    if identity := request.headers.get("X-Broker-API-Request-Identity"):
        response.headers["X-Broker-API-Request-Identity"] = identity
    return response


def _as_json(error: Exception) -> ResponseReturnValue:
    if isinstance(error, HTTPException):
        return jsonify({"description": error.description}), error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    _log.exception("unexpected error")
    return jsonify({"description": "the service broker made a mistake"}), HTTPStatus.INTERNAL_SERVER_ERROR
