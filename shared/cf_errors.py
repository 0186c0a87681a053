"""The table of errors: everything that a client can be told, with Cloud Foundry's code, title, HTTP status and text.

Codes, titles and texts are those of Cloud Foundry's v3 API, so that its clients recognise them. `errors.py` has the
exceptions that carry them to the API's error middleware; those of failed jobs are shown in the job.
"""

from __future__ import annotations

from enum import Enum


class CfError(Enum):
    """One row each. Where the text has a `{}`, whoever raises the error fills it."""

    INVALID_AUTH_TOKEN = (1000, "CF-InvalidAuthToken", 401, "Invalid Auth Token")
    MESSAGE_PARSE_ERROR = (1001, "CF-MessageParseError", 400, "Request invalid due to parse error: {}")
    BAD_REQUEST = (1004, "CF-BadRequest", 400, "Bad request: {}")
    NOT_FOUND = (10000, "CF-NotFound", 404, "Unknown request")
    UNKNOWN = (10001, "UnknownError", 500, "An unknown error occurred.")
    NOT_AUTHENTICATED = (10002, "CF-NotAuthenticated", 401, "Authentication error")
    NOT_AUTHORIZED = (10003, "CF-NotAuthorized", 403, "You are not authorized to perform the requested action")
    BAD_QUERY_PARAMETER = (10005, "CF-BadQueryParameter", 400, "The query parameter is invalid: {}")
    UNPROCESSABLE_ENTITY = (10008, "CF-UnprocessableEntity", 422, "{}")
    UNABLE_TO_PERFORM = (10009, "CF-UnableToPerform", 400, "{}")
    RESOURCE_NOT_FOUND = (10010, "CF-ResourceNotFound", 404, "{}")
    DATABASE_ERROR = (10011, "CF-DatabaseError", 500, "Database error")
    RATE_LIMIT_EXCEEDED = (10013, "CF-RateLimitExceeded", 429, "Rate Limit Exceeded")
    IP_BASED_RATE_LIMIT_EXCEEDED = (
        10014,
        "CF-IPBasedRateLimitExceeded",
        429,
        "Rate Limit Exceeded: Unauthenticated requests from this IP address have exceeded the limit. Please log in.",
    )
    SERVICE_UNAVAILABLE = (10015, "CF-ServiceUnavailable", 503, "{}")
    ORG_SUSPENDED = (10017, "CF-OrgSuspended", 403, "The organization is suspended")
    SPACE_SUSPENDED = (10019, "CF-SpaceSuspended", 403, "The space is suspended")
    RESOURCE_BEING_DELETED = (10020, "CF-ResourceBeingDeleted", 422, "The {} is being deleted")
    # 503 in Cloud Foundry's own table, and 502 on the wire, where its clients meet it.
    UAA_UNAVAILABLE = (20004, "CF-UaaUnavailable", 502, "The UAA service is currently unavailable")
    UAA_RATE_LIMITED = (
        20008,
        "CF-UaaRateLimited",
        429,
        "The UAA is currently rate limited. Please try again later",
    )
    ASYNC_SERVICE_INSTANCE_OPERATION_IN_PROGRESS = (
        60016,
        "CF-AsyncServiceInstanceOperationInProgress",
        409,
        "An operation for service instance {} is in progress.",  # the instance's name, not its guid
    )
    SERVICE_BROKER_ASYNC_REQUIRED = (
        270014,
        "CF-ServiceBrokerAsyncRequired",
        400,
        "This service plan requires client support for asynchronous service operations.",
    )
    SERVICE_BROKER_CONCURRENCY_ERROR = (
        270018,
        "CF-ServiceBrokerConcurrencyError",
        422,
        "The service broker could not perform this operation in parallel with other running operations",
    )
    JOB_TIMEOUT = (290006, "CF-JobTimeout", 524, "The job execution has timed out.")

    def __init__(self, code: int, title: str, status: int, text: str) -> None:
        self.code = code
        self.title = title
        self.status = status
        self.text = text

    @property
    def statuses(self) -> tuple[int, ...]:
        """The HTTP statuses that it can come with: its own, or a more exact one of HTTP's."""
        return (self.status, 408, 413) if self is CfError.BAD_REQUEST else (self.status,)
