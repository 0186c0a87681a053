"""What a broker's answer means for the job: one table for calls that begin something, one for polls.

Rules: OSB API 2.17 for asynchronous operations, and the backup extension that is described in `docs/broker-api.md`.
How long to wait and how often to try is decided by the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from shared.cf_errors import CfError
from shared.records import JobError
from worker.broker.client import NotReceivedError, UnclearError

if TYPE_CHECKING:
    from shared.records import Json
    from worker.broker.client import Answer

OPERATION_LENGTH_MAX: Final = 10_000  # OSB 2.17, "operation"
DESCRIPTION_BYTES_MAX: Final = 8 * 1024


class Meaning(StrEnum):
    """What an answer means. The values are what `job_steps.outcome` stores."""

    SUCCESS = "success"  # done
    ACCEPTED = "accepted"  # the broker works on it
    REFUSAL = "refusal"  # definite: nothing was started, and asking again will not help
    WAIT = "wait"  # busy: the same call later, which is not counted as an attempt
    NOT_RECEIVED = "not received"  # nothing was started; the same call later
    AMBIGUOUS = "ambiguous"  # something may have been started; the same call later, with the same id
    IN_PROGRESS = "in progress"
    FAILURE = "failure"  # the broker says that the operation failed
    UNCLEAR = "unclear"  # a poll told us nothing; only the deadline ends a job that polls


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The meaning of an answer, with what it carries. `error` says what the job's reader gets if this was the last."""

    meaning: Meaning
    http_status: int | None = None
    operation: str | None = None
    description: str | None = None
    retry_after_s: float | None = None
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """What a status of a start call means, and what to tell the job's reader when the broker says nothing itself."""

    statuses: range
    meaning: Meaning
    text: str
    word: str | None = None  #: only with this `error` in the body
    needs_retry_after: bool = False  #: only with a `Retry-After`
    quotes_broker: bool = True  #: whether the broker's description goes before `text`
    error: CfError | None = None  #: instead of UNABLE_TO_PERFORM

    def fits(self, answer: Answer, word: Any) -> bool:
        return (
            answer.status in self.statuses
            and self.word in {None, word if isinstance(word, str) else None}
            and (answer.retry_after_s is not None or not self.needs_retry_after)
        )


def _only(status: HTTPStatus) -> range:
    return range(status, status + 1)


_NOT_SUCCESSFUL: Final = (
    _Row(
        _only(HTTPStatus.UNPROCESSABLE_ENTITY),
        Meaning.WAIT,
        CfError.SERVICE_BROKER_CONCURRENCY_ERROR.text,
        word="ConcurrencyError",
        error=CfError.SERVICE_BROKER_CONCURRENCY_ERROR,
    ),
    _Row(
        _only(HTTPStatus.UNPROCESSABLE_ENTITY),
        Meaning.REFUSAL,
        CfError.SERVICE_BROKER_ASYNC_REQUIRED.text,
        word="AsyncRequired",
        quotes_broker=False,
        error=CfError.SERVICE_BROKER_ASYNC_REQUIRED,
    ),
    _Row(
        _only(HTTPStatus.UNPROCESSABLE_ENTITY),
        Meaning.REFUSAL,
        "the service broker refused the {noun} and gave no reason",
        error=CfError.UNPROCESSABLE_ENTITY,
    ),
    _Row(_only(HTTPStatus.TOO_MANY_REQUESTS), Meaning.WAIT, "the service broker has too many requests"),
    _Row(
        _only(HTTPStatus.SERVICE_UNAVAILABLE),
        Meaning.WAIT,
        "the service broker is unavailable",
        needs_retry_after=True,
    ),
    _Row(
        _only(HTTPStatus.REQUEST_TIMEOUT),
        Meaning.NOT_RECEIVED,
        "the service broker did not receive the request in time",
    ),
    _Row(
        _only(HTTPStatus.UNAUTHORIZED),
        Meaning.REFUSAL,
        "authentication with the service broker failed",
        quotes_broker=False,
    ),
    _Row(
        _only(HTTPStatus.CONFLICT),
        Meaning.REFUSAL,
        "the {noun} id is already used with different attributes",
    ),
    _Row(_only(HTTPStatus.GONE), Meaning.REFUSAL, "the service instance or the {noun} no longer exists"),
    _Row(range(400, 500), Meaning.REFUSAL, "the service broker refused the request with status {status}"),
    _Row(range(500, 1000), Meaning.AMBIGUOUS, "the service broker answered with status {status}"),
    _Row(range(1000), Meaning.AMBIGUOUS, "the service broker gave an invalid response with status {status}"),
)


def unable(noun: str, reason: str) -> JobError:
    """Cloud Foundry's error for an operation that a broker did not bring about: `noun` is "backup" or "restore"."""
    return JobError.of(CfError.UNABLE_TO_PERFORM, f"{noun} could not be completed: {reason}")


def of_start(noun: str, answer: Answer | NotReceivedError | UnclearError) -> Outcome:
    """The outcome of one start call, `PUT …?accepts_incomplete=true`."""
    if isinstance(answer, NotReceivedError):
        return Outcome(meaning=Meaning.NOT_RECEIVED, error=unable(noun, f"the service broker {answer}"))
    if isinstance(answer, UnclearError):
        return Outcome(meaning=Meaning.AMBIGUOUS, error=unable(noun, f"the service broker {answer}"))
    if answer.status in {HTTPStatus.OK, HTTPStatus.CREATED} and answer.body is not None:
        return Outcome(meaning=Meaning.SUCCESS, http_status=answer.status)
    return _accepted(answer) or _not_successful(noun, answer)


def of_delete(noun: str, answer: Answer | NotReceivedError | UnclearError) -> Outcome:
    """The outcome of one removal, `DELETE …?accepts_incomplete=true`. What is gone is removed."""
    if isinstance(answer, NotReceivedError | UnclearError):
        return of_start(noun, answer)
    is_removed = answer.status == HTTPStatus.OK and answer.body is not None
    if is_removed or answer.status == HTTPStatus.GONE:
        return Outcome(meaning=Meaning.SUCCESS, http_status=answer.status)
    return _accepted(answer) or _not_successful(noun, answer)


def _accepted(answer: Answer) -> Outcome | None:
    status, body = answer.status, answer.body
    if status == HTTPStatus.ACCEPTED and body is not None and _is_operation(body.get("operation")):
        return Outcome(
            meaning=Meaning.ACCEPTED,
            http_status=status,
            operation=body.get("operation"),
            retry_after_s=answer.retry_after_s,
        )
    return None


def of_delete_poll(noun: str, answer: Answer | NotReceivedError | UnclearError) -> Outcome:
    """The outcome of one poll of a removal: as of any other, but what is gone is removed."""
    if not isinstance(answer, NotReceivedError | UnclearError) and answer.status == HTTPStatus.GONE:
        return Outcome(meaning=Meaning.SUCCESS, http_status=answer.status)
    return of_poll(noun, answer)


def of_poll(noun: str, answer: Answer | NotReceivedError | UnclearError) -> Outcome:
    """The outcome of one poll, `GET …/last_operation`. Anything but a well-formed 200 tells nothing."""
    if isinstance(answer, NotReceivedError | UnclearError):
        return Outcome(meaning=Meaning.UNCLEAR, description=f"the service broker {answer}")
    state = answer.body.get("state") if answer.status == HTTPStatus.OK and answer.body is not None else None
    description = describe(answer.body)
    meaning = {
        "in progress": Meaning.IN_PROGRESS,
        "succeeded": Meaning.SUCCESS,
        "failed": Meaning.FAILURE,
    }.get(state if isinstance(state, str) else "", Meaning.UNCLEAR)
    error = None
    if meaning is Meaning.FAILURE:
        error = unable(noun, description or "the service broker reported a failure and gave no reason")
    return Outcome(
        meaning=meaning,
        http_status=answer.status,
        description=description,
        retry_after_s=answer.retry_after_s,
        error=error,
    )


def describe(body: Json | None) -> str | None:
    """The broker's `description`, fit to be shown: cut to 8 KiB between characters. None without one."""
    text: Any = None if body is None else body.get("description")
    if not isinstance(text, str) or not text.strip():
        return None
    # PostgreSQL takes no NUL, and lone surrogates are no text.
    clean = text.replace("\0", "").encode("utf-8", "replace")
    return clean[:DESCRIPTION_BYTES_MAX].decode("utf-8", "ignore").strip()


def _is_operation(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, str) or len(value) > OPERATION_LENGTH_MAX or "\0" in value:
        return False
    # A lone surrogate is no text: it could be neither stored nor sent back.
    return value.encode("utf-8", "replace").decode() == value


def _not_successful(noun: str, answer: Answer) -> Outcome:
    """The outcome of an answer to a start call that is not a well-formed success: the first row that fits."""
    said = describe(answer.body)
    word = answer.body.get("error") if answer.body is not None else None
    row = next(row for row in _NOT_SUCCESSFUL if row.fits(answer, word))
    if row.error is None:
        error = unable(noun, (said if row.quotes_broker else None) or row.text.format(noun=noun, status=answer.status))
    else:
        error = JobError.of(row.error, (said if row.quotes_broker else None) or row.text.format(noun=noun))
    return Outcome(
        meaning=row.meaning,
        http_status=answer.status,
        description=said,
        retry_after_s=answer.retry_after_s,
        error=error,
    )
