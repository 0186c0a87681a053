"""One step of a job: at most one call that matters, then what the job should record. The same flow for every operation.

Steps know neither queue nor database: they are handed a claim and give back a `Step`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shared.errors import SecretsError
from shared.records import JobError, Step
from shared.states import Event, JobState
from worker.broker.client import NotReceivedError, Origin, UnclearError
from worker.broker.outcome import Meaning, of_poll, of_start, unable
from worker.hooks import Hook, Point, pass_by
from worker.steps.operations import RESOURCE_OF, read_facts
from worker.steps.pauses import before_poll, before_retry

if TYPE_CHECKING:
    from shared.records import Claim, Json
    from shared.settings import Settings
    from worker.broker.client import Answer, BrokerClient
    from worker.broker.outcome import Outcome

JOB_TIMEOUT: Final = JobError(290006, "CF-JobTimeout", "The job execution has timed out.")


class Steps:
    """Takes steps for claimed jobs. `worker` names the process in the records; `at` is for tests."""

    def __init__(self, settings: Settings, client: BrokerClient, worker: str, at: Hook = pass_by) -> None:
        self._settings = settings
        self._client = client
        self._worker = worker
        self._at = at

    async def take(self, claim: Claim) -> Step:
        """Do what is next for the job and say what came of it. Never raises for anything that a broker does."""
        if claim.is_expired:
            return self._step(claim, "none", Event.EXPIRED, "expired", errors=(JOB_TIMEOUT,))
        if claim.state is JobState.START:
            return await self._start(claim)
        return await self._poll(claim)

    async def _start(self, claim: Claim) -> Step:
        noun = RESOURCE_OF[claim.operation].noun
        if claim.attempts > self._settings.start_attempts:
            # Counted when claimed: workers died, or were fenced off, on every attempt before this one.
            error = unable(noun, f"it could not be started in {self._settings.start_attempts} attempts")
            return self._step(claim, "none", Event.GIVEN_UP, "attempts exhausted", errors=(error,))
        started = time.monotonic()
        outcome = of_start(noun, await self._ask(claim, "PUT", "", {"accepts_incomplete": "true"}, claim.request_body))
        event = self._start_event(claim, outcome)
        pauses = {
            Event.ACCEPTED: lambda: before_poll(self._settings, 0, outcome.retry_after_s),
            Event.TRY_AGAIN: lambda: before_retry(self._settings, claim.attempts, outcome.retry_after_s),
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
        )

    def _start_event(self, claim: Claim, outcome: Outcome) -> Event:
        match outcome.meaning:
            case Meaning.ACCEPTED:
                return Event.ACCEPTED
            case Meaning.SUCCESS:
                return Event.SUCCEEDED
            case Meaning.REFUSAL:
                return Event.FAILED
            case Meaning.WAIT:
                is_over = claim.waited_s >= self._settings.busy_patience_s
            case _:
                is_over = claim.attempts >= self._settings.start_attempts
        return Event.GIVEN_UP if is_over else Event.TRY_AGAIN

    async def _poll(self, claim: Claim) -> Step:
        noun = RESOURCE_OF[claim.operation].noun
        started = time.monotonic()
        service_id, plan_id = claim.catalog_ids
        query = {"service_id": service_id, "plan_id": plan_id}
        if claim.broker_operation is not None:
            query["operation"] = claim.broker_operation
        outcome = of_poll(noun, await self._ask(claim, "GET", "/last_operation", query))
        event = {
            Meaning.SUCCESS: Event.SUCCEEDED,
            Meaning.FAILURE: Event.FAILED,
            Meaning.IN_PROGRESS: Event.IN_PROGRESS,
        }.get(outcome.meaning, Event.TRY_AGAIN)
        is_open = event in {Event.IN_PROGRESS, Event.TRY_AGAIN}
        return self._step(
            claim,
            "poll",
            event,
            outcome.meaning,
            outcome=outcome,
            due_in_s=before_poll(self._settings, claim.polls + 1, outcome.retry_after_s) if is_open else None,
            facts=await self._facts(claim) if event is Event.SUCCEEDED else {},
            started=started,
        )

    async def _facts(self, claim: Claim) -> Json:
        """What the broker tells of a finished backup; nothing when it does not answer, since the backup is there."""
        if not RESOURCE_OF[claim.operation].has_facts:
            return {}
        answer = await self._ask(claim, "GET", "", {})
        if isinstance(answer, NotReceivedError | UnclearError) or answer.body is None:
            return {}
        return read_facts(answer.body)

    async def _ask(
        self, claim: Claim, method: str, suffix: str, query: dict[str, str], body: str | None = None
    ) -> Answer | NotReceivedError | UnclearError:
        origin = Origin(
            job_guid=str(claim.job_guid),
            request_id=claim.request_id,
            traceparent=claim.traceparent,
            user_guid=claim.user_guid,
        )
        path = RESOURCE_OF[claim.operation].path(claim) + suffix
        self._at(Point.BEFORE_CALL, claim)
        try:
            answer = await self._client.call(claim.broker, method, path, query=query, body=body, origin=origin)
        except (NotReceivedError, UnclearError) as error:
            return error
        except SecretsError:
            # An operator's mistake with the keys, which the next attempt may find mended.
            return NotReceivedError("was not called: its stored password does not open with the configured keys")
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
    ) -> Step:
        is_failed = event in {Event.FAILED, Event.GIVEN_UP}
        if is_failed and outcome and outcome.error:
            errors = (outcome.error,)
        said = outcome.description or (outcome.error and outcome.error.detail) if outcome else None
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
            facts=facts or {},
        )
