"""How long to pause: soon at first, then longer, within the bounds that are configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.settings import Settings
from worker.steps.pauses import JITTER, before_poll, before_removal, before_retry

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = Settings(
    database_url="postgresql://u@127.0.0.1:1/d",
    queue_url="redis://127.0.0.1:1",
    poll_interval_s=1,
    poll_interval_max_s=60,
    retry_after_max_s=3600,
    start_backoff_s=5,
    clean_up_backoff_s=10,
    clean_up_backoff_max_s=21600,
)


def is_about(found_s: float, wanted_s: float) -> bool:
    """Never sooner than wanted, and later by the jitter at most."""
    return wanted_s <= found_s <= wanted_s * (1 + JITTER)


@pytest.mark.parametrize(
    ("count", "wanted_s"), [(0, 1), (1, 1.5), (2, 2.25), (5, 7.59375), (10, 57.6650390625), (11, 60), (10**9, 60)]
)
def test_it_polls_soon_at_first_and_ever_more_seldom(count: int, wanted_s: float) -> None:
    assert is_about(before_poll(SETTINGS, count, None), wanted_s)


@pytest.mark.parametrize(
    ("retry_after_s", "wanted_s"), [(0.0, 1), (0.5, 1), (30.0, 30), (90.0, 90), (3600.0, 3600), (1e9, 3600)]
)
@pytest.mark.parametrize("pause", [before_poll, before_retry, before_removal])
def test_it_does_as_the_broker_says_within_bounds(
    pause: Callable[[Settings, int, float | None], float], retry_after_s: float, wanted_s: float
) -> None:
    for count in (1, 7):
        assert is_about(pause(SETTINGS, count, retry_after_s), wanted_s)


@pytest.mark.parametrize(
    ("pause", "wanted_s"),
    [(before_retry, [5, 10, 20, 40, 80]), (before_removal, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120])],
)
def test_it_doubles_between_tries(pause: Callable[..., float], wanted_s: list[float]) -> None:
    for attempts, each_s in enumerate(wanted_s, 1):
        assert is_about(pause(SETTINGS, attempts, None), each_s)


def test_it_tries_a_removal_for_days() -> None:
    pauses = [before_removal(SETTINGS, attempts, None) for attempts in range(1, SETTINGS.clean_up_attempts)]
    assert max(pauses) <= 21600 * (1 + JITTER)
    assert 2 * 86400 < sum(pauses) < SETTINGS.clean_up_deadline_s * (1 + JITTER)


def test_it_does_not_keep_jobs_of_one_moment_together() -> None:
    found: set[Any] = {before_poll(SETTINGS, 3, None) for _ in range(20)}
    assert len(found) > 1
