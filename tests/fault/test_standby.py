"""A standby: a second process waits beside the bridge, and goes on where it ended."""

import signal
import threading
import time
from pathlib import Path

import pytest

from mqtt_presence.store import Store
from mqtt_presence.store.database import LEASE_MS
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of
from tests.support.waiting import until

TAKES_OVER_S = LEASE_MS / 1000 + 3
"""The longest time from the end of the bridge to the standby's connection, in seconds."""


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_standby_goes_on(mosquitto: Shipped, database: str, tmp_path: Path, how: str) -> None:
    """After a kill within the lease, after a clean stop at once: no message is lost, doubled or out of order."""
    watched, said = mosquitto.recorder(), Said()
    first = BridgeProcess(tmp_path / "first", broker=mosquitto.url, database=database)
    second = BridgeProcess(tmp_path / "second", ready=False, broker=mosquitto.url, database=database)
    with first, second:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(50), 50)))
        second.wait_for_log("waiting as a standby")
        client.publish_all(said.all(life_of(range(50, 100), 50)))
        first.kill() if how == "kill" else first.stop()
        ended = time.monotonic()
        client.publish_all(said.all(life_of(range(100, 150), 50)))
        second.wait_for_log("connected to", deadline_s=TAKES_OVER_S)
        if how == "stop":
            assert time.monotonic() - ended < TAKES_OVER_S
        client.publish_all(said.all(life_of(range(150, 200), 50)))
        assert_true(mosquitto, database, said, watched)
        assert second.stop() == 0


def test_standby_replaces_a_frozen_bridge(mosquitto: Shipped, postgres: Postgres, tmp_path: Path) -> None:
    """The lease runs out; thawed, the first process waits without a write."""
    database = postgres.database()
    watched, said = mosquitto.recorder(), Said()
    first = BridgeProcess(tmp_path / "first", broker=mosquitto.url, database=database)
    second = BridgeProcess(tmp_path / "second", ready=False, broker=mosquitto.url, database=database)
    with first, second:
        hello(mosquitto)
        second.wait_for_log("waiting as a standby")
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(50), 50)))
        first.signal(signal.SIGSTOP)
        client.publish_all(said.all(life_of(range(50, 100), 50)))
        second.wait_for_log("connected to", deadline_s=TAKES_OVER_S)
        first.signal(signal.SIGCONT)
        first.wait_for_log(f"the bridge is now process {second.pid} on")
        client.publish_all(said.all(life_of(range(100, 150), 50)))
        assert_true(mosquitto, database, said, watched, late=True)
        assert second.stop() == 0


def test_standby_survives_its_database(mosquitto: Shipped, tmp_path: Path) -> None:
    """The server restarts while the standby waits: it goes on waiting, and takes over later."""
    with Postgres() as server:
        database = server.database()
        watched, said = mosquitto.recorder(), Said()
        first = BridgeProcess(tmp_path / "first", broker=mosquitto.url, database=database)
        second = BridgeProcess(tmp_path / "second", ready=False, broker=mosquitto.url, database=database)
        with first, second:
            hello(mosquitto)
            second.wait_for_log("waiting as a standby: another process is the bridge")
            server.stop("immediate")
            server.start()
            client = mosquitto.publisher("", "")
            client.publish_all(said.all(life_of(range(50), 50)))
            first.kill()
            second.wait_for_log("connected to", deadline_s=TAKES_OVER_S + 5)
            client.publish_all(said.all(life_of(range(50, 100), 50)))
            assert_true(mosquitto, database, said, watched)
            assert second.stop() == 0


def test_standby_survives_a_lost_connection_to_the_database(postgres: Postgres) -> None:
    """Also in its first seconds, while it does not know yet whether the bridge is alive."""
    database = postgres.database()
    bridge, standby = Store(database), Store(database)
    errors: list[BaseException] = []
    has_seat = threading.Event()

    def wait() -> None:
        try:
            standby.wait_for_seat(lambda: False)
            has_seat.set()
        except BaseException as error:  # noqa: BLE001 - for the test to see
            errors.append(error)

    bridge.take_seat()
    waiting = threading.Thread(target=wait)
    waiting.start()
    others = "FROM pg_stat_activity WHERE query LIKE '%expires_at <%' AND pid <> pg_backend_pid()"
    until(lambda: query(database, f"SELECT pid {others}"), "the standby has looked")
    ended = {row["pid"] for row in query(database, f"SELECT pid, pg_terminate_backend(pid) {others}")}
    until(
        lambda: {row["pid"] for row in query(database, f"SELECT pid {others}")} - ended or errors,
        "the standby has looked again",
    )
    bridge.close()
    until(lambda: has_seat.is_set() or errors, "the standby has the seat")
    waiting.join(20)
    standby.close()
    assert not errors, errors
