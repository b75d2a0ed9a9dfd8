"""Alarms and all-clears from the bridge to a real receiver and to MQTT, on a clock that the tests move."""

from tests.integration.test_notifications import HOUR_S, drain, receiver, stepped, table
from tests.support.notified_bridge import DAY_S, NotifiedBridge
from tests.support.receiver import WebhookReceiver
from tests.support.waiting import until

__all__ = ["receiver", "stepped"]


def outages(bridge: NotifiedBridge) -> list[str]:
    """The alarms and all-clears on MQTT."""
    return [t for t in bridge.link.published if t.endswith(("/alarm", "/allClear"))]


def test_alarm_and_all_clear(database: str, receiver: WebhookReceiver) -> None:
    """One alarm when the time has come, also across a restart, and one all-clear; on MQTT too."""
    with NotifiedBridge(database, table(receiver, "offline > 10m", "back")) as bridge:
        bridge.comes("alice", "bob")
        bridge.goes("alice", "bob")
        bridge.passes(300)
        bridge.comes("bob")
        bridge.restart()
        bridge.passes(299)
        assert outages(bridge) == []
        bridge.passes(2)
        bridge.passes(3000)
        bridge.restart()
        bridge.passes(3000)
        assert outages(bridge) == ["events/alice/alarm"]
        bridge.comes("alice")
        bridge.passes(3000)
        assert outages(bridge) == ["events/alice/alarm", "events/alice/allClear"]
        until(lambda: len(receiver.distinct) == 2, "both")
        alarm, clear = (event["data"] for event in receiver.distinct)
        assert alarm["condition"] == clear["condition"] == "offline > 10m"
        assert alarm["since"] == clear["since"]
        assert receiver.told() == [("alice", "alarm"), ("alice", "allClear")]


def test_alarm_after_clock_steps(database: str, receiver: WebhookReceiver) -> None:
    """A deadline counts elapsed time, whichever way the clock is set, and over a restart after the step."""
    with NotifiedBridge(database, table(receiver, "offline > 10m", "idle > 1h", "back")) as bridge:
        for by_s in (DAY_S * 365, -DAY_S * 700):
            bridge.comes("alice")
            bridge.goes("alice")
            before = len(outages(bridge))
            bridge.passes(300)
            bridge.clock.set_by_ms += by_s * 1000
            bridge.passes(200)
            bridge.restart()
            bridge.passes(95)
            assert len(outages(bridge)) == before
            bridge.passes(10)
            assert outages(bridge)[before:] == ["events/alice/alarm"]


def test_clock_set_back_while_the_bridge_was_away(sqlite_url: str, receiver: WebhookReceiver) -> None:
    """An alarm is late by its own duration at the most."""
    with NotifiedBridge(sqlite_url, table(receiver, "offline > 10m")) as bridge:
        bridge.comes("alice")
        bridge.goes("alice")
        bridge.end()
        bridge.clock.set_by_ms -= DAY_S * 1000
        bridge.restart()
        bridge.passes(601)
        assert outages(bridge) == ["events/alice/alarm"]


def test_messages_that_wait_end_an_outage_in_time(sqlite_url: str, receiver: WebhookReceiver) -> None:
    """A bridge that was away processes what waits before it raises an alarm."""
    with NotifiedBridge(sqlite_url, table(receiver, "offline > 10m", "back")) as bridge:
        bridge.comes("alice")
        bridge.goes("alice")
        bridge.end()
        bridge.clock.now_s += HOUR_S
        bridge.link.is_connected = False
        bridge.start()
        bridge.check()
        bridge.link.is_connected = True
        bridge.connect()
        bridge.check()
        bridge.comes("alice")
        bridge.passes(100)
        assert outages(bridge) == []


def test_groups(database: str, receiver: WebhookReceiver) -> None:
    """Too few and nobody: counted over the users of the pattern, at the start, across restarts and `forget`."""
    tables = [
        table(receiver, "online < 2 for 1m", "back", users="pump-*"),
        table(receiver, "nobody", "back", name="home"),
    ]
    with NotifiedBridge(database, *tables) as bridge:
        bridge.passes(100)
        assert outages(bridge) == ["events/*/alarm"], "nobody is here; the pumps have their minute"
        bridge.passes(100)
        assert outages(bridge)[1:] == ["events/pump-*/alarm"]
        bridge.comes("pump-1", "pump-2", "alice")
        assert sorted(outages(bridge)[2:]) == ["events/*/allClear", "events/pump-*/allClear"]
        bridge.goes("pump-1")
        bridge.restart()
        bridge.passes(59)
        assert len(outages(bridge)) == 4
        bridge.passes(2)
        assert outages(bridge)[4:] == ["events/pump-*/alarm"]
        bridge.comes("pump-3")
        assert outages(bridge)[5:] == ["events/pump-*/allClear"]
        bridge.store.forget("pump-3")
        bridge.passes(61)
        bridge.passes(61)
        bridge.passes(61)
        assert outages(bridge)[6:] == ["events/pump-*/alarm"]
        until(lambda: len(receiver.distinct) == 7, "all of them")
        counts = [event["data"]["count"] for event in receiver.distinct if event["subject"] == "pump-*"]
        assert counts == [0, 2, 1, 2, 1]


def test_flaps(sqlite_url: str, receiver: WebhookReceiver) -> None:
    """More than so many ends in an hour are one alarm, which an hour without an end clears."""
    with NotifiedBridge(sqlite_url, table(receiver, "flaps > 2/h", "back")) as bridge:
        for _ in range(5):
            bridge.comes("alice")
            bridge.goes("alice")
            bridge.passes(60)
        assert outages(bridge) == ["events/alice/alarm"]
        bridge.restart()
        bridge.passes(HOUR_S - 120)
        assert outages(bridge) == ["events/alice/alarm"]
        bridge.passes(121)
        assert outages(bridge) == ["events/alice/alarm", "events/alice/allClear"]
        until(lambda: len(receiver.distinct) == 2, "both")
        assert receiver.distinct[0]["data"]["count"] == 3


def test_forgotten_user_has_no_outage(database: str, receiver: WebhookReceiver) -> None:
    """After `forget` no alarm comes for the user."""
    with NotifiedBridge(database, table(receiver, "offline > 10m", "back")) as bridge:
        bridge.comes("alice", "bob")
        bridge.goes("alice", "bob")
        bridge.store.forget("alice")
        bridge.passes(300)
        bridge.passes(400)
        assert outages(bridge) == ["events/bob/alarm"]


def test_quiet_hours(stepped: None, database: str, receiver: WebhookReceiver) -> None:
    """At night alarms wait, and those that clear meanwhile are dropped; events arrive; in the morning the rest."""
    # The clock stands at 08:01:40 UTC.
    quiet = table(receiver, "offline > 10m", "back", "userOnline", quiet="08:00-10:00 UTC")
    with NotifiedBridge(database, quiet) as bridge:
        bridge.comes("alice", "bob")
        bridge.goes("alice", "bob")
        bridge.passes(601)
        drain(bridge)
        bridge.restart()
        bridge.comes("alice")
        drain(bridge)
        assert [event for _, event in receiver.told()] == ["userOnline"] * 3
        assert bridge.sender.pending == 1
        bridge.passes(2 * HOUR_S)
        drain(bridge)
        assert receiver.told()[3:] == [("bob", "alarm")]
        bridge.comes("bob")
        drain(bridge)
        assert receiver.told()[4:] == [("bob", "userOnline"), ("bob", "allClear")]
        assert bridge.sender.pending == 0
