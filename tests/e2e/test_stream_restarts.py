"""`curl -N …/stream` follows a simulation while the bridge is killed: no gap, no double, and the right end."""

import json
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.event_stream import Event, events_in
from tests.support.waiting import free_port, until


class Curl:
    """A program that follows a stream by curl, and connects again with the id of the last event.

    Args:
        port: of the server.
        directory: for the output.

    """

    def __init__(self, port: int, directory: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/stream"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._done: list[Event] = []
        self.connections = 0

    @property
    def _file(self) -> Path:
        return self._directory / f"stream-{self.connections}.txt"

    @property
    def events(self) -> list[Event]:
        """The events so far; a last one that is not whole does not count."""
        now = self._file
        return self._done + (events_in(now.read_text("utf-8", "replace")) if now.exists() else [])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join(20)

    def _follow(self) -> None:
        while not self._is_over.is_set():
            last = [f"-HLast-Event-ID: {self._done[-1].id}"] if self._done else []
            with self._file.open("wb") as output:
                self._process = subprocess.Popen(["curl", "-sNf", *last, self._url], stdout=output)
                self._process.wait()
            done = self.events
            self.connections += 1
            self._done = done
            self._is_over.wait(0.05)


def test_a_stream_follows_a_simulation_across_kills_of_the_bridge(
    mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path
) -> None:
    """Every version of every user comes once, in order, and the last ones are the retained statuses."""
    port = free_port()
    bridge = BridgeProcess(
        tmp_path / "bridge.log",
        environment={"MQTT_PRESENCE_WEB": "true"},
        broker=mosquitto.url,
        database=sqlite_url,
        web_port=port,
        web_mqtt_url="ws://127.0.0.1:1/",
        confirm_within=1,
    )
    curl = Curl(port, tmp_path)
    recorder = mosquitto.recorder("status/#")
    with bridge:
        curl.start()
        try:
            simulation = subprocess.Popen(
                [
                    sys.executable, "-m", "mqtt_presence", "simulate", "--broker", mosquitto.url, "--database", sqlite_url,
                    "--users=30", "--rate=150", "--churn=0.5", "--duration=8s", "--seed=14", "--name=sim", "--keep-records",
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
            for kill_at in (60, 120, 180):
                until(lambda kill_at=kill_at: len(curl.events) >= kill_at, f"{kill_at} events")
                bridge.kill()
                bridge.start()
            output, _ = simulation.communicate(timeout=60)
            assert simulation.returncode == 0, output.decode()

            def newest() -> dict[str, tuple[int, str]]:
                statuses = (e.data for e in curl.events if e.name == "status")
                return {s["userId"]: (s["version"], s["state"]) for s in statuses}

            def retained() -> dict[str, tuple[int, str]]:
                statuses = [json.loads(m.payload) for m in recorder.heard if m.payload]
                return {
                    s["userId"]: (s["version"], s["state"]) for s in statuses if s["userId"].startswith("sim")
                }

            until(lambda: newest() == retained(), "the stream ends as MQTT does")
        finally:
            curl.stop()
    assert curl.connections >= 4
    assert [e.name for e in curl.events if e.name not in {"status", "comment"}] == ["ready"]
    of_user: dict[str, list[int]] = {}
    for event in curl.events:
        if event.name == "status":
            of_user.setdefault(event.data["userId"], []).append(event.data["version"])
    assert len(of_user) == 30
    for user, versions in of_user.items():
        assert versions == list(range(versions[0], versions[-1] + 1)), user
