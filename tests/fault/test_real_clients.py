"""Clients that hold their connections while broker and bridge die under them: who is here is right afterwards."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.test_crashes import assert_true
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.checker import read
from tests.support.mqtt import Client
from tests.support.playing import hello, settle
from tests.support.postgres import query
from tests.support.waiting import now_ms, until

USERS = 80


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """Run a mosquitto that saves as the shipped one does, and tells of itself every second."""
    with Mosquitto(tmp_path / "mosquitto", "sys_interval 1") as broker:
        yield broker


def login(broker: Mosquitto, number: int, connection: str) -> Client:
    """Connect with a will, and log in."""
    user, client_id = f"user-{number}", f"client-{number}"
    payload = json.dumps({"connectionId": connection, "announce": True}).encode()
    topic = f"presence/{user}/{client_id}"
    client = Client(broker.port, user, client_id, will=(f"{topic}/will", payload))
    client.publish(f"{topic}/login", payload)
    return client


@pytest.mark.parametrize("also", ["the broker alone", "the bridge too"])
def test_who_died_with_a_killed_broker_does_not_stay(
    mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path, also: str
) -> None:
    """A killed broker publishes no will, though it still has the bridge's session: who does not come back ends."""
    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=sqlite_url, confirm_within=2
    ) as bridge:
        hello(mosquitto)
        clients = [login(mosquitto, n, f"before-{n}") for n in range(USERS)]
        settle(mosquitto, mosquitto.recorder())
        until(lambda: _has_run_ms(sqlite_url) > 4_000, "the bridge knows a broker that has run for a while")
        mosquitto.kill()
        if also == "the bridge too":
            bridge.kill()
        for client in clients:
            client.close()
        mosquitto.start()
        if also == "the bridge too":
            bridge.start()
        back = [login(mosquitto, n, f"after-{n}") for n in range(0, USERS, 2)]
        bridge.wait_for_log("the broker was restarted")

        def ended() -> set[str]:
            return {r.user_id for r in read(sqlite_url)[0] if r.reason == "unconfirmed"}

        # Those that came back before they were asked do not answer here: one who is asked and silent is gone.
        for n, client in zip(range(0, USERS, 2), back, strict=True):
            client.publish(
                f"presence/user-{n}/client-{n}/activity",
                json.dumps({"connectionId": f"after-{n}"}).encode(),
            )
        until(lambda: ended() >= {f"user-{n}" for n in range(1, USERS, 2)}, "who has not come back has ended")
        statuses = assert_true(mosquitto, sqlite_url)
        assert all(statuses[f"user-{n}"]["state"] == "offline" for n in range(1, USERS, 2))
        for client in back:
            client.close()


def _has_run_ms(database: str) -> int:
    """Tell for how long the broker has been running, as far as the bridge knows."""
    rows = query(database, "SELECT value FROM bridge WHERE name = 'losses'")
    since = rows[0]["value"].split()[1] if rows else "-"
    return 0 if since == "-" else now_ms() - int(since)


@pytest.mark.parametrize(
    ("how", "also"), [("stop", "the broker alone"), ("kill", "the broker alone"), ("kill", "the bridge too")]
)
def test_simulated_users_are_right_after_a_restart(
    mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path, how: str, also: str
) -> None:
    """Broker, or broker and bridge, are ended under 120 clients that log in, report and leave: at the end every
    status is what these clients know it must be, and offline once they have logged out.
    """
    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=sqlite_url, confirm_within=4
    ) as bridge:
        hello(mosquitto)
        until(lambda: _has_run_ms(sqlite_url) > 2_000, "the bridge knows a broker that has run for a while")
        simulation = subprocess.Popen(
            [sys.executable, "-m", "mqtt_presence", "simulate", "--broker", mosquitto.url, "--users", "60",
             "--rate", "400", "--churn", "0.3", "--duration", "4s", "--settle", "40s", "--seed", "11"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            until(lambda: len(read(sqlite_url)[0]) > 400, "they are at it")
            if also == "the bridge too":
                bridge.kill()
            (mosquitto.stop if how == "stop" else mosquitto.kill)()
            mosquitto.start()
            if also == "the bridge too":
                bridge.start()
            output, _ = simulation.communicate(timeout=100)
        finally:
            simulation.kill()
        assert simulation.returncode == 0, output + bridge.log()
        assert "at the end: all 60 statuses are right" in output
        assert_true(mosquitto, sqlite_url)
        assert not [r for r in read(sqlite_url)[0] if r.is_open and r.user_id.startswith("sim-")]
