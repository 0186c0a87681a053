"""One step of a job: at most one call that matters, then what the job should record. The same flow for every operation.

Steps know neither queue nor database: they are handed a claim and give back a `Step`.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.cf_errors import CfError
from shared.errors import SecretsError
from shared.records import JobError, Step
from shared.states import Event, JobState
from worker.broker.client import NotReceivedError, Origin, UnclearError
from worker.broker.outcome import Meaning, unable
from worker.hooks import Hook, Point, pass_by
from worker.steps.operations import AT_BROKER, read_facts
from worker.steps.pauses import before_poll, before_removal, before_retry

if TYPE_CHECKING:
    from shared.records import Claim, Json
    from shared.settings import Settings
    from worker.broker.client import Answer, BrokerClient
    from worker.broker.outcome import Outcome

JOB_TIMEOUT: Final = JobError.of(CfError.JOB_TIMEOUT)

#: Answers to a start call after which the broker has certainly not begun anything.
_WITHOUT_EFFECT: Final = frozenset({Meaning.REFUSAL, Meaning.WAIT, Meaning.NOT_RECEIVED})
#: Refusals that leave nothing to be removed even if an earlier call had arrived: it is somebody else's, or gone.
_NOTHING_OF_OURS: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.GONE})


class NotCalledError(NotReceivedError):
    """We could not even try; that says nothing about the broker."""


class Steps:
    """Takes steps for claimed jobs. `worker` names the process in the records; `at` is for tests."""

    def __init__(self, settings: Settings, client: BrokerClient, worker: str, at: Hook = pass_by) -> None:
        self._settings = settings
        self._client = client
        self._worker = worker
        self._at = at

    async def take(self, claim: Claim) -> Step:
        """Do what is next for the job and say what came of it. Never raises for anything that a broker does."""
        if claim.lost_steps >= self._settings.lost_steps_max:
            return self._give_up(claim, f"{claim.lost_steps} workers in a row did not come back from it")
        if claim.state is JobState.POLL and claim.may_call:
            return await self._poll(claim)
        if claim.is_expired or not claim.may_call:
            return self._expire(claim)
        if claim.attempts > self._attempts(claim):
            # Counted when claimed: workers died, or were fenced off, on every attempt before this one.
            return self._give_up(claim, f"it could not be started in {self._attempts(claim)} attempts")
        return await self._start(claim)

    def _give_up(self, claim: Claim, reason: str) -> Step:
        error = unable(claim.operation.noun, reason)
        return self._end(claim, Event.GIVEN_UP, "attempts exhausted", error)

    def _expire(self, claim: Claim) -> Step:
        return self._end(claim, Event.EXPIRED, "expired", JOB_TIMEOUT)

    def _end(self, claim: Claim, event: Event, outcome: str, error: JobError) -> Step:
        """The end of a job without another call; this claim had no effect, and what earlier ones did is counted."""
        return self._step(claim, "none", event, outcome, errors=(error,), had_no_effect=claim.state is JobState.START)

    def _attempts(self, claim: Claim) -> int:
        return self._settings.clean_up_attempts if claim.operation.is_clean_up else self._settings.start_attempts

    async def _start(self, claim: Claim) -> Step:
        operation = AT_BROKER[claim.operation]
        started = time.monotonic()
        query = {"accepts_incomplete": "true"}
        if claim.operation.is_removal:
            answer = await self._ask(claim, operation.method, "", self._catalog_ids(claim) | query)
        else:
            answer = await self._ask(claim, operation.method, "", query, claim.request_body)
        outcome = operation.read_start(claim.operation.noun, answer)
        event = self._start_event(claim, outcome)
        retry = before_removal if claim.operation.is_clean_up else before_retry
        pauses = {
            Event.ACCEPTED: lambda: before_poll(self._settings, 0, outcome.retry_after_s),
            Event.TRY_AGAIN: lambda: retry(self._settings, claim.attempts, outcome.retry_after_s),
        }
        return self._step(
            claim,
            "start",
            event,
            outcome.meaning,
            outcome=outcome,
            due_in_s=pauses[event]() if event in pauses else None,
            facts=await self._facts(claim) if event is Event.SUCCEEDED else {},
            started=started,
            had_no_effect=outcome.meaning in _WITHOUT_EFFECT,
            was_answered=_was_answered(answer, outcome),
        )

    def _start_event(self, claim: Claim, outcome: Outcome) -> Event:
        is_last = claim.attempts >= self._attempts(claim)
        match outcome.meaning:
            case Meaning.ACCEPTED:
                return Event.ACCEPTED
            case Meaning.SUCCESS:
                return Event.SUCCEEDED
            case Meaning.REFUSAL if not claim.operation.is_clean_up:
                return Event.FAILED
            case Meaning.WAIT:
                # A clean-up has no user who waits for it: only its deadline ends its patience.
                is_last = not claim.operation.is_clean_up and claim.waited_s >= self._settings.busy_patience_s
        return Event.GIVEN_UP if is_last else Event.TRY_AGAIN

    async def _poll(self, claim: Claim) -> Step:
        operation = AT_BROKER[claim.operation]
        started = time.monotonic()
        query = self._catalog_ids(claim)
        if claim.broker_operation is not None:
            query["operation"] = claim.broker_operation
        answer = await self._ask(claim, "GET", "/last_operation", query)
        outcome = operation.read_poll(claim.operation.noun, answer)
        event = {
            Meaning.SUCCESS: Event.SUCCEEDED,
            Meaning.FAILURE: Event.START_OVER if claim.operation.is_clean_up else Event.FAILED,
            Meaning.IN_PROGRESS: Event.IN_PROGRESS,
        }.get(outcome.meaning, Event.TRY_AGAIN)
        is_open = event in {Event.IN_PROGRESS, Event.TRY_AGAIN, Event.START_OVER}
        if is_open and claim.is_expired:
            # The deadline has passed, and this was the last look: what had been finished by now would have counted.
            event, is_open = Event.EXPIRED, False
        pause_s = None
        if is_open:
            is_again = event is Event.START_OVER
            pause_s = (
                before_removal(self._settings, claim.attempts, None)
                if is_again
                else before_poll(self._settings, claim.polls + 1, outcome.retry_after_s)
            )
        return self._step(
            claim,
            "poll",
            event,
            outcome.meaning,
            outcome=outcome,
            due_in_s=pause_s,
            facts=await self._facts(claim) if event is Event.SUCCEEDED else {},
            errors=(JOB_TIMEOUT,) if event is Event.EXPIRED else (),
            started=started,
            was_answered=_was_answered(answer, outcome),
        )

    async def _facts(self, claim: Claim) -> Json:
        """What the broker tells of a finished backup; nothing when it does not answer, since the backup is there."""
        if not AT_BROKER[claim.operation].has_facts:
            return {}
        answer = await self._ask(claim, "GET", "", {})
        if isinstance(answer, NotReceivedError | UnclearError) or answer.body is None:
            return {}
        return read_facts(answer.body)

    def _catalog_ids(self, claim: Claim) -> dict[str, str]:
        service_id, plan_id = claim.catalog_ids
        return {"service_id": service_id, "plan_id": plan_id}

    async def _ask(
        self, claim: Claim, method: str, suffix: str, query: dict[str, str], body: str | None = None
    ) -> Answer | NotReceivedError | UnclearError:
        origin = Origin(
            job_guid=str(claim.job_guid),
            request_id=claim.request_id,
            traceparent=claim.traceparent,
            # OSB: what the platform does by itself, such as removing remains, is on nobody's behalf.
            user_guid=None if claim.operation.is_clean_up else claim.user_guid,
        )
        path = AT_BROKER[claim.operation].path(claim) + suffix
        self._at(Point.BEFORE_CALL, claim)
        try:
            answer = await self._client.call(claim.broker, method, path, query=query, body=body, origin=origin)
        except (NotReceivedError, UnclearError) as error:
            return error
        except SecretsError:
            # An operator's mistake with the keys, which the next attempt may find mended.
            return NotCalledError("was not called: its stored password does not open with the configured keys")
        self._at(Point.AFTER_CALL, claim)
        return answer

    def _step(
        self,
        claim: Claim,
        call: str,
        event: Event,
        meaning: str,
        *,
        outcome: Outcome | None = None,
        due_in_s: float | None = None,
        facts: Json | None = None,
        errors: tuple[JobError, ...] = (),
        started: float | None = None,
        had_no_effect: bool = False,
        was_answered: bool | None = None,
    ) -> Step:
        if event in {Event.FAILED, Event.GIVEN_UP} and outcome and outcome.error:
            errors = (outcome.error,)
        said = outcome.description or (outcome.error and outcome.error.detail) if outcome else None
        leaves_remains = (
            event in {Event.FAILED, Event.GIVEN_UP, Event.EXPIRED}
            and not claim.operation.is_removal
            and claim.may_exist(had_no_effect=had_no_effect)
            and not (call == "start" and outcome and outcome.http_status in _NOTHING_OF_OURS)
        )
        return Step(
            claim=claim,
            worker=self._worker,
            call=call,
            event=event,
            outcome=meaning,
            http_status=outcome.http_status if outcome else None,
            duration_s=time.monotonic() - started if started is not None else 0.0,
            detail=said,
            due_in_s=due_in_s,
            broker_operation=outcome.operation if outcome else None,
            broker_description=outcome.description if outcome else None,
            errors=errors,
            warnings=claim.warnings_of_remains() if leaves_remains else (),
            is_wait=call == "start" and meaning == Meaning.WAIT,
            had_no_effect=had_no_effect,
            was_answered=was_answered,
            clean_up_in_s=0.0 if leaves_remains else None,
            facts=facts or {},
        )


def _was_answered(answer: Answer | NotReceivedError | UnclearError, outcome: Outcome) -> bool | None:
    """Whether the broker is well; None when this call does not tell."""
    if isinstance(answer, NotCalledError):
        return None
    if isinstance(answer, NotReceivedError | UnclearError):
        return False
    if outcome.meaning is Meaning.WAIT:
        return None if answer.status == HTTPStatus.SERVICE_UNAVAILABLE else True
    return answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
