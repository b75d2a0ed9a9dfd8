"""The rules decide the same with the records that they need as with all records of a user."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_presence.rules import needs
from mqtt_presence.rules.events import (
    Activity,
    CheckDeadlines,
    ClockSteppedBack,
    EndUnconfirmed,
    Event,
    Login,
    NetworkClosed,
)
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import Cause, Connection, Key, Reason, RuleSettings, UserPresence
from tests.model.test_rules_model import ALICE, any_histories, play, some_settings

JOBS = (CheckDeadlines, EndUnconfirmed, ClockSteppedBack)
"""Events that the bridge applies apart from clients' messages and the broker's reports."""


def reduced(user: UserPresence, events: list[Event]) -> UserPresence:
    """Return the user with the records that a store loads for these events."""
    records: dict[Key, Connection] = {key: c for key, c in user.connections.items() if c.is_live}
    batch = needs.beyond_live({ALICE: events}, {ALICE: records})
    for _, client_id, connection_id in needs.ended_records(batch, {ALICE: records}):
        if (client_id, connection_id) in user.connections:
            records[client_id, connection_id] = user.connections[client_id, connection_id]
    for _, client_id in needs.latest_records(batch):
        latest = user.latest_login.get(client_id)
        records |= {
            key: c
            for key, c in user.connections.items()
            if c.client_id == client_id and latest is not None and c.login_order == latest
        }
    clients = {client_id for _, client_id in needs.latest_logins(batch, {ALICE: records})}
    return UserPresence(
        user_id=user.user_id,
        status=user.status,
        version=user.version,
        last_seen=user.last_seen,
        connections=records,
        latest_login={c: order for c, order in user.latest_login.items() if c in clients},
        latest_login_time={c: time for c, time in user.latest_login_time.items() if c in clients},
    )


def effects(user: UserPresence, events: list[Event], rule_settings: RuleSettings) -> tuple[Any, ...]:
    outcome = fold(user, events, rule_settings)
    changed = {(c.client_id, c.connection_id): c for c in outcome.changed}
    touched = {(c.client_id, c.connection_id): c for c in outcome.touched}
    after = outcome.user
    return (
        changed, touched, sorted(map(repr, outcome.events)), outcome.ignored, outcome.created,
        outcome.status_changed, after.status, after.version, after.last_seen,
    )  # fmt: skip


@pytest.mark.parametrize("of_jobs", [False, True], ids=["messages", "jobs"])
@settings(max_examples=400, deadline=None)
@given(history=any_histories(), split=st.integers(0, 20), rule_settings=some_settings)
def test_the_rules_decide_the_same_with_the_records_that_they_need(
    history: list[Event], split: int, rule_settings: RuleSettings, *, of_jobs: bool
) -> None:
    """Any batch after any history has the same effects with fewer records loaded."""
    user = play(history[:split], rule_settings)
    batch = [event for event in history[split:] if isinstance(event, JOBS) is of_jobs]
    assert effects(reduced(user, batch), batch, rule_settings) == effects(user, batch, rule_settings)


@pytest.mark.parametrize("first", [
    Login(user_id=ALICE, client_id="phone", now=1, connection_id="c1", network_id=1),
    Activity(user_id=ALICE, client_id="phone", now=1, connection_id="c1", network_id=1),
], ids=["login", "activity"])  # fmt: skip
def test_a_late_report_of_the_broker_does_not_change_a_superseded_record(first: Event) -> None:
    """The store does not load such a record, so the rules may not change it (G1)."""
    rule_settings = RuleSettings(
        idle_threshold_ms=None, expire_after_ms=None, grace_ms=0, max_connections=None
    )
    second = Login(user_id=ALICE, client_id="phone", now=2, connection_id="c2", network_id=2)
    user = play([first, second], rule_settings)
    late: list[Event] = [
        NetworkClosed(
            user_id=ALICE, client_id="phone", now=3, network_id=1, cause=Cause.CLOSED, reason=Reason.LOST
        )
    ]
    assert effects(user, late, rule_settings) == effects(reduced(user, late), late, rule_settings)
    assert fold(user, late, rule_settings).changed == ()
