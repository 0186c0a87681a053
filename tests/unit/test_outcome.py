"""What each answer of a broker means: the table that the contract gives, row by row."""

from __future__ import annotations

import pytest

from worker.broker.client import Answer, NotReceivedError, UnclearError
from worker.broker.outcome import DESCRIPTION_BYTES_MAX, Meaning, describe, of_delete, of_delete_poll, of_poll, of_start


def answer(status: int, body: object = None, retry_after_s: float | None = None) -> Answer:
    return Answer(status, body if isinstance(body, dict) else None, retry_after_s)


@pytest.mark.parametrize(
    ("given", "meaning", "code"),
    [
        (answer(200, {}), Meaning.SUCCESS, None),
        (answer(201, {"id": "x"}), Meaning.SUCCESS, None),
        (answer(202, {"operation": "op"}), Meaning.ACCEPTED, None),
        (answer(202, {}), Meaning.ACCEPTED, None),
        (answer(200), Meaning.AMBIGUOUS, 10009),
        (answer(201), Meaning.AMBIGUOUS, 10009),
        (answer(202), Meaning.AMBIGUOUS, 10009),
        (answer(202, {"operation": 7}), Meaning.AMBIGUOUS, 10009),
        (answer(202, {"operation": "x" * 10_001}), Meaning.AMBIGUOUS, 10009),
        (answer(202, {"operation": "a\ud800"}), Meaning.AMBIGUOUS, 10009),
        (answer(202, {"operation": "a\0"}), Meaning.AMBIGUOUS, 10009),
        (answer(204, {}), Meaning.AMBIGUOUS, 10009),
        (answer(302, {}), Meaning.AMBIGUOUS, 10009),
        (answer(400, {}), Meaning.REFUSAL, 10009),
        (answer(401, {}), Meaning.REFUSAL, 10009),
        (answer(403, {}), Meaning.REFUSAL, 10009),
        (answer(404, {}), Meaning.REFUSAL, 10009),
        (answer(408, {}), Meaning.NOT_RECEIVED, 10009),
        (answer(409, {}), Meaning.REFUSAL, 10009),
        (answer(410, {}), Meaning.REFUSAL, 10009),
        (answer(412, {}), Meaning.REFUSAL, 10009),
        (answer(418, {}), Meaning.REFUSAL, 10009),
        (answer(422, {"error": "ConcurrencyError"}), Meaning.WAIT, 270018),
        (answer(422, {"error": "AsyncRequired"}), Meaning.REFUSAL, 270014),
        (answer(422, {"error": "BackupQuotaExceeded"}), Meaning.REFUSAL, 10008),
        (answer(422, {"error": ["no", "word"]}), Meaning.REFUSAL, 10008),
        (answer(422), Meaning.REFUSAL, 10008),
        (answer(429, {}), Meaning.WAIT, 10009),
        (answer(500, {}), Meaning.AMBIGUOUS, 10009),
        (answer(503, {}), Meaning.AMBIGUOUS, 10009),
        (answer(503, {}, 5.0), Meaning.WAIT, 10009),
        (NotReceivedError("could not be reached"), Meaning.NOT_RECEIVED, 10009),
        (UnclearError("did not answer within 20 s"), Meaning.AMBIGUOUS, 10009),
    ],
)
def test_it_gives_every_answer_to_a_start_one_meaning(
    given: Answer | NotReceivedError | UnclearError, meaning: Meaning, code: int | None
) -> None:
    outcome = of_start("backup", given)
    assert outcome.meaning is meaning
    assert (outcome.error.code if outcome.error else None) == code
    if outcome.error:
        assert outcome.error.title.startswith("CF-")
        assert outcome.error.detail


@pytest.mark.parametrize(
    ("given", "meaning"),
    [
        (answer(200, {"state": "in progress"}), Meaning.IN_PROGRESS),
        (answer(200, {"state": "succeeded"}), Meaning.SUCCESS),
        (answer(200, {"state": "failed"}), Meaning.FAILURE),
        (answer(200, {"state": "SUCCEEDED"}), Meaning.UNCLEAR),
        (answer(200, {"state": ["succeeded"]}), Meaning.UNCLEAR),
        (answer(200, {}), Meaning.UNCLEAR),
        (answer(200), Meaning.UNCLEAR),
        (answer(201, {"state": "succeeded"}), Meaning.UNCLEAR),
        (answer(400, {"state": "failed"}), Meaning.UNCLEAR),
        (answer(404, {}), Meaning.UNCLEAR),
        (answer(410, {}), Meaning.UNCLEAR),
        (answer(500, {}), Meaning.UNCLEAR),
        (NotReceivedError("could not be reached"), Meaning.UNCLEAR),
        (UnclearError("did not answer"), Meaning.UNCLEAR),
    ],
)
def test_it_ends_a_poll_only_on_a_well_formed_state(
    given: Answer | NotReceivedError | UnclearError, meaning: Meaning
) -> None:
    assert of_poll("backup", given).meaning is meaning


@pytest.mark.parametrize(
    ("given", "meaning"),
    [
        (answer(200, {}), Meaning.SUCCESS),
        (answer(410, {}), Meaning.SUCCESS),
        (answer(410), Meaning.SUCCESS),
        (answer(202, {}), Meaning.ACCEPTED),
        (answer(202, {"operation": "op"}), Meaning.ACCEPTED),
        (answer(200), Meaning.AMBIGUOUS),
        (answer(201, {}), Meaning.AMBIGUOUS),
        (answer(202, {"operation": 7}), Meaning.AMBIGUOUS),
        (answer(204), Meaning.AMBIGUOUS),
        (answer(302, {}), Meaning.AMBIGUOUS),
        (answer(400, {}), Meaning.REFUSAL),
        (answer(401, {}), Meaning.REFUSAL),
        (answer(404, {}), Meaning.REFUSAL),
        (answer(408, {}), Meaning.NOT_RECEIVED),
        (answer(409, {}), Meaning.REFUSAL),
        (answer(422, {"error": "ConcurrencyError"}), Meaning.WAIT),
        (answer(422, {}), Meaning.REFUSAL),
        (answer(429, {}), Meaning.WAIT),
        (answer(500, {}), Meaning.AMBIGUOUS),
        (answer(503, {}, 5.0), Meaning.WAIT),
        (NotReceivedError("could not be reached"), Meaning.NOT_RECEIVED),
        (UnclearError("did not answer in time"), Meaning.AMBIGUOUS),
    ],
)
def test_it_gives_every_answer_to_a_removal_one_meaning(
    given: Answer | NotReceivedError | UnclearError, meaning: Meaning
) -> None:
    outcome = of_delete("clean-up", given)
    assert outcome.meaning is meaning
    assert (outcome.error is None) == (meaning in {Meaning.SUCCESS, Meaning.ACCEPTED})


@pytest.mark.parametrize(
    ("given", "meaning"),
    [
        (answer(410, {}), Meaning.SUCCESS),
        (answer(410), Meaning.SUCCESS),
        (answer(200, {"state": "succeeded"}), Meaning.SUCCESS),
        (answer(200, {"state": "failed"}), Meaning.FAILURE),
        (answer(200, {"state": "in progress"}), Meaning.IN_PROGRESS),
        (answer(404, {}), Meaning.UNCLEAR),
        (answer(500, {}), Meaning.UNCLEAR),
        (UnclearError("did not answer in time"), Meaning.UNCLEAR),
    ],
)
def test_it_takes_what_is_gone_for_removed(given: Answer | NotReceivedError | UnclearError, meaning: Meaning) -> None:
    assert of_delete_poll("clean-up", given).meaning is meaning


def test_it_quotes_the_brokers_description() -> None:
    outcome = of_start("backup", answer(400, {"description": "the disk is full"}))
    assert outcome.error is not None
    assert outcome.error.detail == "backup could not be completed: the disk is full"


def test_it_never_passes_on_what_a_broker_says_about_our_password() -> None:
    outcome = of_start("backup", answer(401, {"description": "password 'hunter2' is wrong"}))
    assert outcome.error is not None
    assert "hunter2" not in outcome.error.detail


def test_it_has_a_sentence_for_a_failure_without_description() -> None:
    outcome = of_poll("restore", answer(200, {"state": "failed"}))
    assert outcome.error is not None
    assert outcome.error.detail == (
        "restore could not be completed: the service broker reported a failure and gave no reason"
    )


def test_it_cuts_long_descriptions_between_characters() -> None:
    text = describe({"description": "é" * DESCRIPTION_BYTES_MAX})
    assert text is not None
    assert len(text.encode()) <= DESCRIPTION_BYTES_MAX
    assert set(text) == {"é"}


@pytest.mark.parametrize("value", [None, 7, "", "  ", ["a"], {"a": 1}])
def test_it_has_no_description_where_there_is_none(value: object) -> None:
    assert describe({"description": value}) is None


@pytest.mark.parametrize("value", ["a\0b", "a\ud800b"])
def test_it_makes_descriptions_fit_for_the_database(value: str) -> None:
    text = describe({"description": value})
    assert text is not None
    assert "\0" not in text
    text.encode()
