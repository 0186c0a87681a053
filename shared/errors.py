"""The errors of Safekeep: one root, and below it those that a client may see, each with its row of `cf_errors.py`.

Turning an error into a response is left to the API's error middleware.
"""

from __future__ import annotations

from typing import ClassVar

from shared.cf_errors import CfError


class SafekeepError(Exception):
    """The root of everything that Safekeep raises on purpose."""


class SettingsError(SafekeepError):
    """A setting is missing or wrong; the text names it and says what is expected."""


class ApiError(SafekeepError):
    """An error that is answered to the client as `{"errors":[{code,detail,title}]}`, with its row of the table.

    `detail` is the text for people; without one, the row's own text is used. `retry_after_s` becomes the header
    `Retry-After`, in seconds; `status` replaces the row's HTTP status where HTTP has a more exact one.
    """

    row: ClassVar[CfError] = CfError.UNKNOWN

    def __init__(
        self, detail: str | None = None, *, retry_after_s: int | None = None, status: int | None = None
    ) -> None:
        self.detail = self.row.text if detail is None else detail
        self.retry_after_s = retry_after_s
        self.status = self.row.status if status is None else status
        super().__init__(self.detail)


class UnknownError(ApiError):
    """Something that nobody foresaw; the log has the details."""


class InvalidAuthTokenError(ApiError):
    """A bearer token was sent and is not valid. Clients refresh their token on this one."""

    row = CfError.INVALID_AUTH_TOKEN


class MessageParseError(ApiError):
    """The body says that it is JSON and is not."""

    row = CfError.MESSAGE_PARSE_ERROR

    def __init__(self) -> None:
        super().__init__(self.row.text.format("invalid request body"))


class BadRequestError(ApiError):
    """The request breaks HTTP's rules or our limits before its content matters."""

    row = CfError.BAD_REQUEST

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(self.row.text.format(reason), status=status)


class NotFoundError(ApiError):
    """No such route, or not with this method; Cloud Foundry has no 405."""

    row = CfError.NOT_FOUND


class NotAuthenticatedError(ApiError):
    """No bearer token was sent at all."""

    row = CfError.NOT_AUTHENTICATED


class NotAuthorizedError(ApiError):
    """The caller may see this but not do it, or the token lacks the scope."""

    row = CfError.NOT_AUTHORIZED


class BadQueryParameterError(ApiError):
    """A query parameter is unknown, repeated or out of range."""

    row = CfError.BAD_QUERY_PARAMETER

    def __init__(self, reason: str) -> None:
        super().__init__(self.row.text.format(reason))


class UnprocessableEntityError(ApiError):
    """The request is understood and cannot be done; the detail says why."""

    row = CfError.UNPROCESSABLE_ENTITY

    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class ResourceNotFoundError(ApiError):
    """The thing does not exist, or the caller may not know that it does."""

    row = CfError.RESOURCE_NOT_FOUND

    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class DatabaseError(ApiError):
    """PostgreSQL refused a statement of ours, which is a bug."""

    row = CfError.DATABASE_ERROR


class RateLimitExceededError(ApiError):
    """The caller has used up the requests of the current window."""

    row = CfError.RATE_LIMIT_EXCEEDED


class IpBasedRateLimitExceededError(ApiError):
    """Requests without a token from this address have used up those of the current window."""

    row = CfError.IP_BASED_RATE_LIMIT_EXCEEDED


class ServiceUnavailableError(ApiError):
    """Something we depend on is away; trying again later is right."""

    row = CfError.SERVICE_UNAVAILABLE


class OrgSuspendedError(ApiError):
    """The instance's organization is suspended: only admins write."""

    row = CfError.ORG_SUSPENDED


class SpaceSuspendedError(ApiError):
    """The instance's space is suspended: only admins write."""

    row = CfError.SPACE_SUSPENDED


class ResourceBeingDeletedError(ApiError):
    """The organization or space of the instance is being deleted."""

    row = CfError.RESOURCE_BEING_DELETED

    def __init__(self, noun: str) -> None:
        super().__init__(self.row.text.format(noun))


class UaaUnavailableError(ApiError):
    """UAA cannot be asked for what verifying a token needs, and we have nothing from earlier."""

    row = CfError.UAA_UNAVAILABLE


class UaaRateLimitedError(ApiError):
    """UAA has too many requests, and we have nothing from earlier."""

    row = CfError.UAA_RATE_LIMITED


class OperationInProgressError(ApiError):
    """Another operation is active on the service instance, named by its *name*, as Cloud Foundry does."""

    row = CfError.ASYNC_SERVICE_INSTANCE_OPERATION_IN_PROGRESS

    def __init__(self, instance_name: str) -> None:
        super().__init__(self.row.text.format(instance_name))


class StoreError(SafekeepError):
    """PostgreSQL refused a statement. A bug or a broken rule of the schema; trying again will not help."""


class StoreUnavailableError(ServiceUnavailableError, StoreError):
    """PostgreSQL cannot be reached, is starting or stopping, or took too long. Trying again later is right."""

    def __init__(self, detail: str = "Database connection failure") -> None:
        super().__init__(detail, retry_after_s=5)


class SchemaError(SafekeepError):
    """The database's schema is not the one that this version of Safekeep expects."""


class SecretsError(SafekeepError):
    """A sealed secret cannot be opened with the configured keys."""


class HintError(SafekeepError):
    """The queue did not take a hint. Never fatal: the dispatcher sends another one later."""


class QueueLengthError(HintError):
    """The queue is in order and holds enough hints; another queue may still take some."""
