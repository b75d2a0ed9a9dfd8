"""What a measurement stands on: a broker, a subject on a core of its own, an observer of its statuses."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from benchmarks.load import connect, publish_all
from mqtt_presence.mqtt import packets
from mqtt_presence.mqtt.framing import Framer, Kind

BRIDGE = "bridge"
_SENTINELS = 4  # for each of several processes
_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
max_inflight_messages {window}
max_queued_messages {queue}
set_tcp_nodelay true
persistence true
persistence_location {directory}/
autosave_interval 1
user root
"""


def free_port() -> int:
    """Find a port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def pin(core: int) -> None:
    """Keep this process to one core, where there are two or more."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


class Rig:
    """A broker with a fresh store, and a directory; the load runs on core 0 beside it.

    Args:
        window: mosquitto's `max_inflight_messages`.
        queue: mosquitto's `max_queued_messages`.

    """

    def __init__(self, *, window: int = 20_000, queue: int = 1_000_000) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="presence-bench-"))
        self.database = f"sqlite:///{self.directory}/presence.db"
        """Where the bridge keeps its records."""
        self.port = free_port()
        config = self.directory / "mosquitto.conf"
        config.write_text(
            _CONFIG.format(port=self.port, window=window, queue=queue, directory=self.directory)
        )
        pin(0)
        self._broker = subprocess.Popen(
            [shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _until(lambda: _listens(self.port), "mosquitto listens")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._broker.terminate()
        self._broker.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)

    @contextmanager
    def subject(self, name: str, *options: str, processes: int = 1) -> Iterator["Subject"]:
        """Run the bridge, or a reference, on core 1; or several processes of it, on this one core."""
        if name == BRIDGE:
            command = ["mqtt_presence", "run", "--broker", f"mqtt://127.0.0.1:{self.port}"]
            command += ["--database", self.database, *options]
        else:
            command = [f"benchmarks.subjects.{name}", str(self.port), str(self.directory)]
        log = (self.directory / f"{name}.log").open("w+")
        started = [
            subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=log)
            for _ in range(processes)
        ]
        if (os.cpu_count() or 1) > 1:
            for process in started:
                os.sched_setaffinity(process.pid, {1})
        subject = Subject(name, self, started)
        try:
            subject.sentinel()  # it is there
            yield subject
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-4000:])
            raise
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(30)
            log.close()


class Subject:
    """A program that takes clients' messages, and answers a login of `sentinel…` by its status.

    It may be several processes, to which the broker deals the messages in turn.
    """

    def __init__(self, name: str, rig: Rig, processes: "list[subprocess.Popen[bytes]]") -> None:
        self.name = name
        self._rig = rig
        self._processes = processes
        self._sentinels = 0

    def cpu_s(self) -> float:
        """Tell how much processor time it has used, all its processes together."""
        ticks = 0
        for process in self._processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Tell how much memory its first process has resident."""
        pages = int(Path(f"/proc/{self._processes[0].pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def work_off(
        self, streams: list[list[tuple[str, bytes]]], timeout_s: float = 180.0
    ) -> tuple[float, float]:
        """Have it take messages that wait with the broker; return the seconds, and those of the processor.

        It is stopped while they are published. So what it takes is measured, not what load and broker do,
        which here share one processor.
        """
        count = len(self._processes)
        # Each process has one at least of so many in turn, behind the other messages.
        users = [
            f"sentinel-{n}-{time.monotonic_ns()}" for n in range(1 if count == 1 else _SENTINELS * count)
        ]
        with ExitStack() as stack:
            observers = [stack.enter_context(Observer(self._rig.port, f"status/{user}")) for user in users]
            self._signal(signal.SIGSTOP)
            publish_all(self._rig.port, streams)
            publish_all(self._rig.port, [[(f"presence/{user}/bench/login", b"") for user in users]])
            began, cpu = time.perf_counter(), self.cpu_s()
            self._signal(signal.SIGCONT)
            if not all(observer.wait(timeout_s) for observer in observers):
                raise RuntimeError(f"{self.name} has not done its work in {timeout_s:.0f} s")
            return time.perf_counter() - began, self.cpu_s() - cpu

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            process.send_signal(number)

    def sentinel(self, timeout_s: float = 120.0) -> None:
        """Wait until it has done all that was published before."""
        self._sentinels += 1
        user = f"sentinel-{self.name}-{time.monotonic_ns()}"
        with Observer(self._rig.port, f"status/{user}") as observer:
            publish_all(self._rig.port, [[(f"presence/{user}/bench/login", b"")]])
            deadline = time.monotonic() + timeout_s
            while not observer.wait(0.05 if self._sentinels == 1 else 0.5):
                if any(process.poll() is not None for process in self._processes):
                    raise RuntimeError(f"{self.name} has ended by itself")
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.name} has not done its work in {timeout_s:.0f} s")
                if self._sentinels == 1:  # it may not have been subscribed yet
                    publish_all(self._rig.port, [[(f"presence/{user}/bench/login", b"")]])


class Observer:
    """Sees the first message on a topic, from a raw socket: no library's latency is in the figures."""

    def __init__(self, port: int, topic: str) -> None:
        self._sock = connect(port, f"observer-{time.monotonic_ns()}")
        self._sock.sendall(packets.subscribe_packet([(topic, 0)], 1))
        if self._sock.recv(5)[0] != 0x90:
            raise RuntimeError("the broker did not grant a subscription")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a message."""
        self._sock.settimeout(timeout_s)
        with suppress(TimeoutError):
            return bool(self._sock.recv(65_536))
        return False


class StatusCounter:
    """Collects the newest status of every user, from a raw socket: it shares a core with the broker."""

    def __init__(self, port: int) -> None:
        self.states: dict[str, bytes] = {}
        self.offline = 0
        self.changed = threading.Event()
        self._sock = connect(port, f"counter-{time.monotonic_ns()}")
        self._sock.sendall(packets.subscribe_packet([("status/+", 0)], 1))
        self._thread = threading.Thread(target=self._run, name="statuses", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        framer = Framer()
        while data := self._sock.recv(1 << 20):
            for kind, flags, body in framer.feed(data):
                if kind == Kind.PUBLISH:
                    topic, _, payload = packets.split_publish(flags, body, 0, len(body), mqtt5=False)
                    self.offline += b'"offline"' in payload
                    self.states[topic.decode().removeprefix("status/")] = payload
            self.changed.set()

    def close(self) -> None:
        """Leave."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()


def _listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
        return True
    return False


def _until(condition: object, what: str, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {timeout_s:.0f} s in vain until {what}")
        time.sleep(0.02)
