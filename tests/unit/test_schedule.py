"""The jobs that time causes, when the time itself changes."""

import queue
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from apscheduler.schedulers import base

from mqtt_presence.bridge import schedule as clock_module
from mqtt_presence.bridge.part import Due
from mqtt_presence.bridge.schedule import Schedule


class Wall:
    """The wall clock of this process, as APScheduler and the guard see it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        wall = self

        class NetworkReplaced(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz) + timedelta(seconds=wall.ahead)

        monkeypatch.setattr(base, "datetime", NetworkReplaced)
        monkeypatch.setattr(clock_module, "datetime", NetworkReplaced)
        monkeypatch.setattr(clock_module, "_behind", lambda: time.monotonic() - time.time() - wall.ahead)


FIVE_YEARS_S = 5 * 365 * 86_400.0


@pytest.mark.parametrize(
    "jump_s",
    [3600.0, -3600.0, FIVE_YEARS_S, -FIVE_YEARS_S],
    ids=["forward", "back", "years forward", "years back"],
)
def test_checks_go_on_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """After a step of any size checks come as before, and none for each that was missed."""
    wall = Wall(monkeypatch)
    asked: queue.SimpleQueue[Due] = queue.SimpleQueue()
    with Schedule(asked.put, check_every_s=0.05):
        for _ in range(3):
            asked.get(timeout=5)
        wall.ahead = jump_s
        began = time.monotonic()
        for _ in range(20):
            asked.get(timeout=5)
        assert time.monotonic() - began > 0.05 * 10, "one at a time"


def test_it_ends_at_once() -> None:
    """Nobody waits for the next check that would have been."""
    began = time.monotonic()
    with Schedule(lambda _due: None, check_every_s=60.0):
        pass
    assert time.monotonic() - began < 5
