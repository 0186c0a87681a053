"""How long to pause before the next step: back-off with jitter, a broker's `Retry-After` within bounds."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.settings import Settings

POLL_GROWTH: Final = 1.5
JITTER: Final = 0.15
DOUBLINGS_MAX: Final = 30  # beyond it the numbers only overflow


def before_retry(settings: Settings, attempts: int, retry_after_s: float | None) -> float:
    """Seconds before a start is sent again, after `attempts` of them."""
    backoff = settings.start_backoff_s * 2 ** min(attempts - 1, DOUBLINGS_MAX)
    return _jittered(_bounded(settings, retry_after_s, backoff))


def before_removal(settings: Settings, attempts: int, retry_after_s: float | None) -> float:
    """Seconds before a removal is sent again, after `attempts` of them: minutes at first, hours in the end."""
    backoff = min(
        settings.clean_up_backoff_s * 2 ** min(max(attempts - 1, 0), DOUBLINGS_MAX), settings.clean_up_backoff_max_s
    )
    return _jittered(_bounded(settings, retry_after_s, backoff))


def before_poll(settings: Settings, polls: int, retry_after_s: float | None) -> float:
    """Seconds before the next poll, after `polls` of them. A broker that names a time knows best."""
    backoff = min(settings.poll_interval_s * POLL_GROWTH ** min(polls, DOUBLINGS_MAX), settings.poll_interval_max_s)
    return _jittered(_bounded(settings, retry_after_s, backoff))


def _bounded(settings: Settings, retry_after_s: float | None, otherwise: float) -> float:
    if retry_after_s is None:
        return otherwise
    return min(max(retry_after_s, settings.poll_interval_s), settings.retry_after_max_s)


def _jittered(pause_s: float) -> float:
    """A little longer, so that jobs of one moment do not stay together; never shorter than what was asked for."""
    return pause_s * (1 + random.uniform(0, JITTER))  # noqa: S311 - spreads load, keeps no secret
