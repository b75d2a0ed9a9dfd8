"""The schedule's jobs, when the wall clock is set."""

import queue
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from apscheduler.schedulers import base

from mqtt_presence.bridge import schedule as schedule_module
from mqtt_presence.bridge.part import Due
from mqtt_presence.bridge.schedule import Schedule


class WallClock:
    """The wall clock of this process, as APScheduler and the schedule read it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        clock = self

        class SetDatetime(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz) + timedelta(seconds=clock.ahead_s)

        monkeypatch.setattr(base, "datetime", SetDatetime)
        monkeypatch.setattr(schedule_module, "datetime", SetDatetime)


FIVE_YEARS_S = 5 * 365 * 86_400.0


@pytest.mark.parametrize(
    "step_s",
    [3600.0, -3600.0, FIVE_YEARS_S, -FIVE_YEARS_S],
    ids=["forward", "back", "years forward", "years back"],
)
def test_checks_go_on_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    """After a step of any size checks run as before, without one for each missed run."""
    clock = WallClock(monkeypatch)
    requests: queue.SimpleQueue[Due] = queue.SimpleQueue()
    with Schedule(requests.put, check_every_s=0.05) as schedule:
        for _ in range(3):
            requests.get(timeout=5)
        clock.ahead_s = step_s
        schedule.clock_stepped(round(step_s * 1000), 0)
        began = time.monotonic()
        for _ in range(20):
            requests.get(timeout=5)
        assert time.monotonic() - began > 0.05 * 10, "one at a time"


def test_step_back_before_the_loop_watches_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge may wait long for its database; checks still begin with its loop."""
    clock = WallClock(monkeypatch)
    requests: queue.SimpleQueue[Due] = queue.SimpleQueue()
    no_transaction: Any = None
    with Schedule(requests.put, check_every_s=60.0) as schedule:
        assert {requests.get(timeout=5), requests.get(timeout=5)} == {Due.CHECK, Due.RETENTION}
        clock.ahead_s = -3600.0
        schedule.restore(no_transaction)
        assert {requests.get(timeout=5), requests.get(timeout=5)} == {Due.CHECK, Due.RETENTION}


def test_schedule_stops_at_once() -> None:
    """The end does not wait for the next run."""
    began = time.monotonic()
    with Schedule(lambda _due: None, check_every_s=60.0):
        pass
    assert time.monotonic() - began < 5
