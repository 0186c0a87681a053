"""The errors of Safekeep: one root, and below it those that a client may see, each with its Cloud Foundry code.

Codes, titles and texts are those of Cloud Foundry's v3 API, so that its clients recognise them. Turning an error into
a response is left to the API's error middleware.
"""

from __future__ import annotations

from typing import ClassVar


class SafekeepError(Exception):
    """The root of everything that Safekeep raises on purpose."""


class SettingsError(SafekeepError):
    """A setting is missing or wrong; the text names it and says what is expected."""


class ApiError(SafekeepError):
    """An error that is answered to the client as `{"errors":[{code,detail,title}]}`.

    `detail` is the text for people; without one, the class's own text is used. `retry_after_s` becomes the header
    `Retry-After`, in seconds.
    """

    code: ClassVar[int] = 10001
    title: ClassVar[str] = "UnknownError"
    status: ClassVar[int] = 500
    text: ClassVar[str] = "An unknown error occurred."

    def __init__(self, detail: str | None = None, *, retry_after_s: int | None = None) -> None:
        self.detail = self.text if detail is None else detail
        self.retry_after_s = retry_after_s
        super().__init__(self.detail)


class UnknownError(ApiError):
    """Something that nobody foresaw; the log has the details."""


class InvalidAuthTokenError(ApiError):
    """A bearer token was sent and is not valid. Clients refresh their token on this one."""

    code, title, status, text = 1000, "CF-InvalidAuthToken", 401, "Invalid Auth Token"


class MessageParseError(ApiError):
    """The body says that it is JSON and is not."""

    code, title, status = 1001, "CF-MessageParseError", 400
    text = "Request invalid due to parse error: invalid request body"


class BadRequestError(ApiError):
    """The request breaks HTTP's rules or our limits before its content matters."""

    code, title, status, text = 1004, "CF-BadRequest", 400, "Bad request"


class NotFoundError(ApiError):
    """No such route, or not with this method; Cloud Foundry has no 405."""

    code, title, status, text = 10000, "CF-NotFound", 404, "Unknown request"


class NotAuthenticatedError(ApiError):
    """No bearer token was sent at all."""

    code, title, status, text = 10002, "CF-NotAuthenticated", 401, "Authentication error"


class NotAuthorizedError(ApiError):
    """The caller may see this but not do it, or the token lacks the scope."""

    code, title, status = 10003, "CF-NotAuthorized", 403
    text = "You are not authorized to perform the requested action"


class BadQueryParameterError(ApiError):
    """A query parameter is unknown, repeated or out of range."""

    code, title, status = 10005, "CF-BadQueryParameter", 400
    text = "The query parameter is invalid"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{self.text}: {reason}")


class UnprocessableEntityError(ApiError):
    """The request is understood and cannot be done; the detail says why."""

    code, title, status, text = 10008, "CF-UnprocessableEntity", 422, "The request cannot be processed"


class ResourceNotFoundError(ApiError):
    """The thing does not exist, or the caller may not know that it does."""

    code, title, status, text = 10010, "CF-ResourceNotFound", 404, "Resource not found"


class ServiceUnavailableError(ApiError):
    """Something we depend on is away; trying again later is right."""

    code, title, status, text = 10015, "CF-ServiceUnavailable", 503, "Database connection failure"


class OperationInProgressError(ApiError):
    """Another operation is active on the service instance, named by its *name*, as Cloud Foundry does."""

    code, title, status = 60016, "CF-AsyncServiceInstanceOperationInProgress", 409
    text = "An operation for the service instance is in progress."

    def __init__(self, instance_name: str) -> None:
        super().__init__(f"An operation for service instance {instance_name} is in progress.")


class StoreError(SafekeepError):
    """PostgreSQL refused a statement. A bug or a broken rule of the schema; trying again will not help."""


class StoreUnavailableError(ServiceUnavailableError, StoreError):
    """PostgreSQL cannot be reached, is starting or stopping, or took too long. Trying again later is right."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, retry_after_s=5)


class SchemaError(SafekeepError):
    """The database's schema is not the one that this version of Safekeep expects."""


class SecretsError(SafekeepError):
    """A sealed secret cannot be opened with the configured keys."""


class HintError(SafekeepError):
    """The queue did not take a hint. Never fatal: the dispatcher sends another one later."""


class QueueLengthError(HintError):
    """The queue is in order and holds enough hints; another queue may still take some."""
