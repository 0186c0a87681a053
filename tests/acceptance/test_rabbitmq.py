"""The main job, and what happens to it when parts are killed, with RabbitMQ as the queue: the same tests once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.test_backup_and_restore import (
    test_it_accepts_while_the_queue_is_away_and_does_the_job_later,
    test_it_backs_up_and_restores_a_real_database,
    test_it_loses_no_job_when_a_worker_is_killed_in_the_middle_of_a_call,
    test_it_loses_no_job_when_all_workers_are_killed,
    test_it_loses_no_job_when_the_queue_is_emptied,
)
from tests.queues import NAMES, channel, length
from tests.support import eventually

if TYPE_CHECKING:
    from tests.acceptance.user import User
    from tests.rabbitmq import RabbitServer

pytestmark = pytest.mark.timeout(300)

__all__ = [
    "test_it_accepts_while_the_queue_is_away_and_does_the_job_later",
    "test_it_backs_up_and_restores_a_real_database",
    "test_it_loses_no_job_when_a_worker_is_killed_in_the_middle_of_a_call",
    "test_it_loses_no_job_when_all_workers_are_killed",
    "test_it_loses_no_job_when_the_queue_is_emptied",
]


@pytest.fixture
def queue_url(rabbitmq: RabbitServer) -> str:
    return rabbitmq.url()


@pytest.fixture
def own_queue(rabbitmq: RabbitServer) -> RabbitServer:
    return rabbitmq


async def test_it_goes_on_after_its_queues_were_deleted(user: User) -> None:
    settings = user.stack.settings
    with channel(settings) as opened:
        for name in NAMES:
            opened.queue_delete(settings.queue_prefix + name)
    (job,) = await user.follow(await user.accepted())
    assert job["state"] == "COMPLETE"
    # They are there again, and consumed.
    await eventually(lambda: length(settings, "start") == 0)
