"""The idle monitor: its pure state with `now` as an argument, and the thread around it."""

import threading

import pytest

from mqtt_presence.client.idle_monitor import IdleMonitor
from mqtt_presence.client.idle_state import IdleState, Report
from mqtt_presence.client.server_clock import ServerClock
from mqtt_presence.errors import ConfigError, PresenceError


def test_start_reports_active_once():
    """The start counts as activity and is reported once; checks without a change report nothing."""
    state = IdleState()
    assert state.start(60, 100) == Report(False, 100)
    assert state.check(101) is None
    assert state.is_monitoring
    assert not state.is_idle
    assert state.last_activity == 100


def test_idle_only_beyond_the_threshold():
    """Exactly the threshold is still active; any longer is idle."""
    state = IdleState()
    state.start(60, 100)
    assert state.check(160) is None
    assert state.check(160.001) == Report(True, 100)
    assert state.is_idle
    assert state.check(161) is None


def test_ping_makes_active_once():
    """The first ping of an idle user is reported at once, with its own time; later pings are not."""
    state = IdleState()
    state.start(60, 100)
    state.check(200)
    assert state.ping(250) == Report(False, 250)
    assert state.ping(251) is None
    assert state.check(311) is None
    assert state.check(311.5) == Report(True, 251)


def test_stop_reports_active_only_when_idle():
    """An idle user is reported active at the stop; an active user is not reported."""
    state = IdleState()
    state.start(60, 100)
    assert state.stop(120) is None
    state.start(60, 200)
    state.check(300)
    assert state.stop(310) == Report(False, 310)
    assert not state.is_idle
    assert not state.is_monitoring
    assert state.check(999) is None
    assert state.ping(999) is None
    assert state.last_activity == 310


def test_start_twice_and_stop_stopped_raise():
    """Starting a running monitor or stopping a stopped one is an error."""
    state = IdleState()
    with pytest.raises(PresenceError, match="not running"):
        state.stop(1)
    state.start(60, 1)
    with pytest.raises(PresenceError, match="already"):
        state.start(60, 2)


class Fixture:
    def __init__(self, synced=True):
        self.now = 1000.0
        self.online = True
        self.sent = []
        self.clock = ServerClock(self.asked, steady=lambda: self.now, wall=lambda: self.now)
        self.monitor = IdleMonitor(self.send, self.clock, steady=lambda: self.now)
        if synced:
            self.sync()

    def asked(self, payload):
        self.question = payload

    def sync(self, server_ms=5_000_000):
        self.clock.resync()
        self.clock.receive(self.question[:-1] + b',"t1":%d,"t2":%d}' % (server_ms, server_ms))

    def send(self, idle, last_activity):
        if self.online:
            self.sent.append((idle, last_activity))
        return self.online


@pytest.fixture
def it():
    fixture = Fixture()
    yield fixture
    fixture.monitor.close()


def test_monitor_needs_server_time():
    """Without the server time, the start fails with a clear error and leaves the monitor stopped."""
    it = Fixture(synced=False)
    with pytest.raises(PresenceError, match="server time"):
        it.monitor.start(timeout=0)
    assert not it.monitor.is_monitoring
    it.sync()
    it.monitor.start(timeout=0)
    it.monitor.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"interval": 0.999},
        {"interval": 0},
        {"threshold": 0},
        {"threshold": float("nan")},
        {"interval": float("inf")},
    ],
)
def test_monitor_settings_are_checked(it, settings):
    """An interval below a second or a threshold of 0 is refused by name."""
    with pytest.raises(ConfigError, match=next(iter(settings))):
        it.monitor.start(**settings)
    assert it.sent == []


def test_reports_are_in_server_time(it):
    """Reports carry server time, not the time of the local clock."""
    it.monitor.start(timeout=0)
    assert it.sent == [(False, 5_000_000)]
    assert it.monitor.last_activity.timestamp() == 5000
    assert it.monitor.last_activity.utcoffset().total_seconds() == 0


def test_thread_notices_idleness(it):
    """The thread reports the idle state without any call of the program."""
    reported = threading.Event()
    send = it.monitor._send
    it.monitor._send = lambda idle, at: (reported.set() if idle else None, send(idle, at))[1]
    it.monitor.start(timeout=0)
    it.now += 60.5
    assert reported.wait(5)
    assert it.sent == [(False, 5_000_000), (True, 5_000_000)]
    assert it.monitor.is_idle


def test_renewal_repeats_idle_with_its_old_activity(it):
    """A new connection reports the idle state again, with exactly the same activity, whether resynced or not."""
    it.monitor.start(timeout=0)
    it.monitor.renew()
    assert len(it.sent) == 1  # active: a login says as much
    it.now += 61
    it.monitor._report(it.monitor._state.check(it.now))
    it.sync(server_ms=5_061_007)  # the estimate moves by 7 ms
    it.monitor.renew()
    assert it.sent[1:] == [(True, 5_000_000), (True, 5_000_000)]


def test_report_made_while_offline_is_sent_on_the_next_login(it):
    """A start without a connection is reported once the connection is back."""
    it.online = False
    it.monitor.start(timeout=0)
    it.online = True
    it.monitor.renew()
    it.monitor.renew()
    assert it.sent == [(False, 5_000_000)]


def test_close_says_nothing(it):
    """A client that logs out sends no active report before; the monitor can be started again."""
    it.monitor.start(timeout=0)
    it.now += 61
    it.monitor._report(it.monitor._state.check(it.now))
    it.monitor.close()
    it.monitor.close()
    assert [idle for idle, _ in it.sent] == [False, True]
    it.monitor.start(timeout=0)
    assert it.monitor.is_monitoring


def test_stop_reports_active_now(it):
    """A monitor stopped while idle reports active as of now; misuse raises the public errors."""
    it.monitor.start(timeout=0)
    with pytest.raises(PresenceError):
        it.monitor.start(timeout=0)
    it.now += 61
    it.monitor._report(it.monitor._state.check(it.now))
    it.monitor.stop()
    assert it.sent[-1] == (False, 5_061_000)
    with pytest.raises(PresenceError):
        it.monitor.stop()
    it.monitor.ping()


def test_heartbeat_is_activity_for_the_monitor(it):
    """A heartbeat carries the time of a later idle report; the bridge would drop an older one."""
    assert it.monitor.beat() is None
    it.monitor.start(timeout=0)
    it.now += 30
    assert it.monitor.beat() == 5_030_000
    it.now += 61
    it.monitor._report(it.monitor._state.check(it.now))
    assert it.sent[-1] == (True, 5_030_000)


def test_activity_never_goes_back(it):
    """A better estimate of the server time changes no reported time, and later times are newer (rule A1)."""
    it.monitor.start(timeout=0)
    it.sync(server_ms=4_999_000)  # the first estimate was a second ahead
    it.now += 61
    it.monitor._report(it.monitor._state.check(it.now))
    assert it.sent == [(False, 5_000_000), (True, 5_000_000)]
    it.sync(server_ms=4_000_000)
    it.monitor.ping()
    assert it.sent[-1] == (False, 5_000_001)
