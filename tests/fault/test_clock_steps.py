"""Commands whose wall clock makes a large step, as libfaketime has it: the work does not grow with the step."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.bridges import BridgeProcess, BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.checker import read
from tests.support.faketime import FakeTime
from tests.support.mqtt import Client
from tests.support.recorder import Recorder
from tests.support.waiting import free_port, listens, until

SETTINGS = {"idle_threshold": "1s", "retention": "30d"}


class Step(NamedTuple):
    """What happens to the clock, as offsets from the machine's; `asleep`: while the process is stopped."""

    start: str
    target: str
    asleep: bool = False


class UpProcess(BridgeProcess):
    """`mqtt-presence up` without pages."""

    def _command(self) -> list[str]:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()]
        return [sys.executable, "-m", "mqtt_presence", "up", "--no-ws", "--no-web", "--operator=op", *flags]


@contextmanager
def running(
    command: str, directory: Path, database: str, clock: FakeTime
) -> Iterator[tuple[BridgeProcess, int]]:
    """Run the command; yield it and the port of its broker."""
    how = {"environment": clock.environment, "database": database, **SETTINGS}
    if command == "up":
        port = free_port()
        with UpProcess(directory / "log", ready=False, port=port, **how) as process:
            until(lambda: listens(port), "the broker listens")
            yield process, port
    else:
        with (
            Mosquitto(directory / "mosquitto") as broker,
            BridgeProcess(directory / "log", broker=broker.url, **how) as process,
        ):
            yield process, broker.port


@pytest.mark.parametrize(
    "step",
    [Step("+0", "+5y"), Step("-56y", "+0"), Step("-250d", "+0", asleep=True)],
    ids=["five-years", "since-1970", "asleep-for-months"],
)
@pytest.mark.parametrize("command", ["run", "up"])
def test_checks_and_retention_go_on_after_a_large_step(
    tmp_path: Path, sqlite_url: str, command: str, step: Step
) -> None:
    """Who falls silent becomes idle, old records go, and SIGTERM ends the process, as before the step."""
    clock = FakeTime(tmp_path / "clock", step.start)
    with running(command, tmp_path, sqlite_url, clock) as (process, port):
        with (
            Client(port, "alice", "phone") as alice,
            Client(port, "bob", "pad") as bob,
            closing(Recorder(port, ("status/+",), user="op", log=process.log)) as recorder,
        ):
            # The bridge may have connected and not subscribed yet.
            until(
                lambda: alice.publish("presence/alice/phone/login") or recorder.status("alice"), every_s=0.1
            )
            alice.publish("presence/alice/phone/logout")
            recorder.wait_for_state("alice", "offline")
            if step.asleep:
                process.signal(signal.SIGSTOP)
            clock.set(step.target)
            if step.asleep:
                process.signal(signal.SIGCONT)
            process.wait_for_log("the clock was set forward")
            for verb in ("login", "activity"):
                bob.publish(f"presence/bob/pad/{verb}")
            recorder.wait_for_state("bob", "idle")
            until(lambda: {r.user_id for r in read(sqlite_url)[0]} == {"bob"}, "the old record is deleted")
        assert process.stop() == 0


@pytest.mark.parametrize("command", ["run", "up"])
def test_checks_go_on_after_a_step_back(tmp_path: Path, sqlite_url: str, command: str) -> None:
    """A user who falls silent after the step becomes idle; the schedule does not wait for the old time."""
    clock = FakeTime(tmp_path / "clock", "+1h")
    with running(command, tmp_path, sqlite_url, clock) as (process, port):
        with (
            Client(port, "bob", "pad") as bob,
            closing(Recorder(port, ("status/+",), user="op", log=process.log)) as recorder,
        ):
            until(lambda: bob.publish("presence/bob/pad/login") or recorder.status("bob"), every_s=0.1)
            bob.publish("presence/bob/pad/activity")
            recorder.wait_for_state("bob", "idle")
            clock.set("+0")
            process.wait_for_log("the clock was set back")
            bob.publish("presence/bob/pad/activity")
            recorder.wait_for_state("bob", "online")
            recorder.wait_for_state("bob", "idle")
        assert process.stop() == 0


CLIENT = """
import sys
from mqtt_presence import PresenceClient
with PresenceClient(sys.argv[1]) as client:
    client.monitor.start(threshold=1, interval=1)
    sys.stdin.readline()
    client.monitor.ping()
    sys.stdin.readline()
"""


@pytest.mark.parametrize("target", ["+5y", "-5y"])
def test_python_client_goes_on_after_a_large_step(tmp_path: Path, sqlite_url: str, target: str) -> None:
    """Its monitor, its heartbeats and its end are as before the step of its machine's clock."""
    clock = FakeTime(tmp_path / "clock")
    with Mosquitto(tmp_path / "mosquitto") as broker, BridgeThread(broker=broker.url, database=sqlite_url):
        recorder = broker.recorder()
        command = [sys.executable, "-c", CLIENT, f"mqtt://alice@127.0.0.1:{broker.port}"]
        environment = os.environ | clock.environment
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment) as client:
            assert client.stdin is not None
            recorder.wait_for_state("alice", "idle")
            clock.set(target)
            client.stdin.write("\n")
            client.stdin.flush()
            recorder.wait_for_state("alice", "online")
            recorder.wait_for_state("alice", "idle")
            client.stdin.close()
            recorder.wait_for_state("alice", "offline")
            assert client.wait(20) == 0
