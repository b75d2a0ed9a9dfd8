"""The part that moves and deletes old records: its steps are short, and its failures hold up nobody."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.bridge.part import Due
from mqtt_presence.bridge.retention import Retention
from mqtt_presence.errors import SeatLostError, StoreError
from mqtt_presence.store import HistoryBusyError, Store
from mqtt_presence.store.record_history import RECENT_MS
from mqtt_presence.store.transaction import Transaction
from tests.contract.test_store import NOW, ended, record, save
from tests.support.postgres import query

LINK: Any = None


class Clock:
    """Both clocks; each reading of the monotonic one takes `takes_s`."""

    def __init__(self) -> None:
        self.at_s = 100.0
        self.takes_s = 0.0

    def now(self) -> int:
        return NOW

    def monotonic(self) -> float:
        self.at_s += self.takes_s
        return self.at_s


@pytest.fixture
def store(sqlite_url: str) -> Any:
    opened = Store(sqlite_url)
    opened.open()
    save(
        opened, *(ended(f"c{n}", NOW - RECENT_MS - n - 1, login_order=n) for n in range(60)), record(id="now")
    )
    yield opened
    opened.close()


def counts(url: str) -> tuple[int, int]:
    recent, old = (
        query(url, f"SELECT COUNT(*) AS n FROM {table}")[0]["n"]
        for table in ("connection_records", "connection_history")
    )
    return recent, old


def until_done(part: Retention) -> int:
    steps = 1
    while not part.step(LINK):
        steps += 1
        assert steps < 100
    return steps


def test_old_records_move_in_pages_and_those_over_the_retention_go(store: Store, sqlite_url: str) -> None:
    """All of the work is done after one request, also without a retention."""
    part = Retention(store, Clock(), None)
    assert part.step(LINK)
    assert part.wait_s() == float("inf")
    part.requested(Due.RETENTION)
    assert until_done(part) > 1
    assert counts(sqlite_url) == (1, 60)
    part = Retention(store, Clock(), RECENT_MS + 21)
    part.requested(Due.CHECK)
    assert part.step(LINK)
    part.requested(Due.RETENTION)
    until_done(part)
    assert counts(sqlite_url) == (1, 21)


def test_a_page_is_in_the_file_before_the_next_one(store: Store, sqlite_url: str, tmp_path: Path) -> None:
    """No page waits in the log, where it would make a later commit long: the file alone has all records."""
    part = Retention(store, Clock(), None)
    part.requested(Due.RETENTION)
    assert not part.step(LINK)
    alone = tmp_path / "alone.db"
    shutil.copyfile(sqlite_url.removeprefix("sqlite:///"), alone)
    assert counts(f"sqlite:///{alone}") == counts(sqlite_url) == (36, 25)


def test_a_slow_database_has_smaller_pages_and_a_rest_after_each(store: Store, sqlite_url: str) -> None:
    """A step that took long is followed by a rest as long, and by a page of half the size."""
    clock = Clock()
    clock.takes_s = 0.05
    part = Retention(store, clock, None)
    part._limit = 40
    part.requested(Due.RETENTION)
    assert part.step(LINK)
    assert counts(sqlite_url) == (21, 40)
    clock.takes_s = 0.0
    assert 0 < part.wait_s() <= 0.05
    assert part.step(LINK)
    assert counts(sqlite_url) == (21, 40)
    clock.at_s += part.wait_s()
    assert part.step(LINK)
    assert counts(sqlite_url) == (1, 60)
    assert part._limit == 50  # a fast step doubles 25


@pytest.mark.parametrize(
    "error", [StoreError("full"), StoreError("bad", transient=False), HistoryBusyError()]
)
def test_a_failure_holds_up_this_work_for_a_minute(
    store: Store, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The loop goes on without the history; the same page is tried again."""
    part = Retention(store, clock := Clock(), None)
    part.requested(Due.RETENTION)
    move = Transaction.move_ended

    def moved_and_failed(tx: Transaction, *arguments: Any) -> Any:
        move(tx, *arguments)
        raise error

    monkeypatch.setattr(Transaction, "move_ended", moved_and_failed)
    assert part.step(LINK)
    assert part.wait_s() == 60
    monkeypatch.undo()
    assert part.step(LINK)
    assert counts(sqlite_url) == (61, 0)
    clock.at_s += 60
    until_done(part)
    assert counts(sqlite_url) == (1, 60)


def test_what_cannot_be_dropped_is_deleted(
    store: Store, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of the whole history keeps a partition from being dropped, not its records from being deleted."""
    part = Retention(store, Clock(), None)
    part.requested(Due.RETENTION)
    until_done(part)

    def busy(*_: Any) -> Any:
        raise HistoryBusyError

    monkeypatch.setattr(Transaction, "drop_history", busy)
    part = Retention(store, Clock(), RECENT_MS + 21)
    part.requested(Due.RETENTION)
    while part._work:
        part.step(LINK)
    assert counts(sqlite_url) == (1, 21)


def test_a_lost_seat_ends_the_bridge(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no failure of the history."""
    part = Retention(store, Clock(), None)
    part.requested(Due.RETENTION)

    def lost(*_: Any) -> Any:
        raise SeatLostError("another process is the bridge")

    monkeypatch.setattr(Transaction, "move_ended", lost)
    with pytest.raises(SeatLostError):
        part.step(LINK)
