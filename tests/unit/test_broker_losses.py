"""The broker's reports of itself, and the announcements that they cause."""

from typing import Any

import pytest

from mqtt_presence.bridge.recovery.broker_losses import DROPPED, UPTIME
from mqtt_presence.mqtt.messages import Incoming
from tests.support.held_bridge import HeldClock, losses


class _Link:
    """The part of a link that is used."""

    def __init__(self, *, is_mqtt5: bool = True) -> None:
        self.is_mqtt5 = is_mqtt5
        self.subscribed: list[tuple[str, int, bool]] = []

    def subscribe(self, topic_filter: str, qos: int = 1, *, required: bool = True) -> None:
        self.subscribed.append((topic_filter, qos, required))


class Reports:
    """A part that reads reports, on clocks that the test sets."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.losses = losses(clock=self.clock)
        self.connect(session_present=False)

    def connect(self, *, session_present: bool = True) -> None:
        self.clock.now_s += 0.1
        self.losses.connected(_Link(), session_present=session_present, contested=False)  # type: ignore[arg-type]

    def receive(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        return self.losses.handle(_Link(), Incoming(topic, payload, 0, retain, False, 0, 1))  # type: ignore[arg-type]

    def uptime(self, seconds: int, *, retain: bool = False) -> None:
        assert self.receive(UPTIME, b"%d seconds" % seconds, retain=retain)


@pytest.fixture
def reports() -> Reports:
    return Reports()


def test_two_optional_subscriptions_at_qos_0() -> None:
    """Older reports would only fill the queue; brokers of MQTT 3.1.1 have none of the topics."""
    link: Any = _Link()
    losses().connected(link, session_present=True, contested=False)
    assert link.subscribed == [(DROPPED, 0, False), (UPTIME, 0, False)]
    other: Any = _Link()
    losses(follows=False).connected(other, session_present=True, contested=False)
    assert other.subscribed == []
    old: Any = _Link(is_mqtt5=False)
    losses().connected(old, session_present=True, contested=False)
    assert old.subscribed == []


@pytest.mark.parametrize(
    "payload", [b"", b"-1", b"x", b"1 second", b"9" * 20 + b" seconds", b"1" * 5000, "\u0663".encode()]
)
def test_junk_is_ignored(reports: Reports, payload: bytes) -> None:
    """A payload of another form is no report."""
    assert reports.receive(UPTIME, payload)
    assert reports.receive(DROPPED, payload)
    assert not reports.losses.reports.has_changed
    assert not reports.losses._must_request()
    assert not reports.receive("$SYS/broker/version", b"7")


def test_broker_that_keeps_running_was_not_restarted(reports: Reports) -> None:
    """Whole seconds and delays make small differences."""
    for seconds in (100, 110, 120):
        reports.uptime(seconds)
        reports.clock.now_s += 10
    reports.connect()
    reports.clock.now_s += 60
    reports.uptime(120, retain=True)
    reports.uptime(191)
    assert not reports.losses._must_request()


def test_reports_read_late_show_no_restart(reports: Reports) -> None:
    """The bridge waited for its database."""
    reports.uptime(100)
    reports.clock.now_s += 40
    for seconds in (110, 120, 130, 140):
        reports.uptime(seconds)
    assert not reports.losses._must_request()


@pytest.mark.parametrize("retain", [True, False])
def test_smaller_uptime_shows_a_restart(reports: Reports, retain: bool) -> None:
    """One announcement follows."""
    reports.uptime(100)
    reports.connect()
    reports.uptime(3, retain=retain)
    assert reports.losses._must_request()
    assert not reports.losses._must_request()
    reports.clock.now_s += 10
    reports.uptime(13)
    assert not reports.losses._must_request()


def test_restart_during_a_long_absence_is_detected(reports: Reports) -> None:
    """The uptime is greater than before, but smaller than the time that has passed."""
    reports.uptime(100)
    reports.clock.now_s += 3600
    reports.connect()
    reports.uptime(200, retain=True)
    assert not reports.losses._must_request()
    reports.uptime(210)
    assert reports.losses._must_request()


def test_announcement_on_this_connection_covers_earlier_losses(reports: Reports) -> None:
    """A lost session has caused one already."""
    reports.uptime(100)
    reports.connect(session_present=False)
    reports.uptime(1)
    reports.losses._suspect_loss()
    assert not reports.losses._must_request()


def test_dropped_messages_cause_one_announcement_a_minute(reports: Reports) -> None:
    """The difference of two counts shows new drops."""
    reports.receive(DROPPED, b"1000", retain=True)
    reports.clock.now_s += 100
    assert not reports.losses._must_request()
    reports.receive(DROPPED, b"1001")
    assert reports.losses._must_request()
    reports.receive(DROPPED, b"1002")
    assert not reports.losses._must_request()
    reports.clock.now_s += 60
    assert reports.losses._must_request()
    reports.receive(DROPPED, b"0")
    reports.clock.now_s += 60
    assert not reports.losses._must_request()


def test_first_live_count_is_a_recent_loss(reports: Reports) -> None:
    """Mosquitto publishes the count when it changes."""
    reports.clock.now_s += 100
    reports.receive(DROPPED, b"7")
    assert reports.losses._must_request()


def test_first_count_of_a_new_broker_is_no_loss(reports: Reports) -> None:
    """It is 0."""
    reports.clock.now_s += 100
    reports.receive(DROPPED, b"0")
    assert not reports.losses._must_request()


def test_pending_announcement_survives_a_restart(reports: Reports) -> None:
    """The losses are stored until the announcement is requested."""
    assert reports.receive(DROPPED, b"5")
    assert reports.losses.reports.has_changed
    assert not reports.losses._must_request()  # it has just asked, on connecting
    later = losses(clock=reports.clock)
    later.restore(_StoredReports(reports.losses.reports.current()))
    reports.clock.now_s += 1000
    assert later._must_request()
    assert later.reports.has_changed
    last = losses(clock=reports.clock)
    last.restore(_StoredReports(later.reports.current()))
    assert not last._must_request()


class _StoredReports:
    """The part of a transaction that is used."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def seat_name(self, name: str) -> str:
        return name

    def read_value(self, name: str) -> str | None:
        return self.text
