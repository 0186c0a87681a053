"""What readers of jobs ask for: the filters of the list, and how long they would wait."""

from __future__ import annotations

import pytest

from api.payloads.jobs import JobsQuery
from api.payloads.prefer import preferred_wait_s
from shared.states import JobState, Operation
from shared.store.sql import load


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ([], None),
        (["wait=10"], 10),
        (["WAIT=10"], 10),
        (["wait = 10"], 10),
        (['wait="10"'], 10),
        (["wait=010"], 10),
        (["wait=0"], 0),
        (["wait=56"], 55),
        (["wait=" + "9" * 900], 55),
        (["wait=10;foo=bar; baz"], 10),
        (['wait=10 ; foo="a,b;c"'], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async", "handling=lenient", "wait=10"], 10),
        (['foo="wait=1, wait=2\\", wait=3", wait=10'], 10),
        (["foo; wait=5, wait=10"], 10),
        (["wait=10, wait=20"], 10),
        (["wait=10", "wait=20"], 10),
        ([", ,wait=10,"], 10),
        (["@nonsense, wait=10"], 10),
        (["wait"], None),
        (["wait="], None),
        (['wait=""'], None),
        (["wait=soon, wait=10"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=1e3"], None),
        (["wait=\u0661"], None),
        (["wait 10"], None),
        (["waiting=10"], None),
        (['"wait=10"'], None),
        (['foo="wait=10'], None),
        (["\x00"], None),
    ],
)
def test_it_knows_how_long_a_client_would_wait(headers: list[str], wait_s: int | None) -> None:
    assert preferred_wait_s(headers, longest_s=55) == wait_s


@pytest.mark.parametrize(
    "text", ['"' * 8000, '"\\' * 4000, ";" * 8000, "a;" * 4000, "a=" * 4000, " \t" * 4000, "," * 8000]
)
def test_it_does_not_take_long_over_nonsense(text: str) -> None:
    assert preferred_wait_s([text, "x" * 8000 + text], longest_s=55) is None


def test_it_has_a_condition_for_everything_that_can_be_asked_for() -> None:
    names = set(load("job_lists"))
    assert {f"in_{state}" for state in JobState} <= names
    assert {f"doing_{operation.name.lower()}" for operation in Operation} <= names
    for order in ("created_at", "updated_at"):
        assert {f"order_{order}", f"order_{order}_descending"} <= names


def test_it_shows_no_job_beyond_the_last_that_is_counted() -> None:
    query = JobsQuery.model_validate({"page": "4", "per_page": "3000"})
    wanted = query.to_filter(reader=None)
    assert (wanted.offset, wanted.limit) == (9000, 1000)
