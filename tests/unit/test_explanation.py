"""Explanations of records: for every rule that opens or ends one, the rule, the trigger and the time."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mqtt_presence import web
from mqtt_presence.cli import why
from mqtt_presence.protocol.explanations import encode_explanation
from mqtt_presence.rules import explanation
from mqtt_presence.rules.events import (
    Activity,
    CheckDeadlines,
    End,
    EndUnconfirmed,
    Event,
    Login,
    NetworkClosed,
    NetworkOpened,
    ReportsLost,
    Sighting,
)
from mqtt_presence.rules.explanation import RecordChange, Trigger, explain, explain_user
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import Cause, Connection, Reason, Rule, RuleSettings, UserId, UserPresence

SETTINGS = RuleSettings(idle_threshold_ms=1_000, expire_after_ms=5_000, grace_ms=500, implicit_keep_ms=1_000)
ID: dict[str, Any] = {"user_id": "u", "client_id": "phone", "connection_id": "c1"}
OTHER: dict[str, Any] = ID | {"connection_id": "c2"}
LOGIN = Login(**ID, now=10, announce=True, network_id=1)
ORIGIN = "profile:tasmota"


def play(*events: Event, settings: RuleSettings = SETTINGS) -> Connection:
    """Return the record c1 after events."""
    user = UserPresence(user_id=UserId("u"))
    for event in events:
        user = fold(user, [event], settings).user
    return next(c for c in user.connections.values() if c.connection_id == "c1")


def lost(now: int, **more: Any) -> End:
    return End(**ID, now=now, reason=Reason.LOST, **more)


def closed(now: int, cause: Cause, reason: Reason | None = Reason.LOST) -> NetworkClosed:
    return NetworkClosed(user_id="u", client_id="phone", now=now, network_id=1, cause=cause, reason=reason)


OPENINGS = [
    ([LOGIN], RecordChange.OPENED, 10, Rule.L1, Trigger.LOGIN),
    ([Activity(**ID, now=11)], RecordChange.OPENED, 11, Rule.A2, Trigger.ACTIVITY),
    ([Sighting(**ID, now=12, origin=ORIGIN)], RecordChange.OPENED, 12, Rule.S1, Trigger.DEVICE),
    ([LOGIN, CheckDeadlines(user_id="u", now=9_000), Login(**ID, now=9_100)],
     RecordChange.REOPENED, 9_100, Rule.L3, Trigger.LOGIN),
    ([LOGIN, CheckDeadlines(user_id="u", now=9_000), Activity(**ID, now=9_200)],
     RecordChange.REOPENED, 9_200, Rule.A3, Trigger.ACTIVITY),
    ([Sighting(**ID, now=12, origin=ORIGIN), lost(20), Sighting(**ID, now=30, origin=ORIGIN, revives=True)],
     RecordChange.REOPENED, 30, Rule.S3, Trigger.DEVICE),
    ([NetworkOpened(**ID, now=31, network_id=1, connected_at=13)], RecordChange.OPENED, 13, Rule.I1, Trigger.REPORT),
]  # fmt: skip


@pytest.mark.parametrize(("events", "change", "at", "rule", "trigger"), OPENINGS, ids=str)
def test_opening(events: list[Event], change: RecordChange, at: int, rule: Rule, trigger: Trigger) -> None:
    """The first step of an open record names the rule that opened it, and when."""
    past = explain(play(*events), SETTINGS).past
    assert (past[0].change, past[0].at, past[0].rule, past[0].trigger) == (change, at, rule, trigger)
    assert not [step for step in past if step.change is RecordChange.ENDED]


ENDS = [
    ([LOGIN, lost(20)], 20, Rule.E1, Trigger.WILL),
    ([LOGIN, End(**ID, now=21, reason=Reason.LOGOUT)], 21, Rule.E1, Trigger.LOGOUT),
    ([LOGIN, lost(22, cause=Cause.PARENT)], 22, Rule.E1, Trigger.GATEWAY),
    ([Sighting(**ID, now=12, origin=ORIGIN), lost(23)], 23, Rule.E1, Trigger.DEVICE),
    ([Login(user_id="u", client_id="phone", fresh_id="c1", now=10),
      End(user_id="u", client_id="phone", now=24, reason=Reason.LOST)], 24, Rule.E2, Trigger.WILL),
    ([LOGIN, Login(**OTHER, now=25)], 25, Rule.L1, Trigger.LOGIN),
    ([Login(**OTHER, now=10, time=10), Login(**ID, now=26, time=5)], 26, Rule.L4, Trigger.LOGIN),
    ([LOGIN, closed(27, Cause.KEEP_ALIVE)], 27, Rule.G1, Trigger.REPORT),
    ([LOGIN, closed(28, Cause.TAKEOVER)], 28, Rule.G2, Trigger.REPORT),
    ([LOGIN, CheckDeadlines(user_id="u", now=9_000)], 9_000, Rule.B2, Trigger.CHECK),
    ([LOGIN, EndUnconfirmed(user_id="u", now=40, announced_at=11)], 40, Rule.B3, Trigger.CHECK),
    ([LOGIN, Sighting(**OTHER, now=41, origin=ORIGIN)], 41, Rule.S1, Trigger.DEVICE),
    ([Login(**ID, now=10, time=10), End(**OTHER, now=11, reason=Reason.LOST), Login(**OTHER, now=42, time=30)],
     42, Rule.D12, Trigger.LOGIN),
    ([lost(43)], 43, Rule.E1, Trigger.WILL),
    ([LOGIN, NetworkOpened(**OTHER, now=44, network_id=2, connected_at=35)], 44, Rule.I1, Trigger.REPORT),
    ([NetworkOpened(**ID, now=31, network_id=1, connected_at=13), ReportsLost(user_id="u", now=40, before=39),
      CheckDeadlines(user_id="u", now=1_042)], 1_042, Rule.I2, Trigger.CHECK),
]  # fmt: skip


@pytest.mark.parametrize(("events", "at", "rule", "trigger"), ENDS, ids=str)
def test_end(events: list[Event], at: int, rule: Rule, trigger: Trigger) -> None:
    """The last step of an ended record names the rule that ended it, and when the bridge noticed."""
    explanation = explain(play(*events), SETTINGS)
    last = explanation.past[-1]
    assert (last.change, last.at, last.rule, last.trigger) == (RecordChange.ENDED, at, rule, trigger)


def test_every_rule_of_a_record_is_tried() -> None:
    """The lists above have each rule that a record can keep."""
    tried = {case[-2] for case in (*OPENINGS, *ENDS)}
    assert tried == set(Rule) - {Rule.A1, Rule.B1, Rule.S2, Rule.D17}


def test_corrected_end_keeps_both_rules() -> None:
    """A will after a timeout: the end keeps its time, and the correction has its own."""
    record = play(LOGIN, CheckDeadlines(user_id="u", now=9_000), lost(9_500))
    ended, corrected = explain(record, SETTINGS).past[-2:]
    assert (ended.at, ended.rule, ended.trigger) == (9_000, Rule.B2, Trigger.CHECK)
    assert (corrected.change, corrected.at, corrected.rule) == (RecordChange.CORRECTED, 9_500, Rule.E1)
    assert corrected.trigger is Trigger.WILL


def test_idle_names_the_monitor() -> None:
    """The bridge's (B1), the client's (A1), or the device (S2)."""

    def idle(*events: Event) -> tuple[Rule | None, int | None]:
        step = explain(play(*events), SETTINGS).past[-1]
        assert step.change is RecordChange.IDLE
        return step.rule, step.at

    assert idle(Activity(**ID, now=10), CheckDeadlines(user_id="u", now=2_000)) == (Rule.B1, 10)
    assert idle(LOGIN, Activity(**ID, now=30, idle=True, last_activity=20)) == (Rule.A1, 20)
    assert idle(Sighting(**ID, now=12, origin=ORIGIN, idle=True)) == (Rule.S2, 12)


def test_deadlines_are_those_of_the_rules() -> None:
    """One millisecond before each deadline the check changes nothing; at it, it does what is announced."""
    start = [LOGIN, Activity(**ID, now=100)]
    record = play(*start)
    due = explain(record, SETTINGS).due
    assert [(step.change, step.rule, step.at) for step in due] == [
        (RecordChange.IDLE, Rule.B1, 1_101),
        (RecordChange.ENDED, Rule.B2, 5_101),
    ]
    assert not play(*start, CheckDeadlines(user_id="u", now=1_100)).idle
    assert play(*start, CheckDeadlines(user_id="u", now=1_101)).idle
    assert play(*start, CheckDeadlines(user_id="u", now=5_100)).is_open
    ended = play(*start, CheckDeadlines(user_id="u", now=5_101))
    assert not ended.is_open
    (grace,) = explain(ended, SETTINGS).due
    assert (grace.change, grace.at, grace.rule) == (RecordChange.GRACE_ENDS, 5_601, Rule.D17)
    assert explain(ended, SETTINGS).counts
    over = play(*start, CheckDeadlines(user_id="u", now=5_101), CheckDeadlines(user_id="u", now=5_601))
    assert not explain(over, SETTINGS).counts
    assert explain(over, SETTINGS).due == ()


def test_pending_announcement_is_due_for_clients_that_owe_an_answer() -> None:
    """Not for those who answered, or never declared it."""
    settings = RuleSettings()
    (due,) = explain(play(LOGIN), settings, (50, 80)).due
    assert (due.change, due.rule, due.at) == (RecordChange.ENDED, Rule.B3, 80)
    assert explain(play(LOGIN, Login(**ID, now=60)), settings, (50, 80)).due == ()
    assert explain(play(Login(**ID, now=10)), settings, (50, 80)).due == ()


def test_record_of_an_earlier_version() -> None:
    """Its rules are unknown, its times are not."""
    record = Connection(
        user_id="u", client_id="phone", connection_id="c1", last_seen=9, opened_at=5, logout_time=9
    )
    past = explain(record, SETTINGS).past
    assert [(step.at, step.rule, step.trigger) for step in past] == [
        (5, None, Trigger.UNKNOWN),
        (9, None, Trigger.UNKNOWN),
    ]


def test_json_of_an_explanation() -> None:
    """Live records first, then the ended ones, the last end first; absent values are left out."""
    user = UserPresence(user_id=UserId("u"))
    events = [Login(**OTHER, now=1), Login(**ID, now=2), Login(**ID | {"client_id": "tv"}, now=3)]
    for event in events:
        user = fold(user, [event], RuleSettings()).user
    ended = [c for c in user.connections.values() if not c.is_live]
    live = {key: c for key, c in user.connections.items() if c.is_live}
    explanation = explain_user(msgspec.structs.replace(user, connections=live), ended, RuleSettings())
    found = msgspec.json.decode(encode_explanation(explanation))
    assert (found["userId"], found["state"], found["connections"]) == ("u", "online", 2)
    assert [(r["clientId"], r["connectionId"], r["counts"]) for r in found["records"]] == [
        ("phone", "c1", True),
        ("tv", "c1", True),
        ("phone", "c2", False),
    ]
    assert found["records"][2]["past"] == [
        {"change": "opened", "at": "1970-01-01T00:00:00.001Z", "rule": "L1", "trigger": "login"},
        {"change": "ended", "at": "1970-01-01T00:00:00.002Z", "rule": "L1", "trigger": "login"},
    ]
    assert found["records"][0]["due"] == []


def test_every_word_has_a_text() -> None:
    """The command and the page know each change, trigger and deadline of an explanation."""
    source = Path(explanation.__file__).read_text()
    due = source[source.index("def _due(") : source.index("def _idle_rule(")]
    deadlines = set(re.findall(r"Rule\.(\w+)", due))
    assert {rule.name for rule in why._DEADLINES} == deadlines
    assert {*why._CHANGES, *why._DUE} == set(RecordChange)
    assert set(why._TRIGGERS) == set(Trigger)
    panel = (Path(web.__file__).parent / "static/page/why-panel.js").read_text()
    for word in (*deadlines, *RecordChange, *(set(Trigger) - {Trigger.UNKNOWN})):
        assert re.search(rf"\b{word}: \"", panel), word
