"""The service manager's socket: ready, watchdog, status and stopping, as systemd reads them."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from mqtt_presence.bridge.clock import SystemClock
from mqtt_presence.bridge.monitoring.service_manager import ServiceManager
from tests.support.bridges import BridgeProcess, BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.monitored import Stuck
from tests.support.waiting import until

WATCHDOG_S = 1.0


class Systemd:
    """A datagram socket that records the bridge's messages.

    Args:
        address: as in `NOTIFY_SOCKET`.

    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(0.05)
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def has(self, line: str) -> bool:
        """Receive what has come; tell whether the line is among it."""
        try:
            while True:
                self.lines += self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return line in self.lines

    def comes(self, line: str) -> None:
        """Wait until the line comes again."""
        self.has(line)
        self.lines.clear()
        until(lambda: self.has(line), f"{line} comes")

    def stays_away(self, line: str, times: int) -> bool:
        """Tell whether the line does not come for so many times the interval of the watchdog."""
        self.has(line)
        self.lines.clear()
        silence = threading.Event()
        for _ in range(times):
            silence.wait(WATCHDOG_S)
        return not self.has(line)


@contextmanager
def process(systemd: Systemd, broker: str, database: str, directory: Path) -> Iterator[BridgeProcess]:
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
    with BridgeProcess(
        directory / "log", ready=False, environment=environment, broker=broker, database=database
    ) as running:
        yield running


def test_systemd_is_told_of_a_whole_life(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """Ready when the loop turns; fed while it does; starved when it stands; stopping at the end."""
    with (
        Systemd(str(tmp_path / "n")) as systemd,
        process(systemd, mosquitto.url, sqlite_url, tmp_path) as bridge,
    ):
        systemd.comes("READY=1")
        systemd.comes("WATCHDOG=1")
        until(lambda: systemd.has("STATUS=connected to the broker"), "the broker is there")
        mosquitto.kill()
        systemd.comes("STATUS=the broker is away: connecting again")
        systemd.comes("WATCHDOG=1")
        assert "READY=1" not in systemd.lines
        bridge.signal(signal.SIGSTOP)
        assert systemd.stays_away("WATCHDOG=1", 2)
        bridge.signal(signal.SIGCONT)
        systemd.comes("WATCHDOG=1")
        assert bridge.stop() == 0
        assert systemd.has("STOPPING=1")


def test_stuck_loop_feeds_no_watchdog(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """Other threads of the process live on; the watchdog is the loop's own. The socket has no file here."""
    stuck = Stuck()
    with Systemd(f"@mqtt-presence-{os.getpid()}-{tmp_path.name}") as systemd:
        manager = ServiceManager(systemd.address, SystemClock(), WATCHDOG_S)
        running = BridgeThread(broker=mosquitto.url, database=sqlite_url)
        running.bridge.add(stuck)
        running.bridge.add(manager)
        with running:
            systemd.comes("WATCHDOG=1")
            stuck.holds.set()
            until(lambda: systemd.stays_away("WATCHDOG=1", 1), "it is stuck")
            stuck.released.set()
            stuck.holds.clear()
            systemd.comes("WATCHDOG=1")


def test_standby_is_ready_when_it_takes_over(sqlite_url: str, tmp_path: Path) -> None:
    """While another process is the bridge of the database, it waits; systemd waits with it."""
    with (
        Mosquitto(tmp_path / "mosquitto") as mosquitto,
        Systemd(str(tmp_path / "n")) as systemd,
    ):
        with (
            BridgeThread(broker=mosquitto.url, database=sqlite_url),
            process(systemd, mosquitto.url, sqlite_url, tmp_path) as second,
        ):
            second.wait_for_log("waiting as a standby")
            assert not systemd.has("READY=1")
            assert second.stop() == 0
        with process(systemd, mosquitto.url, sqlite_url, tmp_path) as third:
            until(lambda: systemd.has("READY=1"), "ready")
            assert third.stop() == 0


def test_bridge_that_cannot_start_is_never_ready(tmp_path: Path) -> None:
    """The database cannot be made: the start fails, and reports nothing before."""
    url = f"sqlite:///{tmp_path}/none/presence.db"
    with (
        Mosquitto(tmp_path / "mosquitto") as mosquitto,
        Systemd(str(tmp_path / "n")) as systemd,
        process(systemd, mosquitto.url, url, tmp_path) as bridge,
    ):
        assert bridge.wait() == 1
        assert not systemd.has("READY=1")


def test_who_is_not_started_by_systemd_sends_nothing() -> None:
    """Without the variable; and a watchdog that is another process's is not fed."""
    clock = SystemClock()
    assert ServiceManager.from_environment({}, clock) is None
    assert ServiceManager.from_environment({"NOTIFY_SOCKET": "vsock:2:1234"}, clock) is None
    others = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    manager = ServiceManager.from_environment(others, clock)
    assert manager is not None
    assert not manager._is_watched
    ours = ServiceManager.from_environment(others | {"WATCHDOG_PID": str(os.getpid())}, clock)
    assert ours is not None
    assert ours._is_watched
