"""Named histories with their results by the rules of docs/protocol.md: data for tests.

A test may pass the steps to `incoming.parse` and `fold` (tests/unit/test_rules.py). Or it publishes the
messages, and compares the database, the retained status and the events (`wire` cases).

All times are offsets in milliseconds from the start of the history. The clients' times (`time`,
`lastActivity`) lie before the start, or more than an hour after it, and every receipt lies at or after the
start. So a `wire` case holds on any clock, at any speed, with a start just before the first message.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from mqtt_presence.rules.model import ActivityState, Connection, Outcome

HOUR = 3_600_000


@dataclass(frozen=True)
class At:
    """A time in a client's message: exactly `base + ms`."""

    ms: int


@dataclass(frozen=True)
class Received:
    """A time of receipt: `base + ms` on the test's own clock, any moment with a real broker."""

    ms: int


Time = At | Received

Message = tuple[str, str, str, Mapping[str, Any], int]
"""(user, client, verb, payload, at_ms)"""
CheckDeadlines = tuple[str, int]
"""("check", at_ms): the bridge checks deadlines"""
EndUnconfirmed = tuple[str, int, int]
"""("confirm", at_ms, announced_at_ms): the time to answer an announcement has ended"""
Step = Message | CheckDeadlines | EndUnconfirmed

MADE_UP = "*"
"""Any connection id that the bridge made up."""


@dataclass(frozen=True)
class Record:
    """The expected record of one connection."""

    client: str
    id: str = MADE_UP
    reason: str | None = None
    """None for an open connection."""
    idle: bool | None = None
    last: Time | None = None
    user: str = "alice"


@dataclass(frozen=True)
class Case:
    """A history, and its result."""

    name: str
    rows: str
    """The rules that the case is about, by their ids, or words such as `grace`."""
    steps: tuple[Step, ...]
    records: tuple[Record, ...]
    status: Mapping[str, Mapping[str, Any] | None]
    """The retained `status/<user>`, without `userId`, `since`, `lastSeen`, `version`; None: never published.
    `lastLogin` is compared only where it is given, and only by `userAgent` (over the wire with
    `publish_private`)."""
    events: tuple[str, ...]
    """`user event client/connectionId`, in the order of publication; user events have no third word."""
    ignored: tuple[str, ...] = ()
    """The reasons of messages without effect; not visible on the wire."""
    settings: Mapping[str, int] = field(default_factory=dict)
    """Fields of `RuleSettings`; milliseconds."""
    wire: bool = True
    """False if the case depends on the clock beyond the order of arrival."""
    batch: bool = False
    """Whether all steps are applied in one fold."""
    versions: int | None = None
    """The number of publications of the status of alice with a fold for each step (or for the `batch`); not
    countable over the wire."""


def body(payload: Mapping[str, Any], base: int) -> bytes:
    """Return a step's payload for a history that starts at `base`; empty without fields."""
    if not payload:
        return b""
    told = {k: base + v.ms if isinstance(v, At | Received) else v for k, v in payload.items()}
    return json.dumps(told).encode()


ACTIVITY_FIELDS = ("last_seen", "heartbeats", "reports", "idle", "last_activity", "check_at")


def save(saved: dict[tuple[str, ...], Connection], outcome: Outcome) -> None:
    """Save an outcome as a store does: whole changed records, and only the activity of touched ones."""
    for record in outcome.changed:
        saved[record.user_id, record.client_id, record.connection_id] = record
    for record in outcome.touched:
        key = (record.user_id, record.client_id, record.connection_id)
        saved[key] = replace(saved[key], **{name: getattr(record, name) for name in ACTIVITY_FIELDS})


def alone(connection: ActivityState) -> ActivityState:
    """Return only the fields of a connection that a sign of life needs."""
    return ActivityState(*(getattr(connection, name) for name in ActivityState.__struct_fields__))


def _step(
    verb: str, at: int, client: str, connection_id: str | None, *, user: str, fields: dict[str, Any]
) -> Message:
    if connection_id is not None:
        fields = {"connectionId": connection_id, **fields}
    return (user, client, verb, fields, at)


def login(
    at: int, connection_id: str | None = "c1", client: str = "phone", user: str = "alice", **fields: Any
) -> Message:
    return _step("login", at, client, connection_id, user=user, fields=fields)


def beat(
    at: int, connection_id: str | None = "c1", client: str = "phone", user: str = "alice", **fields: Any
) -> Message:
    """Send a heartbeat."""
    return _step("activity", at, client, connection_id, user=user, fields=fields)


def idle(
    at: int,
    last: At | None = None,
    connection_id: str | None = "c1",
    client: str = "phone",
    user: str = "alice",
) -> Message:
    return _step(
        "activity",
        at,
        client,
        connection_id,
        user=user,
        fields={"idle": True} | ({"lastActivity": last} if last else {}),
    )


def active(
    at: int,
    last: At | None = None,
    connection_id: str | None = "c1",
    client: str = "phone",
    user: str = "alice",
) -> Message:
    return _step(
        "activity",
        at,
        client,
        connection_id,
        user=user,
        fields={"idle": False} | ({"lastActivity": last} if last else {}),
    )


def logout(at: int, connection_id: str | None = "c1", client: str = "phone", user: str = "alice") -> Message:
    return _step("logout", at, client, connection_id, user=user, fields={})


def will(at: int, connection_id: str | None = "c1", client: str = "phone", user: str = "alice") -> Message:
    return _step("will", at, client, connection_id, user=user, fields={})


def check(at: int) -> CheckDeadlines:
    return ("check", at)


def confirm(at: int, announced_at: int) -> EndUnconfirmed:
    return ("confirm", at, announced_at)


def online(connections: int = 1, **more: Any) -> dict[str, Any]:
    return {"state": "online", "online": True, "idle": False, "connections": connections, **more}


def idling(last: Time, connections: int = 1, **more: Any) -> dict[str, Any]:
    state = {"state": "idle", "online": True, "idle": True, "connections": connections}
    return {**state, "lastActivity": last, **more}


def offline(**more: Any) -> dict[str, Any]:
    return {"state": "offline", "online": False, "connections": 0, **more}


def names(*events: str) -> tuple[str, ...]:
    """Events of alice."""
    return tuple(f"alice {event}" for event in events)


IN1 = "connectionLogin phone/c1"
OUT1 = "connectionLogout phone/c1"
IN2 = "connectionLogin phone/c2"
OUT2 = "connectionLogout phone/c2"
IDLE1 = "connectionIdle phone/c1"
ACTIVE1 = "connectionActive phone/c1"
IN_ANY = "connectionLogin phone/*"
OUT_ANY = "connectionLogout phone/*"

OFF = {"alice": offline()}
ON = {"alice": online()}
NEVER = {"alice": None}


# fmt: off


def _login_cases() -> tuple[Case, ...]:
    return (
        Case("a first login opens a record", "L1",
             (login(0, userAgent="A"),),
             (Record("phone", "c1"),),
             {"alice": online(lastLogin={"userAgent": "A"})},
             names(IN1, "userOnline"), versions=1),
        Case("a second connection of a client ends the first", "L1",
             (login(0), login(10, "c2")),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2)),
        Case("a connection of another client ends nothing", "L1",
             (login(0), login(10, "c2", "tablet")),
             (Record("phone", "c1"), Record("tablet", "c2")),
             {"alice": online(2)}, names(IN1, "userOnline", "connectionLogin tablet/c2"), versions=2),
        Case("the same client id and connection id of another user is another record", "L1",
             (login(0), login(10, user="bob"), will(20, user="bob")),
             (Record("phone", "c1"), Record("phone", "c1", "lost", user="bob")),
             ON | {"bob": offline()},
             ("alice connectionLogin phone/c1", "alice userOnline", "bob connectionLogin phone/c1",
              "bob userOnline",
              "bob connectionLogout phone/c1", "bob userOffline")),
        Case("the same connection id on two client ids is two records", "L1",
             (login(0), login(10, client="tablet"), will(20)),
             (Record("phone", "c1", "lost"), Record("tablet", "c1")),
             ON, names(IN1, "userOnline", "connectionLogin tablet/c1", OUT1)),
        Case("the clock is set back between two logins that tell no time", "L1",
             (login(50_000), login(10, "c2")),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2), wire=False),
        Case("the clock is set back between two logins that tell their time", "L1 L4",
             (login(50_000, time=At(50_000)), login(10, "c2", time=At(5)), beat(20, "c2")),
             (Record("phone", "c1", "superseded"), Record("phone", "c2", None, False, Received(20))),
             ON, names(IN1, "userOnline", OUT1, IN2, "connectionActive phone/c2"), wire=False),
        Case("the clock is set back after the end of a connection, whose client comes again", "L1 L4",
             (login(50_000, time=At(50_000)), will(50_100), login(10, "c2", time=At(5)), beat(20, "c2")),
             (Record("phone", "c1", "lost"), Record("phone", "c2", None, False, Received(20))),
             ON, names(IN1, "userOnline", OUT1, "userOffline", IN2, "userOnline", "connectionActive phone/c2"),
             wire=False),
        Case("the clock was set back, and the time it was before has come: an older login is older", "L4",
             (login(50_000, time=At(50_000)), login(10, "c2", time=At(5)), login(50_001, "c3", time=At(49_999))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2"), Record("phone", "c3", "superseded")),
             ON, names(IN1, "userOnline", OUT1, IN2), wire=False),
        Case("a login again is no new record and no event", "L2",
             (login(0, userAgent="A"), login(10, userAgent="B")),
             (Record("phone", "c1"),),
             {"alice": online(lastLogin={"userAgent": "B"})}, names(IN1, "userOnline"), versions=2),
        Case("a login again keeps what it does not mention", "L2",
             (login(0, userAgent="A"), login(10), login(20, userAgent=None, meta=None, announce=None)),
             (Record("phone", "c1"),),
             {"alice": online(lastLogin={"userAgent": "A"})}, names(IN1, "userOnline"), versions=1),
        Case("a login again, without an id, keeps what it does not mention", "L2",
             (login(0, None, userAgent="A"), login(10, None)),
             (Record("phone"),),
             {"alice": online(lastLogin={"userAgent": "A"})},
             names("connectionLogin phone/*", "userOnline"), versions=1),
        Case("a login after a guessed end keeps what it does not mention", "L3",
             (login(0, announce=True, userAgent="A"), confirm(40_000, 10_000), login(41_000)),
             (Record("phone", "c1"),),
             {"alice": online(lastLogin={"userAgent": "A"})},
             names(IN1, "userOnline", OUT1, "userOffline", IN1, "userOnline"), wire=False),
        Case("a login again keeps that its client answers announcements", "L2 B3",
             (login(0, announce=True), login(10), confirm(40_000, 10_000)),
             (Record("phone", "c1", "unconfirmed"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), wire=False),
        Case("a login that tells its time comes after one that told none", "L1 L4",
             (login(0), login(10, "c2", time=At(-100))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2)),
        Case("a login that tells no time comes after one that told its own", "L1 L4",
             (login(0, time=At(-100)), login(10, "c2")),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2)),
        Case("the login before told no time, and that before it is older", "L1 L4",
             (login(0), login(10, "c2", time=At(-100)), login(20, "c3", time=At(-200)),
              login(30, "c4", time=At(-50))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2", "superseded"),
              Record("phone", "c3", "superseded"), Record("phone", "c4")),
             ON, names(IN1, "userOnline", OUT1, IN2, "connectionLogout phone/c2", "connectionLogin phone/c4")),
        Case("a late login that tells its time, after one that told none", "A2 L4",
             (login(0), beat(10, "c2"), login(20, "c2", time=At(-100))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2", None, False, Received(10))),
             ON, names(IN1, "userOnline", IN2, "connectionActive phone/c2", OUT1)),
        Case("a login behind its own will leaves the connection that told no time", "L3 L4",
             (login(0), will(10, "c2"), login(20, "c2", time=At(-100))),
             (Record("phone", "c1"), Record("phone", "c2", "lost")),
             ON, names(IN1, "userOnline"), ("login_after_end",)),
        Case("a login again that says nothing new is not published", "L2",
             (login(0, userAgent="A"), login(10, userAgent="A")),
             (Record("phone", "c1"),), ON, names(IN1, "userOnline"), versions=1),
        Case("a device without ids logs in again: one record", "L2",
             (login(0, None), login(10, None), login(20, None)),
             (Record("phone"),), ON, names(IN_ANY, "userOnline"), versions=1),
        Case("a login without an id after one with: a new connection", "L1 L2",
             (login(0), login(10, None)),
             (Record("phone", "c1", "superseded"), Record("phone")),
             ON, names(IN1, "userOnline", OUT1, IN_ANY)),
        Case("a login with an id after one without: a new connection", "L1 L2",
             (login(0, None), login(10)),
             (Record("phone", MADE_UP, "superseded"), Record("phone", "c1")),
             ON, names(IN_ANY, "userOnline", OUT_ANY, IN1)),
        Case("a device without ids logs in after its will: a new record", "L1 E2",
             (login(0, None), will(10, None), login(20, None)),
             (Record("phone", MADE_UP, "lost"), Record("phone")),
             ON, names(IN_ANY, "userOnline", OUT_ANY, "userOffline", IN_ANY, "userOnline")),
        Case("a login again leaves an idle connection idle", "L2 status",
             (login(0), idle(10, At(-300)), login(20)),
             (Record("phone", "c1", None, True, At(-300)),),
             {"alice": idling(At(-300))}, names(IN1, "userOnline", IDLE1, "userIdle")),
        Case("a login again does not put off the idle check", "L2 B1",
             (login(0, idleThreshold=10), login(9_000, idleThreshold=10), check(10_001)),
             (Record("phone", "c1", None, True, Received(0)),),
             {"alice": idling(Received(0))}, names(IN1, "userOnline", IDLE1, "userIdle"), wire=False),
        Case("a login again may change the threshold", "L2 B1",
             (login(0, idleThreshold=1000), login(1_000, idleThreshold=5), check(5_001)),
             (Record("phone", "c1", None, True, Received(0)),),
             {"alice": idling(Received(0))}, names(IN1, "userOnline", IDLE1, "userIdle"), wire=False),
        Case("a login behind its own will revives nothing", "L3 E1",
             (will(0), login(10, userAgent="A")),
             (Record("phone", "c1", "lost"),),
             {"alice": offline(lastLogin={"userAgent": "A"})}, (), ("login_after_end",)),
        Case("a login repeated after the logout is ignored", "L3",
             (login(0), logout(10), login(20)),
             (Record("phone", "c1", "logout"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), ("login_after_end",), versions=2),
        Case("a login repeated after its connection was superseded is ignored", "L3",
             (login(0), login(10, "c2"), login(20)),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2), ("login_after_end",)),
        Case("a login without a time, behind its own will, leaves the connection there is", "L3",
             (login(0), will(10, "c0"), login(20, "c0")),
             (Record("phone", "c1"), Record("phone", "c0", "lost")),
             ON, names(IN1, "userOnline"), ("login_after_end",)),
        Case("a login behind its own will still ends the client's older connection", "L3 L4",
             (login(0, time=At(-200)), will(10, "c2"), login(20, "c2", time=At(-100))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2", "lost")),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), ("login_after_end",)),
        Case("a login behind its own will leaves the client's newer connection", "L3 L4",
             (login(0, time=At(-100)), will(10, "c0"), login(20, "c0", time=At(-200))),
             (Record("phone", "c1"), Record("phone", "c0", "lost")),
             ON, names(IN1, "userOnline"), ("login_after_end",)),
        Case("a login takes a timeout back", "L3 B2",
             (login(0, timeout=5), check(5_001), login(6_000, timeout=5)),
             (Record("phone", "c1"),),
             ON, names(IN1, "userOnline", OUT1, "userOffline", IN1, "userOnline"), wire=False, versions=3),
        Case("a login takes a missing confirmation back", "L3 B3",
             (login(0, announce=True), confirm(40_000, 10_000), login(41_000, announce=True)),
             (Record("phone", "c1"),),
             ON, names(IN1, "userOnline", OUT1, "userOffline", IN1, "userOnline"), wire=False),
        Case("a login that reopens an idle connection leaves it idle", "L3 status",
             (login(0, timeout=5), idle(10, At(-300)), check(5_011), login(6_000, timeout=5)),
             (Record("phone", "c1", None, True, At(-300)),), {"alice": idling(At(-300))},
             names(IN1, "userOnline", IDLE1, "userIdle", OUT1, "userOffline", IN1, "userOnline",
              "userIdle"), wire=False),
        Case("a login does not take a guess back when the client has a newer connection", "L3",
             (login(0, timeout=5), check(5_001), login(6_000, "c2"), login(7_000)),
             (Record("phone", "c1", "timeout"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, "userOffline", IN2, "userOnline"), ("login_after_end",),
              wire=False),
        Case("nor when that newer connection has ended itself", "L3",
             (login(0, timeout=5), check(5_001), login(6_000, "c2"), logout(6_500, "c2"), login(7_000)),
             (Record("phone", "c1", "timeout"), Record("phone", "c2", "logout")), OFF,
             names(IN1, "userOnline", OUT1, "userOffline", IN2, "userOnline", OUT2, "userOffline"),
             ("login_after_end",), wire=False),
        Case("a login without a time, behind its own will, does not make a guess final", "L3",
             (login(0, timeout=5), check(5_001), will(5_500, "c0"), login(6_000, "c0"), login(7_000)),
             (Record("phone", "c1"), Record("phone", "c0", "lost")),
             ON, names(IN1, "userOnline", OUT1, "userOffline", IN1, "userOnline"), ("login_after_end",),
              wire=False),
        Case("a login older than the client's open connection is kept as ended", "L4",
             (login(0, "c2", time=At(-100), userAgent="new"), login(10, time=At(-200), userAgent="old")),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             {"alice": online(lastLogin={"userAgent": "new"})}, names(IN2, "userOnline"), versions=1),
        Case("a login older than the client's ended connection is kept as ended", "L4",
             (login(0, "c2", time=At(-100)), logout(5, "c2"), login(10, time=At(-200))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2", "logout")),
             OFF, names(IN2, "userOnline", OUT2, "userOffline"), versions=2),
        Case("a login older than a connection that only ever ended is kept as ended", "L4 E1",
             (will(0, "c2"), login(5, "c2", time=At(-100)), login(10, time=At(-200))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2", "lost")),
             OFF, (), ("login_after_end",)),
        Case("a login older than the connection of another client counts", "L4",
             (login(0, "c2", "tablet", time=At(-100)), login(10, time=At(-200))),
             (Record("phone", "c1"), Record("tablet", "c2")),
             {"alice": online(2)}, names("connectionLogin tablet/c2", "userOnline", IN1)),
        Case("of two logins with the same time the one that came last stays", "L4 time",
             (login(0, time=At(-100)), login(10, "c2", time=At(-100))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2)),
        Case("a repeat of the first of two logins with the same time changes nothing", "L4 time duplicates",
             (login(0, time=At(-100)), login(10, "c2", time=At(-100)), login(20, time=At(-100))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2), ("login_after_end",)),
        Case("a time ahead of the bridge's does not hold the place of newest", "time L4",
             (login(0, time=At(2 * HOUR)), login(10, "c2", time=At(HOUR))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2)),
        Case("a time ahead of the bridge's is cut to its now", "time L4",
             (login(100, time=At(HOUR)), login(300, "c2", time=At(200))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2), wire=False),
        Case("a time ahead of the bridge's is still newer than one before it", "time L4",
             (login(100, time=At(HOUR)), login(300, "c2", time=At(50))),
             (Record("phone", "c1"), Record("phone", "c2", "superseded")),
             ON, names(IN1, "userOnline"), wire=False),
        Case("the last login is the latest by time, whichever client's", "status L4",
             (login(0, "c2", "tablet", time=At(-100), userAgent="new"), login(10, time=At(-200),
              userAgent="old")),
             (Record("phone", "c1"), Record("tablet", "c2")),
             {"alice": online(2, lastLogin={"userAgent": "new"})}, names("connectionLogin tablet/c2",
              "userOnline", IN1)),
        Case("the last login is the latest by receipt where no time is told, and is kept offline", "status",
             (login(0, userAgent="A"), login(10, "c2", "tablet", userAgent="B"), logout(20, "c2", "tablet"),
              logout(30)),
             (Record("phone", "c1", "logout"), Record("tablet", "c2", "logout")),
             {"alice": offline(lastLogin={"userAgent": "B"})},
             names(IN1, "userOnline", "connectionLogin tablet/c2", "connectionLogout tablet/c2", OUT1,
              "userOffline"),
             versions=4),
    )


def _activity_cases() -> tuple[Case, ...]:
    return (
        Case("a report of idle makes the user idle", "A1 status",
             (login(0), idle(10, At(-300))),
             (Record("phone", "c1", None, True, At(-300)),),
             {"alice": idling(At(-300))}, names(IN1, "userOnline", IDLE1, "userIdle"), versions=2),
        Case("a report of idle without lastActivity: as of its receipt", "A1",
             (login(0), idle(10)),
             (Record("phone", "c1", None, True, Received(10)),),
             {"alice": idling(Received(10))}, names(IN1, "userOnline", IDLE1, "userIdle")),
        Case("a report of active while it was not known is an event", "A1 events",
             (login(0), active(10, At(-300))),
             (Record("phone", "c1", None, False, At(-300)),),
             ON, names(IN1, "userOnline", ACTIVE1), versions=1),
        Case("a second report of active is no event", "A1 events",
             (login(0), active(10, At(-300)), active(20, At(-200))),
             (Record("phone", "c1", None, False, At(-200)),),
             ON, names(IN1, "userOnline", ACTIVE1), versions=1),
        Case("idle, then active again", "A1",
             (login(0), idle(10, At(-300)), active(20, At(-200))),
             (Record("phone", "c1", None, False, At(-200)),),
             ON, names(IN1, "userOnline", IDLE1, "userIdle", ACTIVE1, "userActive"), versions=3),
        Case("a newer lastActivity while idle is an event, not a change of state", "A1 events",
             (login(0), idle(10, At(-300)), idle(20, At(-200))),
             (Record("phone", "c1", None, True, At(-200)),),
             {"alice": idling(At(-200))}, names(IN1, "userOnline", IDLE1, "userIdle", IDLE1), versions=3),
        Case("a report of idle repeated is no event", "A1 duplicates",
             (login(0), idle(10, At(-300)), idle(20, At(-300))),
             (Record("phone", "c1", None, True, At(-300)),),
             {"alice": idling(At(-300))}, names(IN1, "userOnline", IDLE1, "userIdle"), versions=2),
        Case("an older report changes nothing", "A1 order",
             (login(0), idle(10, At(-200)), active(20, At(-300))),
             (Record("phone", "c1", None, True, At(-200)),),
             {"alice": idling(At(-200))}, names(IN1, "userOnline", IDLE1, "userIdle"), versions=2),
        Case("an older report of idle does not make idle", "A1 order",
             (login(0), active(10, At(-200)), idle(20, At(-300))),
             (Record("phone", "c1", None, False, At(-200)),),
             ON, names(IN1, "userOnline", ACTIVE1)),
        Case("of two reports with one lastActivity idle is the later, whatever the order: idle last",
         "A1 order",
             (login(0), active(10, At(-200)), idle(20, At(-200))),
             (Record("phone", "c1", None, True, At(-200)),),
             {"alice": idling(At(-200))}, names(IN1, "userOnline", ACTIVE1, IDLE1, "userIdle")),
        Case("of two reports with one lastActivity idle is the later, whatever the order: idle first",
         "A1 order",
             (login(0), idle(10, At(-200)), active(20, At(-200))),
             (Record("phone", "c1", None, True, At(-200)),),
             {"alice": idling(At(-200))}, names(IN1, "userOnline", IDLE1, "userIdle")),
        Case("a heartbeat counts as activity now", "A1",
             (login(0), idle(10, At(-300)), beat(20)),
             (Record("phone", "c1", None, False, Received(20)),),
             ON, names(IN1, "userOnline", IDLE1, "userIdle", ACTIVE1, "userActive")),
        Case("a heartbeat that tells a lastActivity counts as activity then", "A1",
             (login(0), idle(10, At(-300)), beat(20, lastActivity=At(-200))),
             (Record("phone", "c1", None, False, At(-200)),),
             ON, names(IN1, "userOnline", IDLE1, "userIdle", ACTIVE1, "userActive")),
        Case("a report behind a heartbeat changes nothing", "A1 order",
             (login(0), beat(10), idle(20, At(-200))),
             (Record("phone", "c1", None, False, Received(10)),),
             ON, names(IN1, "userOnline", ACTIVE1)),
        Case("activity without an id is of the client's open record", "A1",
             (login(0), idle(10, At(-300), None)),
             (Record("phone", "c1", None, True, At(-300)),),
             {"alice": idling(At(-300))}, names(IN1, "userOnline", IDLE1, "userIdle")),
        Case("activity of a device without ids is of its open record", "A1",
             (login(0, None), beat(10, None), beat(20, None)),
             (Record("phone", MADE_UP, None, False, Received(20)),),
             ON, names(IN_ANY, "userOnline", "connectionActive phone/*"), versions=1),
        Case("a lastActivity ahead of the bridge's now is cut to it", "A1 time",
             (login(0), idle(10, At(HOUR))),
             (Record("phone", "c1", None, True, Received(10)),),
             {"alice": idling(Received(10))}, names(IN1, "userOnline", IDLE1, "userIdle")),
        Case("a lastActivity ahead of the bridge's now does not deafen it", "A1 time",
             (login(0), idle(10, At(HOUR)), active(20)),
             (Record("phone", "c1", None, False, Received(20)),),
             ON, names(IN1, "userOnline", IDLE1, "userIdle", ACTIVE1, "userActive")),
        Case("the clock is set back: a heartbeat is believed, lastActivity stays", "A1 time",
             (login(50_000), idle(50_000), beat(10)),
             (Record("phone", "c1", None, False, Received(50_000)),),
             ON, names(IN1, "userOnline", IDLE1, "userIdle", ACTIVE1, "userActive"), wire=False),
        Case("the clock is set back: what is told ahead of it is as good as told now", "A1 time",
             (login(50_000), idle(50_000), active(10, At(HOUR))),
             (Record("phone", "c1", None, False, Received(50_000)),),
             ON, names(IN1, "userOnline", IDLE1, "userIdle", ACTIVE1, "userActive"), wire=False),
        Case("idle before the login: the login leaves it idle", "A2 status",
             (idle(0, At(-300)), login(10, time=At(-400), userAgent="A")),
             (Record("phone", "c1", None, True, At(-300)),),
             {"alice": idling(At(-300), lastLogin={"userAgent": "A"})},
             names(IN1, IDLE1, "userOnline", "userIdle"), versions=2),
        Case("idle before the login, which tells no time", "A2 status",
             (idle(0, At(-300)), login(10)),
             (Record("phone", "c1", None, True, At(-300)),),
             {"alice": idling(At(-300))}, names(IN1, IDLE1, "userOnline", "userIdle")),
        Case("a login stamped later than the idle report handled before it", "A2 status",
             (idle(0, At(-300)), login(10, time=At(-200))),
             (Record("phone", "c1", None, True, At(-300)),),
             {"alice": idling(At(-300))}, names(IN1, IDLE1, "userOnline", "userIdle")),
        Case("a report of a moment before the login", "A1",
             (login(0, time=At(-200)), idle(10, At(-300))),
             (Record("phone", "c1", None, True, At(-300)),),
             {"alice": idling(At(-300))}, names(IN1, "userOnline", IDLE1, "userIdle")),
        Case("a heartbeat of nothing known opens a record", "A2",
             (beat(0),),
             (Record("phone", "c1", None, False, Received(0)),),
             ON, names(IN1, ACTIVE1, "userOnline"), versions=1),
        Case("a heartbeat without an id, nothing open, opens a record", "A2",
             (beat(0, None), beat(10, None)),
             (Record("phone", MADE_UP, None, False, Received(10)),),
             ON, names(IN_ANY, "connectionActive phone/*", "userOnline")),
        Case("a login without an id is that of the record a heartbeat opened", "A2 L2",
             (beat(0, None), login(10, None, userAgent="A")),
             (Record("phone", MADE_UP, None, False, Received(0)),),
             {"alice": online(lastLogin={"userAgent": "A"})}, names(IN_ANY, "connectionActive phone/*",
              "userOnline")),
        Case("a login with an id ends the record that a heartbeat without one opened", "A2 L1",
             (beat(0, None), login(10, time=At(-100))),
             (Record("phone", MADE_UP, "superseded", False, Received(0)), Record("phone", "c1")),
             ON, names(IN_ANY, "connectionActive phone/*", "userOnline", OUT_ANY, IN1)),
        Case("activity of an unknown id beside an open connection ends nothing", "A2",
             (login(0, time=At(-300)), active(10, At(-200), "c2")),
             (Record("phone", "c1"), Record("phone", "c2", None, False, At(-200))),
             {"alice": online(2)}, names(IN1, "userOnline", IN2, "connectionActive phone/c2")),
        Case("its login turns out newer: the older connection ends", "A2",
             (login(0, time=At(-300)), active(10, At(-200), "c2"), login(20, "c2", time=At(-250))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2", None, False, At(-200))),
             ON, names(IN1, "userOnline", IN2, "connectionActive phone/c2", OUT1)),
        Case("its login turns out older: it ends itself", "A2 L4",
             (login(0, "c2", time=At(-300)), active(10, At(-350)), login(20, time=At(-400))),
             (Record("phone", "c1", "superseded", False, At(-350)), Record("phone", "c2")),
             ON, names(IN2, "userOnline", IN1, ACTIVE1, OUT1)),
        Case("its login tells no time: the order of arrival is all there is", "A2",
             (login(0), active(10, At(-200), "c2"), login(20, "c2")),
             (Record("phone", "c1", "superseded"), Record("phone", "c2", None, False, At(-200))),
             ON, names(IN1, "userOnline", IN2, "connectionActive phone/c2", OUT1)),
        Case("a connection whose login is missing is not ended by another's that tells its time", "A2",
             (active(0, At(-100), "c2"), login(10, time=At(-300))),
             (Record("phone", "c1"), Record("phone", "c2", None, False, At(-100))),
             {"alice": online(2)}, names(IN2, "connectionActive phone/c2", "userOnline", IN1)),
        Case("and then its own login decides: newer", "A2",
             (active(0, At(-100), "c2"), login(10, time=At(-300)), login(20, "c2", time=At(-200))),
             (Record("phone", "c1", "superseded"), Record("phone", "c2", None, False, At(-100))),
             ON, names(IN2, "connectionActive phone/c2", "userOnline", IN1, OUT1)),
        Case("and then its own login decides: older", "A2",
             (active(0, At(-350)), login(10, "c2", time=At(-300)), login(20, time=At(-400))),
             (Record("phone", "c1", "superseded", False, At(-350)), Record("phone", "c2")),
             ON, names(IN1, ACTIVE1, "userOnline", IN2, OUT1)),
        Case("idle after the logout is ignored", "A3",
             (login(0), logout(10), idle(20, At(-100))),
             (Record("phone", "c1", "logout"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), ("activity_after_end",)),
        Case("active after the will is ignored", "A3",
             (login(0), will(10), active(20, At(-100))),
             (Record("phone", "c1", "lost"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), ("activity_after_end",)),
        Case("a heartbeat after its connection was superseded is ignored", "A3",
             (login(0), login(10, "c2"), beat(20)),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2), ("activity_after_end",)),
        Case("activity of a connection of which only the end is known is ignored", "A3 E1",
             (will(0), beat(10)),
             (Record("phone", "c1", "lost"),),
             NEVER, (), ("activity_after_end",)),
        Case("activity takes a timeout back", "A3 B2",
             (login(0, timeout=5), check(5_001), beat(6_000)),
             (Record("phone", "c1", None, False, Received(6_000)),),
             ON, names(IN1, "userOnline", OUT1, "userOffline", IN1, ACTIVE1, "userOnline"), wire=False),
        Case("a report of idle takes a missing confirmation back", "A3 B3",
             (login(0, announce=True), confirm(40_000, 10_000), idle(41_000, At(-100))),
             (Record("phone", "c1", None, True, At(-100)),), {"alice": idling(At(-100))},
             names(IN1, "userOnline", OUT1, "userOffline", IN1, IDLE1, "userOnline", "userIdle"), wire=False),
        Case("activity does not take a guess back when the client has a newer connection", "A3",
             (login(0, timeout=5), check(5_001), login(6_000, "c2"), beat(7_000)),
             (Record("phone", "c1", "timeout"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, "userOffline", IN2, "userOnline"), ("activity_after_end",),
              wire=False),
        Case("activity without an id after a timeout opens a record of its own", "A2",
             (login(0, None, timeout=5), check(5_001), beat(6_000, None)),
             (Record("phone", MADE_UP, "timeout"), Record("phone", MADE_UP, None, False, Received(6_000))),
              ON,
             names(IN_ANY, "userOnline", OUT_ANY, "userOffline", IN_ANY, "connectionActive phone/*",
              "userOnline"),
             wire=False),
    )


def _end_cases() -> tuple[Case, ...]:
    return (
        Case("a logout ends its connection", "E1",
             (login(0), logout(10)),
             (Record("phone", "c1", "logout"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), versions=2),
        Case("a will ends its connection", "E1",
             (login(0), will(10)),
             (Record("phone", "c1", "lost"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), versions=2),
        Case("what an ended connection last said of itself stays in its record", "E1",
             (login(0), idle(10, At(-300)), logout(20)),
             (Record("phone", "c1", "logout", True, At(-300)),),
             OFF, names(IN1, "userOnline", IDLE1, "userIdle", OUT1, "userOffline")),
        Case("an end of an id unseen is remembered, and is nobody's status", "E1",
             (will(0),),
             (Record("phone", "c1", "lost"),),
             NEVER, (), versions=0),
        Case("an end of an id unseen leaves the client's open connection", "E1",
             (login(0), logout(10, "c0")),
             (Record("phone", "c0", "logout"), Record("phone", "c1")),
             ON, names(IN1, "userOnline"), versions=1),
        Case("a late will, after a new login of the same client", "E1 L1",
             (login(0), login(10, "c2"), will(20)),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")),
             ON, names(IN1, "userOnline", OUT1, IN2), ("end_after_end",)),
        Case("a late will, after a login of another client", "E1",
             (login(0), login(10, "c2", "tablet"), will(20)),
             (Record("phone", "c1", "lost"), Record("tablet", "c2")),
             ON, names(IN1, "userOnline", "connectionLogin tablet/c2", OUT1)),
        Case("a logout, then a will: one end", "E1",
             (login(0), logout(10), will(20)),
             (Record("phone", "c1", "logout"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), ("end_after_end",)),
        Case("a logout twice: one end", "E1 duplicates",
             (login(0), logout(10), logout(20)),
             (Record("phone", "c1", "logout"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), ("end_after_end",), versions=2),
        Case("a will twice, the first before the login: one record", "E1 duplicates",
             (will(0), will(10)),
             (Record("phone", "c1", "lost"),),
             NEVER, (), ("end_after_end",)),
        Case("mallory's will with the connection id of alice touches nothing of hers", "E1 identity",
             (login(0), will(10, user="mallory")),
             (Record("phone", "c1"), Record("phone", "c1", "lost", user="mallory")),
             ON | {"mallory": None}, names(IN1, "userOnline"), versions=1),
        Case("mallory's activity and login with the connection id of alice are mallory's own",
         "A2 L1 identity",
             (login(0), idle(10, At(-100), user="mallory"), login(20, user="mallory")),
             (Record("phone", "c1"), Record("phone", "c1", None, True, At(-100), user="mallory")),
             ON | {"mallory": idling(At(-100))},
             ("alice connectionLogin phone/c1", "alice userOnline", "mallory connectionLogin phone/c1",
              "mallory connectionIdle phone/c1", "mallory userOnline", "mallory userIdle"), versions=1),
        Case("two users take turns on one client id", "E1 identity",
             (login(0), logout(10), login(20, "c2", user="bob"), will(30), will(40, "c2", user="bob")),
             (Record("phone", "c1", "logout"), Record("phone", "c2", "lost", user="bob")),
             OFF | {"bob": offline()},
             ("alice connectionLogin phone/c1", "alice userOnline", "alice connectionLogout phone/c1",
              "alice userOffline",
              "bob connectionLogin phone/c2", "bob userOnline", "bob connectionLogout phone/c2",
              "bob userOffline"),
             ("end_after_end",)),
        Case("another user takes over a client id: the first is there until its own will", "L1 identity",
             (login(0), login(10, "c2", user="bob"), will(20)),
             (Record("phone", "c1", "lost"), Record("phone", "c2", user="bob")),
             OFF | {"bob": online()},
             ("alice connectionLogin phone/c1", "alice userOnline", "bob connectionLogin phone/c2",
              "bob userOnline",
              "alice connectionLogout phone/c1", "alice userOffline")),
        Case("a guessed end is made certain by a logout", "E1 B2",
             (login(0, timeout=5), check(5_001), logout(6_000), beat(7_000), login(8_000)),
             (Record("phone", "c1", "logout"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), ("activity_after_end", "login_after_end"),
             wire=False, versions=2),
        Case("a guessed end is made certain by a will", "E1 B3",
             (login(0, announce=True), confirm(40_000, 10_000), will(41_000), login(42_000)),
             (Record("phone", "c1", "lost"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline"), ("login_after_end",), wire=False),
        Case("an end without an id ends the client's open connection", "E2",
             (login(0), will(10, None)),
             (Record("phone", "c1", "lost"),),
             OFF, names(IN1, "userOnline", OUT1, "userOffline")),
        Case("an end without an id leaves other clients", "E2",
             (login(0, None), login(10, None, "tablet"), logout(20, None)),
             (Record("phone", MADE_UP, "logout"), Record("tablet")),
             ON, names(IN_ANY, "userOnline", "connectionLogin tablet/*", OUT_ANY)),
        Case("an end without an id, nothing open, is nothing", "E2",
             (will(0, None), login(10, None), will(20, None), will(30, None)),
             (Record("phone", MADE_UP, "lost"),),
             OFF, names(IN_ANY, "userOnline", OUT_ANY, "userOffline"), ("end_of_nothing", "end_of_nothing")),
    )



def _status_cases() -> tuple[Case, ...]:
    two = (login(0), login(1, "c2", "tablet"))
    in_two = (IN1, "userOnline", "connectionLogin tablet/c2")
    both_idle = (*two, idle(10, At(-300)), idle(20, At(-200), "c2", "tablet"))
    both_events = (*in_two, IDLE1, "connectionIdle tablet/c2", "userIdle")
    return (
        Case("one of two idle: the user is not", "status",
             (*two, idle(10, At(-300))),
             (Record("phone", "c1", None, True, At(-300)), Record("tablet", "c2")),
             {"alice": online(2)}, names(*in_two, IDLE1), versions=2),
        Case("both idle: the latest activity is shown", "status",
             both_idle,
             (Record("phone", "c1", None, True, At(-300)), Record("tablet", "c2", None, True, At(-200))),
             {"alice": idling(At(-200), 2)}, names(*both_events), versions=3),
        Case("both idle, the later first: the latest activity is shown", "status",
             (*two, idle(10, At(-200)), idle(20, At(-300), "c2", "tablet")),
             (Record("phone", "c1", None, True, At(-200)), Record("tablet", "c2", None, True, At(-300))),
             {"alice": idling(At(-200), 2)}, names(*both_events)),
        Case("the connection idle last leaves: the shown activity is not taken back", "status",
             (*both_idle, logout(30, "c2", "tablet")),
             (Record("phone", "c1", None, True, At(-300)), Record("tablet", "c2", "logout", True, At(-200))),
             {"alice": idling(At(-200))}, names(*both_events, "connectionLogout tablet/c2"), versions=4),
        Case("the connection idle first leaves", "status",
             (*both_idle, logout(30)),
             (Record("phone", "c1", "logout", True, At(-300)), Record("tablet", "c2", None, True, At(-200))),
             {"alice": idling(At(-200))}, names(*both_events, OUT1)),
        Case("a new idle period shows its own activity", "status",
             (*both_idle, logout(30, "c2", "tablet"), login(40, "c3", "desk"), logout(50, "c3", "desk")),
             (Record("phone", "c1", None, True, At(-300)), Record("tablet", "c2", "logout", True, At(-200)),
              Record("desk", "c3", "logout")),
             {"alice": idling(At(-300))},
             names(*both_events, "connectionLogout tablet/c2", "connectionLogin desk/c3", "userActive",
                   "connectionLogout desk/c3", "userIdle")),
        Case("an active connection leaves idle ones behind", "status",
             (*two, login(2, "c3", "desk"), idle(10, At(-300)), idle(20, At(-200), "c2", "tablet"), will(30,
              "c3", "desk")),
             (Record("phone", "c1", None, True, At(-300)), Record("tablet", "c2", None, True, At(-200)),
              Record("desk", "c3", "lost")),
             {"alice": idling(At(-200), 2)},
             names(*in_two, "connectionLogin desk/c3", IDLE1, "connectionIdle tablet/c2",
              "connectionLogout desk/c3", "userIdle")),
        Case("an idle connection leaves an active one behind", "status",
             (*two, idle(10, At(-300)), logout(20)),
             (Record("phone", "c1", "logout", True, At(-300)), Record("tablet", "c2")),
             ON, names(*in_two, IDLE1, OUT1)),
        Case("a new login makes an idle user active", "status",
             (login(0), idle(10, At(-300)), login(20, "c2", "tablet")),
             (Record("phone", "c1", None, True, At(-300)), Record("tablet", "c2")),
             {"alice": online(2)}, names(IN1, "userOnline", IDLE1, "userIdle", "connectionLogin tablet/c2",
              "userActive")),
        Case("an ended connection never counts, even if it was never idle", "status",
             (login(0), logout(5), login(10, "c2", "tablet"), idle(20, At(-300), "c2", "tablet")),
             (Record("phone", "c1", "logout"), Record("tablet", "c2", None, True, At(-300))),
             {"alice": idling(At(-300))},
             names(IN1, "userOnline", OUT1, "userOffline", "connectionLogin tablet/c2", "userOnline",
                   "connectionIdle tablet/c2", "userIdle")),
        Case("idle on a fresh start: online and idle are both told", "status events",
             (idle(0, At(-300)),),
             (Record("phone", "c1", None, True, At(-300)),),
             {"alice": idling(At(-300))}, names(IN1, IDLE1, "userOnline", "userIdle"), versions=1),
        Case("several changes at once are one version, every event is told", "status version",
             (login(0), idle(0, At(-300)), login(0, "c2", "tablet"), active(0, At(-100), "c2", "tablet")),
             (Record("phone", "c1", None, True, At(-300)), Record("tablet", "c2", None, False, At(-100))),
             {"alice": online(2)},
             names(IN1, "userOnline", IDLE1, "userIdle", "connectionLogin tablet/c2", "userActive",
                   "connectionActive tablet/c2"), batch=True, versions=1),
        Case("nothing changes but lastSeen: nothing is published", "status version",
             (login(0), beat(10), beat(20), beat(30)),
             (Record("phone", "c1", None, False, Received(30)),),
             ON, names(IN1, "userOnline", ACTIVE1), versions=1),
    )


def _clock_cases() -> tuple[Case, ...]:
    grace = {"grace_ms": 1_000}
    at_two = names(IN1, "userOnline", "connectionLogin tablet/c2", OUT1)
    gone = names(IN1, "userOnline", OUT1, "userOffline")
    idled = names(IN1, "userOnline", IDLE1, "userIdle")
    return (
        Case("who declared a threshold becomes idle", "B1",
             (login(0, idleThreshold=5), check(5_001)),
             (Record("phone", "c1", None, True, Received(0)),),
             {"alice": idling(Received(0))}, idled, wire=False, versions=2),
        Case("the clock is set back between an end that was a guess and the heartbeat that takes it back", "B2 A3",
             (login(50_000, timeout=1), beat(50_100), check(51_101), beat(10), check(1_010), check(1_011)),
             (Record("phone", "c1", "timeout", False, Received(10)),),
             OFF,
             names(IN1, "userOnline", ACTIVE1, OUT1, "userOffline", IN1, "userOnline", OUT1, "userOffline"),
             wire=False),
        Case("not yet when it is exactly the threshold ago", "B1",
             (login(0, idleThreshold=5), check(5_000)),
             (Record("phone", "c1"),), ON, names(IN1, "userOnline"), wire=False, versions=1),
        Case("the check says so once", "B1",
             (login(0, idleThreshold=5), check(5_001), check(6_000), check(60_000)),
             (Record("phone", "c1", None, True, Received(0)),),
             {"alice": idling(Received(0))}, idled, wire=False, versions=2),
        Case("a heartbeat puts it off", "B1 A1",
             (login(0, idleThreshold=5), beat(3_000), check(8_000), check(8_001)),
             (Record("phone", "c1", None, True, Received(3_000)),), {"alice": idling(Received(3_000))},
             names(IN1, "userOnline", ACTIVE1, IDLE1, "userIdle"), wire=False),
        Case("not yet when it is exactly the threshold after the heartbeat that put it off", "B1 A1",
             (login(0, idleThreshold=5), beat(3_000), check(8_000)),
             (Record("phone", "c1", None, False, Received(3_000)),), ON,
             names(IN1, "userOnline", ACTIVE1), wire=False),
        Case("a heartbeat wakes up whom the check put to sleep, and may fall asleep again", "B1 A1",
             (login(0, idleThreshold=5), check(5_001), beat(7_000), check(12_001)),
             (Record("phone", "c1", None, True, Received(7_000)),), {"alice": idling(Received(7_000))},
             names(IN1, "userOnline", IDLE1, "userIdle", ACTIVE1, "userActive", IDLE1, "userIdle"),
              wire=False),
        Case("who sends heartbeats is monitored by the setting", "B1",
             (login(0), beat(1_000), check(9_000), check(9_001)),
             (Record("phone", "c1", None, True, Received(1_000)),), {"alice": idling(Received(1_000))},
             names(IN1, "userOnline", ACTIVE1, IDLE1, "userIdle"), settings={"idle_threshold_ms": 8_000},
              wire=False),
        Case("who sends nothing and declared nothing is never idle", "B1",
             (login(0), check(HOUR), check(1_000 * HOUR)),
             (Record("phone", "c1"),), ON, names(IN1, "userOnline"), wire=False),
        Case("who reports is left to its own monitor", "B1",
             (login(0), active(10, At(-10)), beat(20), check(HOUR)),
             (Record("phone", "c1", None, False, Received(20)),), ON, names(IN1, "userOnline", ACTIVE1),
              wire=False),
        Case("who reports but declared a threshold is monitored", "B1",
             (login(0, idleThreshold=5), active(10, At(10)), check(5_011)),
             (Record("phone", "c1", None, True, Received(10)),), {"alice": idling(Received(10))},
             names(IN1, "userOnline", ACTIVE1, IDLE1, "userIdle"), wire=False),
        Case("the declared threshold counts, not the setting", "B1",
             (login(0, idleThreshold=100), beat(0), check(99_000)),
             (Record("phone", "c1", None, False, Received(0)),), ON, names(IN1, "userOnline", ACTIVE1),
              wire=False),
        Case("the login counts as activity, and is later than what a late report told", "B1",
             (login(3_000, idleThreshold=5), active(3_001, At(10)), check(8_000), check(8_001)),
             (Record("phone", "c1", None, True, Received(3_000)),), {"alice": idling(Received(3_000))},
             names(IN1, "userOnline", ACTIVE1, IDLE1, "userIdle"), wire=False),
        Case("who reported idle is idle since what it reported", "B1 A1",
             (login(0, idleThreshold=5), idle(10, At(-300)), check(HOUR)),
             (Record("phone", "c1", None, True, At(-300)),), {"alice": idling(At(-300))}, idled, wire=False),
        Case("who is gone is not idle", "B1",
             (login(0, idleThreshold=5), logout(10), check(HOUR)),
             (Record("phone", "c1", "logout"),), OFF, gone, wire=False),
        Case("a connection not heard of for longer than its timeout ends", "B2",
             (login(0, timeout=5), check(5_001)),
             (Record("phone", "c1", "timeout"),), OFF, gone, wire=False),
        Case("not yet when it is exactly its timeout", "B2",
             (login(0, timeout=5), check(5_000)),
             (Record("phone", "c1"),), ON, names(IN1, "userOnline"), wire=False),
        Case("any sign of life puts the timeout off", "B2",
             (login(0, timeout=5), active(2_000, At(-10)), login(4_000, timeout=5), check(9_000)),
             (Record("phone", "c1", None, False, At(-10)),), ON, names(IN1, "userOnline", ACTIVE1),
              wire=False),
        Case("by default nobody expires", "B2",
             (login(0), check(1_000 * HOUR)),
             (Record("phone", "c1"),), ON, names(IN1, "userOnline"), wire=False),
        Case("the setting expires whoever told no timeout", "B2",
             (login(0), login(0, "c2", "tablet", timeout=100), check(8_001)),
             (Record("phone", "c1", "timeout"), Record("tablet", "c2")), ON, at_two,
             settings={"expire_after_ms": 8_000}, wire=False),
        Case("an idle connection expires all the same", "B2 B1",
             (login(0, idleThreshold=5, timeout=8), check(5_001), check(8_001)),
             (Record("phone", "c1", "timeout", True, Received(0)),), OFF, (*idled, *gone[2:]), wire=False),
        Case("who answers announcements and did not, is gone", "B3",
             (login(0, announce=True), confirm(40_000, 10_000)),
             (Record("phone", "c1", "unconfirmed"),), OFF, gone, wire=False),
        Case("who logged in again after the announcement stays", "B3",
             (login(0, announce=True), login(11_000, announce=True), confirm(40_000, 10_000)),
             (Record("phone", "c1"),), ON, names(IN1, "userOnline"), wire=False),
        Case("who never said it answers announcements stays", "B3",
             (login(0), confirm(40_000, 10_000)),
             (Record("phone", "c1"),), ON, names(IN1, "userOnline"), wire=False),
        Case("grace: the record ends at once, the status counts it a while", "grace",
             (login(0), will(10), check(1_009)),
             (Record("phone", "c1", "lost"),), ON, names(IN1, "userOnline", OUT1), settings=grace,
              wire=False, versions=1),
        Case("grace is over", "grace",
             (login(0), will(10), check(1_010)),
             (Record("phone", "c1", "lost"),), OFF, gone, settings=grace, wire=False, versions=2),
        Case("no grace for a logout", "grace",
             (login(0), logout(10)),
             (Record("phone", "c1", "logout"),), OFF, gone, settings=grace, wire=False),
        Case("grace for a timeout", "grace B2",
             (login(0, timeout=5), check(5_001), check(6_000)),
             (Record("phone", "c1", "timeout"),), ON, names(IN1, "userOnline", OUT1), settings=grace,
              wire=False),
        Case("back within its grace: nobody saw it go", "grace L1",
             (login(0), will(10), login(500, "c2"), check(HOUR)),
             (Record("phone", "c1", "lost"), Record("phone", "c2")), ON, names(IN1, "userOnline", OUT1, IN2),
             settings=grace, wire=False),
        Case("back within its grace: one connection, not two", "grace L1",
             (login(0), will(10), login(500, "c2")),
             (Record("phone", "c1", "lost"), Record("phone", "c2")), ON, names(IN1, "userOnline", OUT1, IN2),
             settings=grace, wire=False),
        Case("a superseded connection needs no grace: its successor is there", "grace L1",
             (login(0), login(10, "c2")),
             (Record("phone", "c1", "superseded"), Record("phone", "c2")), ON, names(IN1, "userOnline",
              OUT1, IN2),
             settings=grace, wire=False),
        Case("another client's login leaves the grace", "grace",
             (login(0), will(10), login(500, "c2", "tablet")),
             (Record("phone", "c1", "lost"), Record("tablet", "c2")), {"alice": online(2)},
             names(IN1, "userOnline", OUT1, "connectionLogin tablet/c2"), settings=grace, wire=False),
        Case("a connection in its grace is as idle as it was", "grace status",
             (login(0), idle(5, At(-300)), will(10), check(500)),
             (Record("phone", "c1", "lost", True, At(-300)),), {"alice": idling(At(-300))}, (*idled,
              *names(OUT1)),
             settings=grace, wire=False),
        Case("a logout that makes a guess certain ends its grace", "grace E1",
             (login(0, timeout=5), check(5_001), logout(5_500)),
             (Record("phone", "c1", "logout"),), OFF, gone, settings=grace, wire=False),
        Case("a will that makes a guess certain leaves its grace", "grace E1",
             (login(0, timeout=5), check(5_001), will(5_500), check(6_000)),
             (Record("phone", "c1", "lost"),), ON, names(IN1, "userOnline", OUT1), settings=grace,
              wire=False),
        Case("a guess taken back within its grace", "grace A3",
             (login(0, timeout=5), check(5_001), active(5_500, At(-10)), check(6_001)),
             (Record("phone", "c1", None, False, At(-10)),), ON, names(IN1, "userOnline", OUT1, IN1, ACTIVE1),
             settings=grace, wire=False),
    )


CASES: tuple[Case, ...] = (
    *_login_cases(), *_activity_cases(), *_end_cases(), *_status_cases(), *_clock_cases(),
)
