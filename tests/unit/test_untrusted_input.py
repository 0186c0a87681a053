"""Whatever a client or a broker sends, reading it gives a value or a refusal, and never an accident."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.payloads.backups import BackupsQuery
from worker.broker.client import Answer, _json_object, _retry_after_s
from worker.broker.outcome import DESCRIPTION_BYTES_MAX, Meaning, of_poll, of_start

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
WORDS = st.sampled_from(["state", "operation", "error", "description"])
ANSWERS = st.builds(
    Answer,
    st.integers(100, 599),
    st.none() | st.dictionaries(WORDS | st.text(), JSON | st.sampled_from(["succeeded", "ConcurrencyError"])),
    st.none() | st.floats(0, 1e9),
)


@given(st.text() | st.integers().map(str))
def test_it_reads_a_limit_within_its_bounds_or_refuses_it(text: str) -> None:
    with suppress(ValidationError):
        assert 1 <= BackupsQuery.model_validate({"limit": text}).limit <= 1000
        assert re.fullmatch(r"[0-9]+", text)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("7", 7.0), (" 7 ", 7.0), ("-7", None), ("soon", None), ("", None)]
)
def test_it_reads_retry_after_in_seconds(value: str | None, expected: float | None) -> None:
    assert _retry_after_s(value) == expected


def test_it_reads_retry_after_as_a_date() -> None:
    assert _retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert (_retry_after_s("Fri, 31 Dec 2100 23:59:59 GMT") or 0) > 1e9


@given(st.text())
def test_it_reads_any_retry_after(value: str) -> None:
    seconds = _retry_after_s(value)
    assert seconds is None or seconds >= 0


@given(st.binary())
def test_it_reads_any_body(raw: bytes) -> None:
    body = _json_object(raw)
    assert body is None or isinstance(body, dict)


@given(ANSWERS)
def test_it_gives_any_answer_a_meaning_that_can_be_stored(answer: Answer) -> None:
    for outcome in (of_start("backup", answer), of_poll("backup", answer)):
        texts: list[Any] = [outcome.description, outcome.operation, outcome.error and outcome.error.detail]
        for text in filter(None, texts):
            assert "\0" not in text
            assert len(text.encode()) <= DESCRIPTION_BYTES_MAX + 100
        if outcome.meaning in {Meaning.REFUSAL, Meaning.FAILURE}:
            assert outcome.error
            assert outcome.error.detail
