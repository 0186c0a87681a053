"""The transition table, and that the schema says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.states import PUBLIC_STATES, TERMINAL_STATES, TRANSITIONS, Event, JobState, Operation, next_state
from shared.store.migrate import known_migrations

SCHEMA = "".join(migration.sql for migration in known_migrations())
DRAWING = Path(__file__).parents[2] / "docs" / "state_machine.md"


def test_it_never_leaves_a_terminal_state() -> None:
    assert not {state for state, _ in TRANSITIONS} & TERMINAL_STATES


def test_it_lets_every_open_state_expire() -> None:
    for state in set(JobState) - TERMINAL_STATES:
        assert next_state(state, Event.EXPIRED) is JobState.FAILED


def test_it_shows_clients_a_name_for_every_state() -> None:
    assert set(PUBLIC_STATES) == set(JobState)


def test_it_has_no_word_for_what_cannot_happen() -> None:
    with pytest.raises(KeyError):
        next_state(JobState.SUCCEEDED, Event.FAILED)


@pytest.mark.parametrize(("column", "values"), [("state", JobState), ("operation", Operation)])
def test_it_agrees_with_the_schema(column: str, values: type[JobState | Operation]) -> None:
    *_, latest = re.findall(rf"constraint jobs_{column}_check check \({column} in \(([^)]*)\)\)", SCHEMA)
    assert set(re.findall(r"'([^']+)'", latest)) == set(values)


def test_it_is_drawn_in_the_docs_as_it_is() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+): (.+)$", DRAWING.read_text(), re.MULTILINE))
    assert drawn == {(start.value, end.value, event.value) for (start, event), end in TRANSITIONS.items()}
