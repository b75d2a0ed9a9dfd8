"""What the holder of seat 0 knows of the other seats: of new ones, of vacant ones, and of those that are gone."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from mqtt_presence.rules.events import Login
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import RuleSettings
from mqtt_presence.store import Candidate, Store
from tests.support.held_bridge import HeldBridge
from tests.support.postgres import Postgres, cursor, query


@pytest.fixture
def bridge(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldBridge]:
    """Hold the first of two seats; the test has its clock, and that of the leases."""
    made = HeldBridge(postgres.database(), seats=2)
    monkeypatch.setattr("mqtt_presence.store.lease.moment", made.clock.monotonic)
    made.store._seat._asked_s = made.store._seat._renewed_s = made.clock.now_s  # type: ignore[attr-defined]
    made.connect()
    made.step(seconds=5)
    yield made
    made.store.close()


def second(bridge: HeldBridge) -> Store:
    """Take the other seat."""
    store = Store(bridge.database, Candidate("second", seats=2))
    store.take_seat()
    assert store.seat.number == 1
    return store


def execute(bridge: HeldBridge, sql: str) -> None:
    with cursor(bridge.database) as cur:
        cur.execute(sql)


def test_new_seat_holds_silence_back_before_it_subscribes(bridge: HeldBridge) -> None:
    """If its process dies a moment later, messages may wait in its session, and no row says so any more."""
    bridge.check()
    assert bridge.parts.others.facts.heard_until != 0
    assert query(bridge.database, "SELECT subscribed FROM seats WHERE id = 0") != [{"subscribed": None}]
    with closing(second(bridge)) as store:
        with store.transaction() as tx:
            tx.begin_session()
        bridge.check()
        assert bridge.parts.others.facts.heard_until == 0
        assert bridge.parts.progress.until == 0


def test_seat_that_leaves_holds_silence_back_and_is_not_vacant(bridge: HeldBridge) -> None:
    """Its last messages are signs of life; nobody needs to be there for it in the end."""
    execute(bridge, "UPDATE seats SET subscribed = TRUE, heard_until = 7, leaving = TRUE WHERE id = 1")
    bridge.check()
    others = bridge.parts.others
    assert (others.staying, others.held, others.facts.leaving) == (1, 1, 1)
    assert others.facts.heard_until == 7
    assert others.facts.are_subscribed
    execute(bridge, "UPDATE seats SET subscribed = FALSE WHERE id = 1")
    bridge.check()
    assert others.facts.are_subscribed, "answers go to the others"


def test_vacant_seat_follows_the_clock_of_the_server(bridge: HeldBridge) -> None:
    """After a step back its progress would be a time that is still to come: its messages would count as read."""
    execute(bridge, "UPDATE seats SET subscribed = TRUE, heard_until = 1800000000000 WHERE id = 1")
    bridge.clock.set_by_ms = -60_000
    bridge.step()
    assert query(bridge.database, "SELECT heard_until FROM seats WHERE id = 1") == [
        {"heard_until": 1_800_000_000_000 - 60_000}
    ]
    bridge.step(seconds=1)
    assert bridge.parts.progress.until == 0, "the others may not have noticed it yet"


def test_counts_of_a_seat_that_is_gone_are_right(bridge: HeldBridge) -> None:
    """The bridge that stays alone counts once more, because the other one changed what it has counted."""
    with closing(second(bridge)) as store:
        bridge.step(seconds=3)
        bridge.check()
        event = Login(user_id="bob", client_id="phone", connection_id="c1", now=1)
        with store.transaction() as tx:
            users = tx.load({"bob": [event]})
            tx.save([fold(users["bob"], [event], RuleSettings())])
        execute(bridge, "UPDATE seats SET leaving = TRUE WHERE id = 1")
        assert store.remove_seat()
    bridge.store._seat._candidate = Candidate(seats=1)  # type: ignore[attr-defined]
    bridge.step(seconds=3)
    bridge.check()
    assert bridge.parts.others.count == 1
    assert bridge.parts.census.live_connections == 1
