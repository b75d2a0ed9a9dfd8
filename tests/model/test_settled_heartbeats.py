"""Settled heartbeats, compared with the rules that have the whole user."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mqtt_presence.rules.activity import only_heartbeats, settle_heartbeats
from mqtt_presence.rules.events import Activity
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import (
    ClientId,
    Connection,
    ConnectionId,
    LastLogin,
    Reason,
    RuleSettings,
    State,
    Status,
    UserId,
    UserPresence,
)
from mqtt_presence.rules.status import combine
from tests.cases import alone

NOW = 1_000_000
ALICE = UserId("alice")
SETTINGS = RuleSettings(idle_threshold_ms=1_000, expire_after_ms=5_000, grace_ms=500)

clients = st.sampled_from([ClientId("phone"), ClientId("tablet")])
ids = st.sampled_from([ConnectionId("c1"), ConnectionId("c2"), ConnectionId("c3")])
earlier = st.integers(0, 3_000).map(lambda ago: NOW - ago)


@st.composite
def connections(draw: st.DrawFn) -> Connection:
    over = draw(st.sampled_from([None, None, None, Reason.LOST, Reason.TIMEOUT]))
    return Connection(
        user_id=ALICE,
        client_id=draw(clients),
        connection_id=draw(ids),
        last_seen=draw(earlier),
        login_order=draw(st.none() | earlier),
        opened_at=draw(earlier),
        idle_threshold_ms=draw(st.sampled_from([None, 700])),
        timeout_ms=draw(st.sampled_from([None, 2_000])),
        heartbeats=draw(st.booleans()),
        reports=draw(st.booleans()),
        idle=draw(st.sampled_from([False, False, None, True])),
        last_activity=draw(st.none() | earlier),
        logout_time=None if over is None else NOW - 1,
        check_at=NOW + 499 if over else draw(st.none() | st.just(NOW + 300)),
        login_time=NOW - 3_000,
        reason=over,
    )


@st.composite
def activities(draw: st.DrawFn) -> Activity:
    return Activity(
        user_id=ALICE,
        client_id=draw(clients),
        now=NOW + draw(st.integers(-100, 2_000)),
        connection_id=draw(st.none() | ids),
        fresh_id=ConnectionId("made up"),
        idle=draw(st.sampled_from([None, None, None, False, True])),
        last_activity=draw(st.none() | earlier),
    )


@given(st.lists(connections(), max_size=4), st.lists(activities(), min_size=1, max_size=4))
def test_settled_heartbeats_have_the_result_of_the_rules(
    live: list[Connection], events: list[Activity]
) -> None:
    """Any number of any activities gives the same records, and no event of the rules is missed."""
    known = {(c.client_id, c.connection_id): c for c in live}
    status = combine(known.values(), Status(since=NOW, last_login=LastLogin(order=1, date=1)), NOW)
    user = UserPresence(user_id=ALICE, status=status, version=3, last_seen=NOW, connections=known)
    outcome = fold(user, events, SETTINGS)
    asked = {event.client_id for event in events}
    settled = settle_heartbeats(events, {k: alone(c) for k, c in known.items() if k[0] in asked}, SETTINGS)
    if settled is None:
        # The rules were needed: some event on the way has an effect or is ignored.
        assert any(_does_more(user, events[:n]) for n in range(1, len(events) + 1))
    else:
        assert sorted(settled, key=_name) == sorted(map(alone, outcome.touched), key=_name)
        assert outcome.user.version == user.version
        assert not _does_more(user, events)
        assert status.state is not State.OFFLINE


def _does_more(user: UserPresence, events: list[Activity]) -> bool:
    outcome = fold(user, events, SETTINGS)
    return bool(outcome.changed or outcome.events or outcome.status_changed or outcome.ignored)


def _name(state: Any) -> tuple[str, str]:
    return state.client_id, state.connection_id


@given(st.lists(activities(), min_size=1, max_size=4))
def test_only_batches_of_heartbeats_are_settled(events: list[Activity]) -> None:
    expected = events if all(event.idle is None for event in events) else []
    assert list(only_heartbeats(events)) == expected
