"""Commits wait for a synchronous standby that is gone: the bridge goes on with the broker, and acknowledges nothing."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mqtt_presence.store import LEASE_MS
from tests.fault.test_database_losses import ready
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello, settle
from tests.support.postgres import Postgres, Standby, query
from tests.support.recorder import Recorder
from tests.support.said import Said, life_of
from tests.support.waiting import free_port, until

KEEP_ALIVE_S = 5
"""The least one: the broker gives the bridge up after 7.5 s without a packet."""
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def primary() -> Iterator[Postgres]:
    """Run a primary of the test's own."""
    with Postgres() as started:
        yield started


def is_healthy(port: int) -> bool:
    """Ask whether the bridge's loop turns."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        with closing(error):
            return False


def states(watched: Recorder) -> list[str]:
    """Return the states that the bridge or its will has published."""
    return [message.json["state"] for message in watched.on("bridge/state")]


def batch(database: str) -> int:
    """Return the number of the last transaction of the seat."""
    return int(query(database, "SELECT batch FROM seats")[0]["batch"])


def assert_alive_without_database(port: int, watched: Recorder) -> None:
    """Check for several keep alives that the bridge turns, keeps the broker, and says that it cannot write."""
    until_s = time.monotonic() + 4 * KEEP_ALIVE_S
    while time.monotonic() < until_s:
        assert is_healthy(port)
        answer = ready(port)
        assert (answer["broker"], answer["database"]) == (True, False)
    assert set(states(watched)) == {"online"}


def test_standby_dies_and_comes_back(mosquitto: Shipped, primary: Postgres, tmp_path: Path) -> None:
    """For half a minute no message is acknowledged or visible, the will stays unpublished, /healthz is well."""
    database, port = primary.database(), free_port()
    watched, said = mosquitto.recorder(), Said()
    client = mosquitto.publisher("", "")
    with (
        Standby(primary) as standby,
        BridgeProcess(
            tmp_path / "log",
            broker=mosquitto.url,
            database=database,
            monitor_port=port,
            keep_alive=KEEP_ALIVE_S,
        ) as bridge,
    ):
        hello(mosquitto)
        standby.wait_until_streaming()
        primary.set("synchronous_standby_names", Standby.NAME)
        client.publish_all(said.all(life_of(range(100), 50)))
        watched.wait_for(lambda: watched.status("user-49"), "the first are there")
        standby.stop("immediate")
        client.publish_all(said.all(life_of(range(100, 200), 100)))
        bridge.wait_for_log("the server has not confirmed a commit")
        bridge.wait_for_log("perhaps one that waits for its synchronous standby", 2)
        assert_alive_without_database(port, watched)
        assert query(database, "SELECT 1 FROM connections WHERE user_id = 'user-99'") == [], "not visible"
        assert watched.status("user-99") is None
        assert len(primary.execute(WAITING)) == 1, "one transaction waits, and no other behind it"
        standby.start()
        assert_true(mosquitto, database, said, watched)
        until(lambda: ready(port)["ready"], "the bridge is ready")
        assert set(states(watched)) == {"online"}
        assert bridge.stop() == 0
        assert "refused" not in bridge.log()


def test_seat_is_not_taken_while_a_commit_waits(
    mosquitto: Shipped, primary: Postgres, tmp_path: Path
) -> None:
    """No process has it, and bridge/state says so: to end the wait would make visible what may be lost."""
    database = primary.database()
    watched, said = mosquitto.recorder(), Said()
    client = mosquitto.publisher("", "")
    flags = {"broker": mosquitto.url, "database": database, "keep_alive": KEEP_ALIVE_S}
    with (
        BridgeProcess(tmp_path / "log", node="one", **flags) as bridge,
        BridgeProcess(tmp_path / "second", ready=False, node="two", **flags) as second,
    ):
        hello(mosquitto)
        second.wait_for_log("waiting as a standby")
        until(lambda: query(database, "SELECT 1 FROM standbys"), "the standby is in the database")
        known = 4 + batch(database)
        until(lambda: batch(database) >= known, "the holder has asked for standbys")
        client.publish_all(said.all(life_of(range(100), 50)))
        watched.wait_for(lambda: watched.status("user-49"), "the first are there")
        primary.set("synchronous_standby_names", "nobody")
        client.publish_all(said.all(life_of(range(100, 200), 100)))
        bridge.wait_for_log("the server has not confirmed a commit")
        waiting = until(lambda: primary.execute(WAITING), "a commit waits")
        bridge.wait_for_log("waiting as a standby")
        watched.wait_for(lambda: states(watched) == ["online", "offline"], "the holder has left")
        until_s = time.monotonic() + 2 * LEASE_MS / 1000
        while time.monotonic() < until_s:
            assert second.log().count("connected to") + bridge.log().count("connected to") == 1
            time.sleep(0.5)
        assert set(waiting) <= set(primary.execute(WAITING)), "it still waits"
        assert query(database, "SELECT 1 FROM connections WHERE user_id = 'user-99'") == [], "not visible"
        primary.set("synchronous_standby_names", "")
        assert_true(mosquitto, database, said, watched, deadline_s=40)
        assert states(watched) == ["online", "offline", "online"]
        assert second.stop() == bridge.stop() == 0
        assert "refused" not in bridge.log() + second.log()
        assert "the database has lost" not in bridge.log() + second.log(), "no loss of the database"


def test_server_freezes(mosquitto: Shipped, primary: Postgres, tmp_path: Path) -> None:
    """A server that accepts connections and answers nothing does not cost the connection to the broker."""
    database, port = primary.database(), free_port()
    watched, said = mosquitto.recorder(), Said()
    client = mosquitto.publisher("", "")
    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=database, monitor_port=port, keep_alive=KEEP_ALIVE_S
    ) as bridge:
        hello(mosquitto)
        client.publish_all(said.all(life_of(range(100), 50)))
        watched.wait_for(lambda: watched.status("user-49"), "the first are there")
        settle(mosquitto, watched)
        with primary.frozen():
            client.publish_all(said.all(life_of(range(100, 200), 100)))
            bridge.wait_for_log("the server has not answered for 4 s")
            until(lambda: ready(port)["database"] is False, "the bridge is not ready")
            assert_alive_without_database(port, watched)
        assert_true(mosquitto, database, said, watched)
        assert set(states(watched)) == {"online"}
        assert bridge.stop() == 0
        assert "refused" not in bridge.log()
