"""What the broker says of itself, and when that has the clients asked."""

from typing import Any

import pytest

from mqtt_presence.bridge.recovery.broker_losses import DROPPED, UPTIME
from mqtt_presence.mqtt.messages import Incoming
from tests.support.held_bridge import HeldClock, losses


class _Link:
    """Of a link only this is needed."""

    def __init__(self, *, is_mqtt5: bool = True) -> None:
        self.is_mqtt5 = is_mqtt5
        self.asked: list[tuple[str, int, bool]] = []

    def subscribe(self, topic_filter: str, qos: int = 1, *, required: bool = True) -> None:
        self.asked.append((topic_filter, qos, required))


class House:
    """A watch, a wall clock and a monotonic one that are set by hand."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.watch = losses(clock=self.clock)
        self.connect(session_present=False)

    def connect(self, *, session_present: bool = True) -> None:
        self.clock.now_s += 0.1
        self.watch.connected(_Link(), session_present=session_present, contested=False)  # type: ignore[arg-type]

    def hear(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        return self.watch.handle(_Link(), Incoming(topic, payload, 0, retain, False, 0, 1))  # type: ignore[arg-type]

    def uptime(self, seconds: int, *, retain: bool = False) -> None:
        assert self.hear(UPTIME, b"%d seconds" % seconds, retain=retain)


@pytest.fixture
def house() -> House:
    return House()


def test_it_asks_for_two_topics_at_qos_0_and_can_do_without() -> None:
    """What it was while nobody listened would only fill the broker's queue; 3.1.1 brokers have none of it."""
    link: Any = _Link()
    losses().connected(link, session_present=True, contested=False)
    assert link.asked == [(DROPPED, 0, False), (UPTIME, 0, False)]
    other: Any = _Link()
    losses(follows=False).connected(other, session_present=True, contested=False)
    assert other.asked == []
    old: Any = _Link(is_mqtt5=False)
    losses().connected(old, session_present=True, contested=False)
    assert old.asked == []


@pytest.mark.parametrize(
    "payload", [b"", b"-1", b"x", b"1 second", b"9" * 20 + b" seconds", b"1" * 5000, "\u0663".encode()]
)
def test_junk_says_nothing(house: House, payload: bytes) -> None:
    """Neither topic is believed to say what it does not."""
    assert house.hear(UPTIME, payload)
    assert house.hear(DROPPED, payload)
    assert not house.watch.reports.has_changed
    assert not house.watch._must_request()
    assert not house.hear("$SYS/broker/version", b"7")


def test_a_broker_that_goes_on_is_not_suspected(house: House) -> None:
    """However late its word comes, and however old the one is that is retained."""
    for seconds in (100, 110, 120):
        house.uptime(seconds)
        house.clock.now_s += 10
    house.connect()
    house.clock.now_s += 60
    house.uptime(120, retain=True)
    house.uptime(191)
    assert not house.watch._must_request()


def test_what_is_read_late_is_no_restart(house: House) -> None:
    """A bridge that could not read for a while reads what was said before: a broker's restart ends the connection."""
    house.uptime(100)
    house.clock.now_s += 40
    for seconds in (110, 120, 130, 140):
        house.uptime(seconds)
    assert not house.watch._must_request()


@pytest.mark.parametrize("retain", [True, False])
def test_a_broker_that_counts_from_the_beginning_was_restarted(house: House, retain: bool) -> None:
    """Its uptime is less than it was: asked once."""
    house.uptime(100)
    house.connect()
    house.uptime(3, retain=retain)
    assert house.watch._must_request()
    assert not house.watch._must_request()
    house.clock.now_s += 10
    house.uptime(13)
    assert not house.watch._must_request()


def test_a_restart_during_a_long_absence_is_noticed(house: House) -> None:
    """Its uptime is greater than when we were last here, but not by as much as the time that has passed."""
    house.uptime(100)
    house.clock.now_s += 3600
    house.connect()
    house.uptime(200, retain=True)
    assert not house.watch._must_request()
    house.uptime(210)
    assert house.watch._must_request()


def test_who_was_asked_on_this_connection_is_not_asked_again_for_what_was_before_it(house: House) -> None:
    """A new session has the clients asked at once; that the broker was restarted says no more."""
    house.uptime(100)
    house.connect(session_present=False)
    house.uptime(1)
    house.watch._suspect_loss()
    assert not house.watch._must_request()


def test_drops_are_told_by_the_difference_and_asked_for_once_a_minute(house: House) -> None:
    """An old count tells nothing; after that each new loss does, but not each at once."""
    house.hear(DROPPED, b"1000", retain=True)
    house.clock.now_s += 100
    assert not house.watch._must_request()
    house.hear(DROPPED, b"1001")
    assert house.watch._must_request()
    house.hear(DROPPED, b"1002")
    assert not house.watch._must_request()
    house.clock.now_s += 60
    assert house.watch._must_request()
    house.hear(DROPPED, b"0")
    house.clock.now_s += 60
    assert not house.watch._must_request()


def test_a_first_count_that_comes_live_is_of_now(house: House) -> None:
    """A broker that has dropped nothing for a minute retains no count: the next one says that it has just changed."""
    house.clock.now_s += 100
    house.hear(DROPPED, b"7")
    assert house.watch._must_request()


def test_a_first_count_of_a_broker_that_begins_is_no_loss(house: House) -> None:
    """It tells 0 when it starts."""
    house.clock.now_s += 100
    house.hear(DROPPED, b"0")
    assert not house.watch._must_request()


def test_a_wish_to_ask_outlives_the_bridge(house: House) -> None:
    """What was dropped is known and kept at once, but asked for later: the next bridge asks, once."""
    assert house.hear(DROPPED, b"5")
    assert house.watch.reports.has_changed
    assert not house.watch._must_request()  # it has just asked, on connecting
    later = losses(clock=house.clock)
    later.restore(_Kept(house.watch.reports.current()))
    house.clock.now_s += 1000
    assert later._must_request()
    assert later.reports.has_changed
    last = losses(clock=house.clock)
    last.restore(_Kept(later.reports.current()))
    assert not last._must_request()


class _Kept:
    """Of a transaction only this is needed."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def read_value(self, name: str) -> str | None:
        return self.text
