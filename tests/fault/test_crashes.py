"""Crashes and restarts of bridge, broker and PostgreSQL: nothing lost, nothing double, the statuses are true again."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_presence.protocol import publications
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.store import Store
from tests.conftest import Postgres
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello, settle
from tests.support.postgres import query
from tests.support.said import Client, Said, end_of, life_of, login_of
from tests.support.waiting import until


def count(database: str) -> int:
    sql = "SELECT COUNT(*) AS n FROM connections WHERE connection_id LIKE 'id-%'"
    return int(query(database, sql)[0]["n"])


@pytest.fixture
def bridge(mosquitto: Shipped, sqlite_url: str, tmp_path: Path) -> Iterator[BridgeProcess]:
    """Run a bridge process on mosquitto and SQLite."""
    with BridgeProcess(
        tmp_path / "bridge.log", broker=mosquitto.url, database=sqlite_url, confirm_within=1, keep_alive=5
    ) as process:
        hello(mosquitto)
        yield process


# The bridge.


def test_bridge_killed_in_the_middle_of_2000_logins(
    mosquitto: Shipped, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """Killed five times while 2,000 logins come in: each has exactly one record, each status is right."""
    watched, said = mosquitto.recorder(), Said()
    client = mosquitto.publisher("", "")
    failed: list[BaseException] = []

    def storm() -> None:
        try:
            for number in range(2000):  # one by one: acknowledged means acknowledged
                client.publish_all(said.all([login_of(number, 300)]))
        except BaseException as error:  # noqa: BLE001 - for the test to see
            failed.append(error)

    thread = threading.Thread(target=storm)
    thread.start()
    for kill_at in (100, 400, 800, 1200, 1600):
        until(lambda kill_at=kill_at: count(sqlite_url) >= kill_at, f"{kill_at} records", every_s=0.002)
        bridge.kill()
        bridge.start(ready=False)
    thread.join(60)
    assert not failed
    assert_true(mosquitto, sqlite_url, said, watched)

    # Every login was told, and no user's status was left on the way.
    def told() -> set[str]:
        logins = [m for m in watched.heard if m.topic.endswith("/connectionLogin") and "/user-" in m.topic]
        return {m.json["connectionId"] for m in logins}

    watched.wait_for(lambda: len(told()) == 2000, "2000 events")


def test_messages_queued_while_the_bridge_is_away(
    mosquitto: Shipped, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """What clients said while the bridge was away is decided when it is back, in order."""
    watched, said = mosquitto.recorder(), Said()
    settle(mosquitto, watched)
    assert bridge.stop() == 0
    client = mosquitto.publisher("", "")
    client.publish_all(said.all(login_of(n, 500) for n in range(3000)))
    client.publish_all(said.all(end_of(n, 500) for n in range(0, 3000, 2)))
    bridge.start()
    statuses = assert_true(mosquitto, sqlite_url, said, watched)
    assert statuses["user-0"]["connections"] == 0
    assert statuses["user-1"]["connections"] == 6


def test_sigterm_finishes_says_offline_and_exits_0(
    mosquitto: Shipped, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """SIGTERM under load: exit 0, offline on `bridge/state`, and nothing of what was said is lost."""
    watched, said = mosquitto.recorder(), Said()
    client = mosquitto.publisher("", "")
    client.publish_all(said.all(life_of(range(500), 100)))
    assert bridge.stop() == 0
    watched.wait_for(lambda: watched.last("bridge/state")["state"] == "offline", "offline")
    client.publish_all(said.all(life_of(range(500, 750), 100)))
    bridge.start()
    watched.wait_for(lambda: watched.last("bridge/state")["state"] == "online", "online")
    assert_true(mosquitto, sqlite_url, said, watched)
    for sign in (signal.SIGINT,):
        bridge.signal(sign)
        assert bridge.wait() == 0


# The broker.


@pytest.mark.parametrize("clients", ["there", "away"])
def test_broker_that_has_lost_everything(
    mosquitto: Shipped, bridge: BridgeProcess, sqlite_url: str, clients: str
) -> None:
    """The retained statuses are all there again, and who was asked and does not answer ends."""
    watched, said = mosquitto.recorder(), Said()
    mosquitto.publisher("", "").publish_all(
        said.all(login_of(n, 400, announce=n % 2 == 0) for n in range(400))
    )
    settle(mosquitto, watched)
    mosquitto.kill()
    mosquitto.wipe()
    # Held, so that who listens to the announcement is there before it is made.
    bridge.signal(signal.SIGSTOP)
    mosquitto.start()
    asked = mosquitto.recorder("bridge/announce")
    bridge.signal(signal.SIGCONT)
    asked.wait_for(lambda: asked.on("bridge/announce"), "the announcement")
    if clients == "there":  # half of those that answer announcements do
        mosquitto.publisher("", "").publish_all(login_of(n, 400, announce=True) for n in range(0, 400, 4))
    for n in range(0, 400, 2) if clients == "away" else range(2, 400, 4):
        said.gone(Client(f"user-{n}", f"client-{n}"))
    assert_true(mosquitto, sqlite_url, said, watched)
    assert {r["reason"] for r in query(sqlite_url, "SELECT reason FROM connections")} == {None, "unconfirmed"}


def test_broker_and_bridge_killed_at_once(mosquitto: Shipped, bridge: BridgeProcess, sqlite_url: str) -> None:
    """Both are killed and the broker has lost everything: the database makes it true again."""
    watched, said = mosquitto.recorder(), Said()
    mosquitto.publisher("", "").publish_all(said.all(life_of(range(500), 250)))
    settle(mosquitto, watched)
    bridge.kill()
    mosquitto.kill()
    mosquitto.wipe()
    mosquitto.start()
    again = mosquitto.recorder()
    bridge.start()
    again.wait_for(lambda: said.users <= again.statuses().keys(), "all again")
    assert_true(mosquitto, sqlite_url, said, watched)


def test_what_the_bridge_sends_itself_is_no_sign_that_nothing_is_lost(
    mosquitto: Shipped, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """The status it asks for is still to be published: the broker has it from the bridge, and nothing else."""
    watched, said = mosquitto.recorder(), Said()
    mosquitto.publisher("", "").publish_all(said.all(login_of(n, 20) for n in range(20)))
    settle(mosquitto, watched)
    assert bridge.stop() == 0
    store = Store(sqlite_url)
    with store.transaction() as tx:
        (user,) = tx.users_after("user-18", 1)
        assert user.status is not None
        told = publications.status_publication(user, user.status, Topics(), private=False)
        tx.put_outbox(publications.pack([told]))
        tx.write_value("probe", json.dumps({"topic": told.topic, "version": user.version}))
    store.close()
    mosquitto.stop()
    mosquitto.wipe()
    mosquitto.start()
    bridge.start()
    assert_true(mosquitto, sqlite_url, said, watched)


def test_broker_restarted_while_statuses_are_published_again(
    mosquitto: Shipped, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """The broker loses everything, and again, while the bridge is still publishing all of it anew."""
    watched, said = mosquitto.recorder(), Said()
    mosquitto.publisher("", "").publish_all(said.all(login_of(n, 1500) for n in range(1500)))
    settle(mosquitto, watched)
    for _ in range(2):
        mosquitto.kill()
        mosquitto.wipe()
        mosquitto.start()
        again = mosquitto.recorder("status/+")
        again.wait_for(lambda again=again: len(again.heard) > 50, "the first of them")
    assert_true(mosquitto, sqlite_url, said, watched)


def test_broker_away_at_the_start_of_the_bridge(tmp_path: Path, sqlite_url: str) -> None:
    """A bridge started before its broker waits for it, saying so, without a busy loop."""
    broker = Shipped(tmp_path / "m")
    with BridgeProcess(
        tmp_path / "bridge.log", ready=False, broker=broker.url, database=sqlite_url
    ) as bridge:
        bridge.wait_for_log("cannot reach the broker", 3)
        assert bridge.cpu_s() < 3
        with broker:
            hello(broker)
            bridge.wait_for_log("connected to")
            assert bridge.stop() == 0


# PostgreSQL.


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_postgresql_restarted_under_the_bridge(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path, how: str
) -> None:
    """PostgreSQL stops, or crashes, and comes back while logins come in: nothing is lost, the bridge stays."""
    database = postgres.database()
    watched, said = mosquitto.recorder(), Said()
    with BridgeProcess(tmp_path / "bridge.log", broker=mosquitto.url, database=database) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(500), 100)))
        postgres.stop(how)
        client.publish_all(said.all(life_of(range(500, 1000), 100)))
        bridge.wait_for_log("next try in")
        postgres.start()
        assert_true(mosquitto, database, said, watched)
        assert {m.json["state"] for m in watched.on("bridge/state")} == {"online"}
        assert bridge.stop() == 0


def test_bridge_killed_on_postgresql(mosquitto: Shipped, postgres: Postgres, tmp_path: Path) -> None:
    """The same promises hold on PostgreSQL: killed under load, nothing is lost or double."""
    database = postgres.database()
    watched, said = mosquitto.recorder(), Said()
    with BridgeProcess(tmp_path / "bridge.log", broker=mosquitto.url, database=database) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        for start in range(0, 900, 300):
            client.publish_all(said.all(life_of(range(start, start + 300), 90)))
            until(lambda start=start: count(database) > start, "some of them", every_s=0.001)
            bridge.kill()
            bridge.start()
        assert_true(mosquitto, database, said, watched)
