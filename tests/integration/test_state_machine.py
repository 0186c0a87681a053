"""Any order of accepts, claims, steps, deaths, late writes and cancels, against the table and against PostgreSQL.

What may happen in a state comes from `shared/states.py`; this test adds nothing to it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shared.records import Claim, JobError, JobRequest, Step
from shared.states import TERMINAL_STATES, TRANSITIONS, Event, JobState, next_state
from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.support import accept_all, job_request, rows, seed

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from shared.settings import Settings

INSTANCES = ("i-1", "i-2", "i-3")
FAILED = frozenset({JobState.FAILED, JobState.CANCELLED})


class Model:
    """What we expect of one job."""

    def __init__(self, request: JobRequest) -> None:
        self.request = request
        self.state = JobState.START
        self.fence = 0
        self.claim: Claim | None = None  # the one that may still record
        self.late: list[Claim] = []


class Machine(RuleBasedStateMachine):
    configuration: Settings
    broker_guid: UUID

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.url = self.configuration.database_url.get_secret_value()
        rows(self.url, "truncate jobs, job_steps, backups cascade")
        rows(self.url, "update broker_states set failures = 0, retry_at = null, openings = 0, is_probing = false")
        self.models: list[Model] = []
        self.ended: dict[UUID, dict[str, Any]] = {}

        self.database = Database(self.configuration, size=1, name="test")
        self.runner.run(self.database.__aenter__())
        self.jobs = Jobs(self.database, self.configuration)

    def teardown(self) -> None:
        self.runner.run(self.database.__aexit__(None, None, None))
        self.runner.close()

    def pick(self, data: st.DataObject, *, is_claimed: bool | None = None) -> Model:
        fitting = [
            model
            for model in self.models
            if model.state not in TERMINAL_STATES and is_claimed in {None, model.claim is not None}
        ]
        assume(fitting)
        return data.draw(st.sampled_from(fitting))

    @rule(instance=st.sampled_from(INSTANCES), can_undo=st.booleans())
    def accept(self, instance: str, *, can_undo: bool) -> None:
        request = job_request(self.broker_guid, instance, can_undo=can_undo)
        is_free = all(
            model.state in TERMINAL_STATES for model in self.models if model.request.service_instance_guid == instance
        )
        assert self.runner.run(accept_all(self.jobs, request)) == [is_free]
        if is_free:
            self.models.append(Model(request))

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        model = self.pick(data)
        found = self.runner.run(self.jobs.claim([model.request.guid], owner="w", lease_s=60))
        assert len(found.claims) == (1 if model.claim is None else 0)
        for claim in found.claims:
            assert (claim.state, claim.fence) == (model.state, model.fence + 1)
            model.claim, model.fence = claim, claim.fence

    @rule(data=st.data())
    def record(self, data: st.DataObject) -> None:
        model = self.pick(data, is_claimed=True)
        claim = model.claim
        assert claim is not None
        event = data.draw(st.sampled_from([event for state, event in TRANSITIONS if state is model.state]))
        assume(event is not Event.START_OVER)  # a clean-up's alone; the schema refuses it here
        assert self.runner.run(self.jobs.record([self.step(claim, event)])) == [True]
        model.late.append(claim)
        model.claim, model.state = None, next_state(model.state, event)

    @rule(data=st.data())
    def record_late(self, data: st.DataObject) -> None:
        fitting = [(model, claim) for model in self.models for claim in model.late]
        assume(fitting)
        _, claim = data.draw(st.sampled_from(fitting))
        event = data.draw(st.sampled_from([event for state, event in TRANSITIONS if state is claim.state]))
        assert self.runner.run(self.jobs.record([self.step(claim, event)])) == [False]

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        model = self.pick(data, is_claimed=True)
        rows(self.url, "update jobs set lease_until = now() where guid = %s", model.request.guid)
        found = self.runner.run(self.jobs.claim([model.request.guid], owner="another", lease_s=60))
        assert [claim.fence for claim in found.claims] == [model.fence + 1]
        assert model.claim is not None
        model.late.append(model.claim)
        model.claim, model.fence = found.claims[0], found.claims[0].fence

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        model = self.pick(data, is_claimed=True)
        claim = model.claim
        assert claim is not None
        self.runner.run(self.jobs.release([claim]))
        model.late.append(claim)
        model.claim = None

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        model = self.pick(data)
        seizure = self.runner.run(self.jobs.seize(model.request.guid, owner="api"))
        was_never_called = model.state is JobState.START and model.fence == 0
        if model.request.can_undo or was_never_called:
            assert seizure
        if seizure is None:
            return
        step = self.step(seizure.claim, Event.CANCELLED)
        assert self.runner.run(self.jobs.record([step])) == [True]
        if model.claim:
            model.late.append(model.claim)
        model.claim, model.fence, model.state = None, seizure.claim.fence, JobState.CANCELLED

    def step(self, claim: Claim, event: Event) -> Step:
        state = next_state(claim.state, event)
        is_end = state in TERMINAL_STATES
        remains = state in FAILED and claim.may_exist()
        return Step(
            claim=claim,
            worker="w",
            call="poll" if claim.state is JobState.POLL else "start",
            event=event,
            outcome="test",
            due_in_s=None if is_end else 0,
            errors=(JobError(1, "CF-Test", "it broke"),) if state in FAILED else (),
            clean_up_in_s=0 if remains else None,
            warnings=claim.warnings_of_remains() if remains else (),
        )

    @precondition(lambda self: self.models)
    @invariant()
    def is_as_expected(self) -> None:
        stored = {row["guid"]: row for row in rows(self.url, "select * from jobs where not is_clean_up")}
        assert set(stored) == {model.request.guid for model in self.models}
        for model in self.models:
            row = stored[model.request.guid]
            assert (row["state"], row["fence"]) == (model.state, model.fence)
            is_over = model.state in TERMINAL_STATES
            assert (row["due_at"] is None, row["completed_at"] is not None) == (is_over, is_over)  # I1
            assert (row["lease_until"] is not None) == (model.claim is not None)  # I4
            assert bool(row["errors"]) == (model.state in FAILED)
            assert row["resource_guid"] == model.request.resource_guid  # I5
            assert row["deadline_at"] is not None  # I8
            if is_over:
                assert self.ended.setdefault(row["guid"], row) == row  # I2
        assert len({row["service_instance_guid"] for row in stored.values() if row["due_at"]}) == sum(
            row["due_at"] is not None for row in stored.values()
        )  # I11

    @precondition(lambda self: self.models)
    @invariant()
    def cleans_up_once_after_whatever_may_have_left_something(self) -> None:
        found = rows(
            self.url,
            "select j.guid, j.can_undo, count(c.guid) as n, bool_or(j.state = 'cancelled' and j.fence = 1) as is_first"
            " from jobs j left join jobs c on c.parent_guid = j.guid"
            " where j.state in ('failed', 'cancelled') and not j.is_clean_up group by j.guid",
        )
        for row in found:
            assert row["n"] == (1 if row["can_undo"] and not row["is_first"] else 0)

    @precondition(lambda self: self.models)
    @invariant()
    def has_one_truth(self) -> None:
        wrong = rows(
            self.url,
            "select 1 from jobs j join backups b on b.guid = j.resource_guid where not j.is_clean_up and b.state <>"
            " case when j.state = 'succeeded' then 'succeeded' when j.completed_at is null then 'in progress'"
            " else 'failed' end",
        )
        assert wrong == []


@pytest.mark.timeout(240)
def test_item_04_it_keeps_its_rules_in_any_order_of_events(make_settings: Callable[..., Settings]) -> None:
    Machine.configuration = make_settings()
    Machine.broker_guid = seed(Machine.configuration, instances=INSTANCES).broker_guid
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
