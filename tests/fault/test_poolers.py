"""A pooler in transaction mode between the bridge and PostgreSQL: nothing acknowledged is lost, nothing is refused."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from mqtt_presence.store.database import connect
from mqtt_presence.store.reader import Reader
from tests.support.bridges import BridgeProcess, BridgeThread
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.pgbouncer import PgBouncer
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of
from tests.support.waiting import until


@pytest.fixture
def pooler(postgres: Postgres) -> Iterator[PgBouncer]:
    """Run pgbouncer before the cluster."""
    with PgBouncer(postgres.port) as started:
        yield started


def fill(url: str) -> None:
    """Have the pooler open both of its server connections, which it keeps."""
    with ExitStack() as both:
        for _ in range(2):
            both.enter_context(psycopg.connect(url, prepare_threshold=None)).execute("SELECT 1")


def refused(database: str) -> list[dict[str, str]]:
    return query(database, "SELECT value FROM bridge WHERE name = 'refused'")


def test_a_pooler_in_transaction_mode_loses_nothing(
    mosquitto: Shipped, postgres: Postgres, pooler: PgBouncer, tmp_path: Path
) -> None:
    """1,500 lives through two server connections: each has its record, and no message is refused."""
    database = postgres.database()
    watched, said = mosquitto.recorder(), Said()
    fill(pooler.url(database))
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=pooler.url(database)) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        for start in range(0, 1500, 100):
            client.publish_all(said.all(life_of(range(start, start + 100), 200)))
        assert_true(mosquitto, database, said, watched)
        assert bridge.stop() == 0
        assert "refused" not in bridge.log()
        assert "nothing is lost, next try" not in bridge.log()
    assert refused(database) == []


def test_readers_through_the_pooler_leave_the_bridge_able_to_write(
    mosquitto: Shipped, postgres: Postgres, pooler: PgBouncer, tmp_path: Path
) -> None:
    """Commands that only read, with and without a time limit, share the bridge's two server connections."""
    database = postgres.database()
    watched, said = mosquitto.recorder(), Said()
    done, failed = threading.Event(), []
    fill(pooler.url(database))

    def read_on() -> None:
        try:
            while not done.is_set():
                for patience_s in (None, 5.0):
                    with Reader(pooler.url(database), patience_s=patience_s) as reader:
                        reader.users()
        except Exception as error:  # noqa: BLE001 - for the test to see
            failed.append(error)

    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=pooler.url(database)) as bridge:
        hello(mosquitto)
        readers = threading.Thread(target=read_on)
        readers.start()
        client = mosquitto.publisher("", "")
        for start in range(0, 600, 50):
            client.publish_all(said.all(life_of(range(start, start + 50), 200)))
        done.set()
        readers.join(20)
        assert not failed, failed
        assert_true(mosquitto, database, said, watched)
        assert bridge.stop() == 0
        assert "nothing is lost, next try" not in bridge.log()
    assert refused(database) == []


def test_a_pooled_connection_that_is_left_read_only_does_not_stop_the_bridge(
    mosquitto: Shipped, postgres: Postgres, pooler: PgBouncer
) -> None:
    """Some other client has made the sessions of both server connections read-only."""
    database = postgres.database()
    with BridgeThread(broker=mosquitto.url, database=pooler.url(database)) as bridge:
        with ExitStack() as both:
            for _ in range(2):
                other = both.enter_context(psycopg.connect(pooler.url(database), prepare_threshold=None))
                other.execute("SET default_transaction_read_only = ON")
        client = mosquitto.publisher("", "")
        client.publish_all([("presence/alice/phone/login", b"")])
        until(lambda: query(database, "SELECT 1 FROM users WHERE user_id = 'alice'"), "alice has logged in")
        assert bridge.bridge.counters.refused == {}


def test_statements_are_prepared_where_no_pooler_is(postgres: Postgres, pooler: PgBouncer) -> None:
    """The connection itself shows it; a URL that says something about it decides."""
    direct = postgres.database()
    pooled = pooler.url(direct)

    def threshold(url: str) -> int | None:
        database = connect(url)
        try:
            database.connect()
            return database.connection().prepare_threshold
        finally:
            database.close()

    assert threshold(direct) == 5
    assert threshold(pooled) is None
    assert threshold(f"{direct}?prepare_threshold=none") is None
    assert threshold(f"{pooled}?prepare_threshold=7") == 7


def test_prepared_statements_through_a_pooler_cost_no_message(
    mosquitto: Shipped, postgres: Postgres, pooler: PgBouncer, tmp_path: Path
) -> None:
    """A URL that wants them where they cannot work: the bridge goes on trying, and refuses nothing."""
    database = postgres.database()
    watched, said = mosquitto.recorder(), Said()
    url = pooler.url(database)
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=url) as bridge:
        hello(mosquitto)
        assert bridge.stop() == 0
    fill(url)
    client = mosquitto.publisher("", "")
    wanting = BridgeProcess(
        tmp_path / "wanting", ready=False, broker=mosquitto.url, database=f"{url}?prepare_threshold=1"
    )
    with wanting:
        client.publish_all(said.all(life_of(range(300), 200)))
        wanting.wait_for_log("nothing is lost, next try", 4)
        assert "prepared statement" in wanting.log()
        assert "refused" not in wanting.log()
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=url) as bridge:
        assert_true(mosquitto, database, said, watched)
        assert "refused" not in bridge.log()
    assert refused(database) == []
