"""The figures of a period are those of its connections, counted one by one here, on both databases."""

from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqtt_presence.rules.model import Reason
from mqtt_presence.store import Store
from mqtt_presence.store.figures import MOST_MOMENTS, PeriodFigures
from mqtt_presence.store.reader import Reader
from mqtt_presence.store.rows import HISTORY_LONGEST
from tests.support.postgres import cursor

BEGIN = 1_800_000_000_000
_COLUMNS = "user_id, client_id, connection_id, named, login_time, announce, logout_time, reason"
_SEEN = "last_seen, heartbeats, reports"


class Line(NamedTuple):
    """A connection, with times from `BEGIN` on."""

    user: int
    began: int | None
    ended: int | None
    reason: Reason | None
    is_live: bool
    is_old: bool


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """Return a connection of one of four users: open, in its time of grace, ended, or in the history."""
    began = draw(st.none() | st.integers(0, 60))
    kind = draw(st.sampled_from(["open", "graced", "ended", "old"]))
    if kind == "open" and began is not None:
        return Line(draw(st.integers(0, 3)), began, None, None, is_live=True, is_old=False)
    ended = (began or 0) + draw(st.integers(0, 40))
    reason = draw(st.none() | st.sampled_from(Reason))
    return Line(draw(st.integers(0, 3)), began, ended, reason, is_live=kind == "graced", is_old=kind == "old")


def counted(found: list[Line], since: int, until: int, moments: int) -> PeriodFigures:
    """Count as docs/api.md says."""
    step = -((since - until) // (moments - 1))
    within = [
        line
        for line in found
        if line.began is not None and line.began <= until and (line.ended is None or line.ended >= since)
    ]
    online = [
        len({line.user for line in within if line.began <= at and (line.ended is None or line.ended > at)})  # type: ignore[operator]
        for at in (since + step * number for number in range(moments))
    ]
    drops = [
        line
        for line in within
        if line.ended is not None
        and line.ended <= until
        and line.reason in {Reason.LOST, Reason.TIMEOUT, Reason.UNCONFIRMED}
    ]
    return PeriodFigures(step, online, len({line.user for line in within}), len(within), len(drops))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make one database for all examples."""
    of_kind = f"sqlite:///{tmp_path_factory.mktemp('figures') / 'presence.db'}"
    if request.param == "postgresql":
        of_kind = request.getfixturevalue("postgres").database()
    store = Store(of_kind)
    store.open()
    if store.locks_rows:  # PostgreSQL, which has partitions
        with store.transaction() as tx:
            tx._make_partitions([BEGIN])
    store.close()
    return of_kind


def fill(url: str, found: list[Line]) -> None:
    """Replace all connections."""
    mark = "?" if url.startswith("sqlite") else "%s"
    with cursor(url) as to:
        for table in ("connection_records", "connection_history", "pulses"):
            to.execute(f"DELETE FROM {table}")
        lengths = [line.ended - line.began for line in found if line.is_old and line.began is not None]
        to.execute(f"DELETE FROM bridge WHERE name = {mark}", [HISTORY_LONGEST])
        if lengths:  # as the move to the history does
            to.execute(
                f"INSERT INTO bridge (name, value) VALUES ({mark}, {mark})",
                [HISTORY_LONGEST, str(max(lengths))],
            )
        for number, line in enumerate(found):
            began, ended = (None if time is None else BEGIN + time for time in (line.began, line.ended))
            row = [f"user-{line.user}", "phone", f"c{number}", True, began, True, ended, line.reason]
            if line.is_old:
                table, columns = "connection_history", f"{_COLUMNS}, id, {_SEEN}"
                row += [number, BEGIN, False, False]
            else:
                table, columns = "connection_records", f"{_COLUMNS}, live"
                row.append(line.is_live)
            to.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join([mark] * len(row))})", row)


@given(
    st.lists(lines(), max_size=12),
    st.integers(0, 60),
    st.integers(1, 60),
    st.integers(2, 20) | st.just(MOST_MOMENTS),
)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_figures_are_those_of_the_connections(
    url: str, found: list[Line], since: int, length: int, moments: int
) -> None:
    """Each moment has the users with an open connection, however many connections they have at once."""
    fill(url, found)
    with Reader(url) as reader:
        given = reader.figures(since=BEGIN + since, until=BEGIN + since + length, moments=moments)
    assert given == counted(found, since, since + length, moments)
