"""One process at a time is the bridge of a database: others wait or are refused, and a lost place is noticed."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mqtt_presence.errors import SeatLostError, SeatTakenError, StoreError
from mqtt_presence.store import Store, lease
from mqtt_presence.store import database as database_module
from mqtt_presence.store.reader import Reader
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto, Shipped
from tests.support.checker import assert_true
from tests.support.pgbouncer import PgBouncer
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of
from tests.support.waiting import until


def other_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("MQTT_PRESENCE_")}
    return subprocess.run(
        [sys.executable, "-m", "mqtt_presence", *arguments],
        capture_output=True, text=True, check=False, timeout=60, env=ours,
    )  # fmt: skip


def assert_names(text: str, pid: int) -> None:
    """One sentence names the process, its machine, and since when it is the bridge."""
    assert "Traceback" not in text
    pattern = rf"another process is the bridge of .*: process {pid} on \S+, since \d{{4}}-\d\d-\d\dT[\d:.]+Z"
    assert re.search(pattern, text), text


def test_a_second_bridge_is_refused_and_the_first_goes_on(
    mosquitto: Shipped, database: str, tmp_path: Path
) -> None:
    """Whatever broker the second has: the connections of the first stay, and it is never off its broker."""
    watched, said = mosquitto.recorder(), Said()
    with (
        BridgeProcess(tmp_path / "first", broker=mosquitto.url, database=database) as first,
        Mosquitto(tmp_path / "other broker") as elsewhere,
    ):
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(50), 50)))
        second = other_process("up", "--port=0", "--no-ws", "--no-web", f"--database={database}")
        assert second.returncode == 1
        assert_names(second.stderr, first.pid)
        for number, broker in enumerate((mosquitto, elsewhere)):
            log = tmp_path / f"standby {number}"
            with BridgeProcess(log, ready=False, broker=broker.url, database=database) as standby:
                standby.wait_for_log("waiting as a standby")
                assert_names(standby.log(), first.pid)
                assert standby.stop() == 0
            assert "connected to" not in log.read_text()
        client.publish_all(said.all(life_of(range(50, 100), 50)))
        assert_true(mosquitto, database, said, watched)
        assert [m.json["state"] for m in watched.on("bridge/state")] == ["online"]
        assert first.stop() == 0
        reasons = query(database, "SELECT reason FROM connections WHERE reason IN ('unconfirmed', 'timeout')")
        assert reasons == []


def test_the_place_of_a_killed_bridge_is_free(mosquitto: Shipped, database: str, tmp_path: Path) -> None:
    """At once on SQLite, when the lease is over on PostgreSQL: the next one goes on with what is there."""
    watched, said = mosquitto.recorder(), Said()
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=database) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(50), 50)))
        bridge.kill()
        bridge.start()
        assert bridge.says("waiting until its lease is over") is not database.startswith("sqlite")
        client.publish_all(said.all(life_of(range(50, 100), 50)))
        assert_true(mosquitto, database, said, watched)
        assert bridge.stop() == 0
        bridge.start()  # a place that was left is free at once
        assert bridge.log().count("waiting until its lease is over") <= 1


def test_a_frozen_bridge_that_lost_its_place_writes_nothing_more(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path
) -> None:
    """Another process takes over when the lease is over; thawed, the first one waits, and says why."""
    database = postgres.database()
    watched, said = mosquitto.recorder(), Said()
    first = BridgeProcess(tmp_path / "first", broker=mosquitto.url, database=database)
    second = BridgeProcess(tmp_path / "second", broker=mosquitto.url, database=database)
    with first:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(50), 50)))
        first.signal(signal.SIGSTOP)
        client.publish_all(said.all(life_of(range(50, 100), 50)))
        with second:
            first.signal(signal.SIGCONT)
            first.wait_for_log(f"the bridge is now process {second.pid} on")
            assert "Traceback" not in first.log()
            client.publish_all(said.all(life_of(range(100, 150), 50)))
            assert_true(mosquitto, database, said, watched, late=True)
            assert second.log().count("connected to") == 1, "the thawed one pushes nobody off the broker"
            assert second.stop() == 0


def test_the_lock_outlives_its_file(mosquitto: Shipped, sqlite_url: str, tmp_path: Path) -> None:
    """Somebody tidies the lock file away: the bridge has a new one before another process could."""
    lock_file = tmp_path / "presence.db-lock"
    with BridgeProcess(tmp_path / "first", broker=mosquitto.url, database=sqlite_url) as first:
        hello(mosquitto)
        lock_file.unlink()
        until(lock_file.exists, "the bridge has noticed")
        second = other_process("up", "--port=0", "--no-ws", "--no-web", f"--database={sqlite_url}")
        assert second.returncode == 1
        assert_names(second.stderr, first.pid)
        assert first.stop() == 0


def test_the_lock_is_the_same_by_any_path(sqlite_url: str, tmp_path: Path) -> None:
    """A link to the database, or to its directory, is the same database."""
    (tmp_path / "link.db").symlink_to(tmp_path / "presence.db")
    first = Store(sqlite_url)
    first.take_seat()
    second = Store(f"sqlite:///{tmp_path / 'link.db'}")
    with pytest.raises(SeatTakenError, match=f"process {os.getpid()}"):
        second.take_seat()
    first.close()
    second.take_seat()
    second.close()


def test_commands_work_beside_the_bridge(mosquitto: Shipped, database: str, tmp_path: Path) -> None:
    """Those that read, and those that write a little: none of them needs the place."""
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=database) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all((f"presence/{user}/phone/login", b"") for user in ("alice", "bob"))
        until(
            lambda: len(query(database, "SELECT 1 FROM users WHERE user_id IN ('alice', 'bob')")) == 2,
            "both have logged in",
        )
        at = f"--database={database}"
        assert "alice" in other_process("users", at).stdout
        assert "phone" in other_process("history", "alice", at).stdout
        assert other_process("forget", "--yes", "bob", at, f"--broker={mosquitto.url}").returncode == 0
        repaired = other_process("verify", "--repair", at, f"--broker={mosquitto.url}")
        assert repaired.returncode == 0, repaired.stdout + repaired.stderr
        assert bridge.stop() == 0


@pytest.mark.parametrize("where", ["between two statements", "while it sends many"])
def test_who_freezes_inside_a_transaction_keeps_nobody_waiting(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Such a transaction is ended when the lease is over, and with it the locks."""
    monkeypatch.setattr(database_module, "LEASE_MS", 700)
    monkeypatch.setattr(lease, "LEASE_MS", 700)
    database = postgres.database()
    frozen, other = Store(database), Store(database)
    frozen.take_seat()

    def take_over_meanwhile() -> None:
        with frozen.transaction() as tx:
            if where == "while it sends many":  # as psycopg's executemany does
                sending = tx._database.connection().pgconn
                sending.enter_pipeline_mode()
                sending.send_query_params(b"UPDATE bridge SET value = value", None)
                sending.send_flush_request()
                sending.flush()
            taking_over = threading.Thread(target=other.take_seat)
            taking_over.start()
            taking_over.join(20)
            assert not taking_over.is_alive()
            tx.write_value("written by the frozen one", "1")

    with pytest.raises(StoreError) as caught:
        take_over_meanwhile()
    assert caught.value.transient
    with pytest.raises(SeatLostError, match="the bridge is now process"), frozen.transaction() as tx:
        tx.write_value("written by the frozen one", "2")
    assert query(database, "SELECT * FROM bridge WHERE name = 'written by the frozen one'") == []
    frozen.close()
    with Reader(database):
        pass


def test_the_seat_is_held_through_a_pooler(postgres: Postgres) -> None:
    """The lease is a row, so it does not matter on which of the server's connections the next transaction is."""
    database = postgres.database()
    with PgBouncer(postgres.port) as pooler:
        first, second = Store(pooler.url(database)), Store(pooler.url(database))
        first.take_seat()
        done = threading.Event()

        def keep() -> None:
            while not done.is_set():
                with first.transaction() as tx:
                    tx.write_value("kept", "1")
            first.close()

        keeping = threading.Thread(target=keep)
        keeping.start()
        try:
            with pytest.raises(SeatTakenError):
                second.take_seat()
        finally:
            done.set()
            keeping.join(20)
        second.close()


def test_a_bridge_of_before_keeps_its_client_id(database: str) -> None:
    """A database without seats is brought up to date: the session at the broker is the same."""
    from playhouse.migrations import Runner

    before = database_module.connect(database)
    Runner(before, directory=str(database_module.MIGRATIONS)).up("0009_redeliveries")
    before.execute_sql("INSERT INTO bridge (name, value) VALUES ('client_id', 'bridge-of-before')")
    before.close()
    store = Store(database)
    store.take_seat()
    with store.transaction() as tx:
        assert tx.client_id() == "bridge-of-before"
        assert tx.read_value("client_id") is None
    store.close()
    fresh = Store(database)
    fresh.take_seat()  # its holder has left
    fresh.close()
