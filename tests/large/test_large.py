"""Ten million records: no page of a command or of the API takes a second, and no step of a chore 0.1 s.

The figures are printed; docs/performance.md has those of one run.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from mqtt_presence.bridge.part import Due
from mqtt_presence.bridge.retention import Retention
from mqtt_presence.rules.model import RuleSettings, State
from mqtt_presence.store import START, Store
from mqtt_presence.store.explained_users import read_explanation
from mqtt_presence.store.reader import Reader
from mqtt_presence.web.api.figures_resource import MOMENTS
from mqtt_presence.web.database_reader import QUERY_S
from tests.large.million import DAY_MS, NOW, YEARS_MS, Millions
from tests.support.postgres import query

PAGE = 100
YEAR_AGO = NOW - YEARS_MS // 2
MIDDLE = (YEAR_AGO, 0)
RULES = RuleSettings()
NAMES = [f"user-{number * 2999}" for number in range(PAGE)]

PAGES: dict[str, Callable[[Reader], Any]] = {
    "users": lambda r: list(islice(r.users(), PAGE)),
    "users online": lambda r: list(islice(r.users(State.ONLINE), PAGE)),
    "users, a pattern": lambda r: list(r.users(matching="*77*1")),
    "users page, search": lambda r: r.users_page(after=None, limit=PAGE, containing="9"),
    "users page, state and prefix": lambda r: r.users_page(after=None, limit=PAGE, states=[State.OFFLINE], prefix="user-7"),
    "history of a user": lambda r: list(r.history("user-7", limit=PAGE)),
    "history of a user, --since 24h": lambda r: list(r.history("user-7", limit=PAGE, since=NOW - DAY_MS)),
    "history of busy": lambda r: list(r.history("busy", limit=PAGE)),
    "history of busy, --since 24h": lambda r: list(r.history("busy", limit=PAGE, since=NOW - DAY_MS)),
    "history of busy, --since a year": lambda r: list(r.history("busy", limit=PAGE, since=YEAR_AGO)),
    "API, busy, from the middle": lambda r: r.connections_page("busy", since=None, until=None, before=MIDDLE, limit=PAGE),
    "API, busy, a week a year ago": lambda r: r.connections_page("busy", since=YEAR_AGO - 7 * DAY_MS, until=YEAR_AGO, before=None, limit=PAGE),
    "API, busy, to a year ago": lambda r: r.connections_page("busy", since=None, until=YEAR_AGO, before=None, limit=PAGE),
    "history": lambda r: list(r.latest(limit=PAGE)),
    "history, --since 24h": lambda r: list(r.latest(limit=PAGE, since=NOW - DAY_MS)),
    "API, open": lambda r: r.open_page(after=None, limit=PAGE),
    "API, open, to a year ago": lambda r: r.open_page(after=None, limit=PAGE, until=YEAR_AGO),
    "API, ended": lambda r: r.ended_page(before=None, limit=PAGE),
    "API, ended, from the middle": lambda r: r.ended_page(before=MIDDLE, limit=PAGE),
    "API, ended, a week a year ago": lambda r: r.ended_page(before=None, limit=PAGE, since=YEAR_AGO - 7 * DAY_MS, until=YEAR_AGO),
    "API, ended, to a year ago": lambda r: r.ended_page(before=None, limit=PAGE, until=YEAR_AGO),
    "API, ended, from a year ago": lambda r: r.ended_page(before=None, limit=PAGE, since=YEAR_AGO),
    "API, ended, to two years ago": lambda r: r.ended_page(before=None, limit=PAGE, until=NOW - YEARS_MS),
    "why": lambda r: read_explanation(r, "busy", RULES, 1000),  # type: ignore[arg-type]
    "users, those of lost reports": lambda r: r.unconfirmed_users(),
    "API, counts of users": lambda r: r.count_by_state(),
    "API, counts of users, search": lambda r: r.count_by_state(containing="9"),
    "users page, search without a result": lambda r: r.users_page(after=None, limit=PAGE, containing="nobody"),
    "API, some users": lambda r: r.users_named(NAMES),
    "stream, first page": lambda r: r.changes_and_users(r.newest_entry().number, PAGE, after="user-5", limit=PAGE),
    "forget --match, names": lambda r: list(r.matching_names("user-77*")),
    "verify, contradictions": lambda r: r.inconsistent_users(),
    "known users": lambda r: r.known_users(["user-3", "busy", "stranger"]),  # type: ignore[list-item]
    "verify, a page": lambda r: r.presences_page(after="user-5", limit=PAGE),
}  # fmt: skip
"""A page of each command and of each list of the API."""


@pytest.fixture(scope="module")
def figures(millions: Millions) -> Any:
    """Collect figures, and print them at the end."""
    found: list[str] = []
    yield found
    kind = "PostgreSQL" if millions.is_postgresql else "SQLite"
    print(
        f"\n{kind}, {millions.records:,} records, filled in {millions.filled_s:.0f} s",
        *found,
        sep="\n  ",
        file=sys.stderr,
    )


@pytest.mark.timeout(3600)
def test_a_message_costs_the_same_beside_a_long_history(millions: Millions, figures: list[str]) -> None:
    """To load users does not take longer with nine million records in the history."""
    store = Store(millions.url)
    before, after = millions.load_us_before, millions.load_us(store)
    store.close()
    figures.append(f"to load a user for a login: {before:.0f} µs without a history, {after:.0f} µs with it")
    assert after < 2 * before + 20


@pytest.mark.parametrize("name", PAGES)
def test_a_page_takes_less_than_a_second(millions: Millions, figures: list[str], name: str) -> None:
    """The first time, with caches as they are; the best of three says what the page itself costs."""
    took = []
    for _ in range(3):
        with Reader(millions.url) as reader:
            began = time.monotonic()
            PAGES[name](reader)
            took.append(time.monotonic() - began)
    figures.append(f"{name}: first {took[0] * 1000:.1f} ms, best {min(took) * 1000:.1f} ms")
    assert min(took) < 1, took


PERIODS = {
    "1 hour": (NOW - DAY_MS // 24, NOW),
    "1 day": (NOW - DAY_MS, NOW),
    "7 days": (NOW - 7 * DAY_MS, NOW),
    "30 days": (NOW - 30 * DAY_MS, NOW),
    "30 days, a year ago": (YEAR_AGO - 30 * DAY_MS, YEAR_AGO),
}
"""Periods of the figures; the first four are those of the page."""


@pytest.mark.parametrize("name", PERIODS)
def test_figures_of_a_period_take_less_than_a_second(
    millions: Millions, figures: list[str], name: str
) -> None:
    """Of all connections of the period, with as many moments as the page shows."""
    since, until = PERIODS[name]
    # SQLite works in this process, whose own time leaves out the other programs of the machine.
    clock = time.monotonic if millions.is_postgresql else time.process_time
    took = []
    for _ in range(5):
        with Reader(millions.url, patience_s=10 * QUERY_S) as reader:
            began = clock()
            counted = reader.figures(since=since, until=until, moments=MOMENTS)
            took.append(clock() - began)
    assert counted.connections > millions.records // 50_000
    assert max(counted.online) > 0
    figures.append(
        f"figures of {name}, {counted.connections:,} connections of {counted.users:,} users: "
        f"first {took[0]:.2f} s, best {min(took):.2f} s{'' if millions.is_postgresql else ' of CPU time'}"
    )
    assert min(took) < 1, took


def test_figures_of_a_year(millions: Millions, figures: list[str]) -> None:
    """The longest period has half of all connections: it is only told how long they take."""
    with Reader(millions.url) as reader:
        began = time.monotonic()
        counted = reader.figures(since=NOW - 366 * DAY_MS, until=NOW, moments=MOMENTS)
        took = time.monotonic() - began
    assert counted.connections > millions.records // 2
    figures.append(f"figures of 366 days, {counted.connections:,} connections: {took:.2f} s")


@pytest.mark.parametrize(
    "command",
    [
        ["history", "busy"],
        ["history"],
        ["why", "busy"],
        ["history", "--since", "24h", "--csv"],
        ["users", "--state", "idle"],
        ["users", "--match", "user-77*", "--state", "online"],
        ["users", "--match", "*4321"],
        ["seats"],
    ],
)
def test_a_command_takes_less_than_a_second(
    millions: Millions, figures: list[str], command: list[str]
) -> None:
    """The real command, without the time that Python takes to start."""

    def took(*arguments: str) -> float:
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "mqtt_presence", *arguments], check=True, capture_output=True)
        return time.monotonic() - began

    start = min(took("users", "--help") for _ in range(3))
    whole = min(took(*command, "--database", millions.url) for _ in range(3))
    figures.append(f"mqtt-presence {' '.join(command)}: {whole:.2f} s, of that {start:.2f} s to start")
    assert whole - start < 1


class Clock:
    """The time of the records, and the machine's monotonic clock."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def now() -> int:
        return NOW


def steps_of(part: Retention) -> list[float]:
    took = []
    while part._work:
        time.sleep(min(1, part.wait_s()))
        began = time.monotonic()
        part.step(None)  # type: ignore[arg-type]
        took.append(time.monotonic() - began)
    return took


LONGEST_S = 0.1
"""A step of a chore, at most: messages wait for it."""


def told(steps: list[float]) -> str:
    ordered = sorted(steps)
    return (
        f"{len(steps)} steps, median {statistics.median(steps) * 1000:.1f} ms, "
        f"99 % {ordered[len(ordered) * 99 // 100] * 1000:.1f} ms, longest {ordered[-1] * 1000:.0f} ms"
    )


def count(url: str, table: str) -> int:
    return int(query(url, f"SELECT COUNT(*) AS n FROM {table}")[0]["n"])


@pytest.mark.timeout(3600)
def test_steps_of_the_move_are_short(millions: Millions, figures: list[str]) -> None:
    """An eighth of what has ended lately is older than seven days; every record is there afterwards."""
    store = Store(millions.url)
    before = count(millions.url, "connection_history")
    part = Retention(store, Clock(), None)
    part.requested(Due.RETENTION)
    began = time.monotonic()
    steps = steps_of(part)
    moved = count(millions.url, "connection_history") - before
    figures.append(
        f"move of {moved:,} records: {told(steps)}, {moved / (time.monotonic() - began):,.0f} records/s"
    )
    assert moved > millions.records // 200
    assert (
        count(millions.url, "connection_history") + count(millions.url, "connection_records")
        == millions.records
    )
    assert statistics.median(steps) < 0.06
    # PostgreSQL's work is done by other processes, which wait for those of the machine.
    assert max(steps) < (3 * LONGEST_S if millions.is_postgresql else LONGEST_S)
    store.close()


@pytest.mark.timeout(3600)
def test_portions_of_forget_are_short(millions: Millions, figures: list[str]) -> None:
    """A user with half a million records: each portion of a thousand, and the last transaction."""
    store = Store(millions.url)
    took, place = [], START
    total = 0
    while place is not None:
        began = time.monotonic()
        with store.transaction() as tx:
            place, deleted = tx.delete_history_of("busy", place, 1000)  # type: ignore[arg-type, assignment]
        store.write_back()
        took.append(time.monotonic() - began)
        total += deleted
    figures.append(f"forget, {total:,} records: {told(took)}")
    assert total > millions.records // 25
    assert max(took) < 1
    store.close()


@pytest.mark.timeout(3600)
def test_steps_of_retention_are_short(millions: Millions, figures: list[str]) -> None:
    """After one year and 23 days: PostgreSQL drops what is older by months, and the rest goes in pages."""
    store = Store(millions.url)
    before = count(millions.url, "connection_history")
    part = Retention(
        store, Clock(), YEARS_MS // 2 + 23 * DAY_MS if millions.is_postgresql else YEARS_MS - 30 * DAY_MS
    )
    part.requested(Due.RETENTION)
    steps = steps_of(part)
    gone = before - count(millions.url, "connection_history")
    figures.append(f"retention, {gone:,} records: {told(steps)}")
    assert gone > millions.records // 100
    assert statistics.median(steps) < 0.06
    assert sorted(steps)[len(steps) * 99 // 100] < LONGEST_S
    assert max(steps) < 1
    store.close()
