"""A bridge that is cut off from its broker or its database leaves its place to a standby, and waits."""

import signal
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mqtt_presence.store.database import LEASE_MS
from mqtt_presence.store.seat import RENEW_AFTER_S
from tests.fault.test_one_bridge import other_process
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.port_proxy import PortProxy
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of
from tests.support.waiting import until

TAKES_OVER_S = LEASE_MS / 1000 + 3


def through(url: str, proxy: PortProxy) -> str:
    """Return the URL with the port of the proxy."""
    port = urlsplit(url).port
    return url.replace(f":{port}", f":{proxy.port}")


@pytest.mark.parametrize("cut_off", ["the broker", "the database"])
def test_a_bridge_that_is_cut_off_leaves_its_place(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path, cut_off: str
) -> None:
    """The other takes over within the lease; the first waits, and pushes nobody off the broker later."""
    database = postgres.database()
    watched, said = mosquitto.recorder(), Said()
    is_cut = threading.Event()

    def proxy(port: int | None) -> PortProxy:
        return PortProxy(port or 0, closes=lambda _: is_cut.is_set(), cuts=lambda _: is_cut.is_set())

    with (
        proxy(urlsplit(mosquitto.url).port) as to_broker,
        proxy(postgres.port) as to_database,
        BridgeProcess(
            tmp_path / "first",
            broker=through(mosquitto.url, to_broker) if cut_off == "the broker" else mosquitto.url,
            database=through(database, to_database) if cut_off == "the database" else database,
            node="first",
        ) as first,
        BridgeProcess(
            tmp_path / "second", ready=False, broker=mosquitto.url, database=database, node="second"
        ) as second,
    ):
        hello(mosquitto)
        second.wait_for_log("waiting as a standby: another process is the bridge of this database: first")
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(50), 50)))
        until(
            lambda: query(
                database,
                "SELECT 1 FROM seats s, standbys t "
                f"WHERE s.expires_at - {LEASE_MS} > t.since + {2 * 1000 * RENEW_AFTER_S:.0f}",
            ),
            "the holder, which looks every two seconds, has seen the standby",
        )
        is_cut.set()
        (to_broker if cut_off == "the broker" else to_database).cut()
        client.publish_all(said.all(life_of(range(50, 100), 50)))
        second.wait_for_log("connected to", deadline_s=2 * TAKES_OVER_S)
        client.publish_all(said.all(life_of(range(100, 150), 50)))
        is_cut.clear()
        first.wait_for_log("waiting as a standby: another process is the bridge of this database: second")
        assert_true(mosquitto, database, said, watched, late=True)
        seats = other_process("seats", f"--database={database}")
        assert seats.returncode == 0, seats.stderr
        holder, waiting = (line.split() for line in seats.stdout.splitlines()[1:])
        assert holder[:2] == ["0", "second"]
        assert waiting[:2] == ["waiting", "first"]
        assert second.log().count("connected to") == 1
        assert second.stop() == 0
        first.wait_for_log("connected to", 2)
        assert first.stop() == 0


def test_standby_replaces_a_frozen_bridge_on_sqlite(
    mosquitto: Shipped, sqlite_url: str, tmp_path: Path
) -> None:
    """The kernel keeps the lock of a frozen process: the standby replaces the file. Thawed, the first waits."""
    watched, said = mosquitto.recorder(), Said()
    first = BridgeProcess(tmp_path / "first", broker=mosquitto.url, database=sqlite_url)
    second = BridgeProcess(tmp_path / "second", ready=False, broker=mosquitto.url, database=sqlite_url)
    with first, second:
        hello(mosquitto)
        second.wait_for_log("waiting as a standby")
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(50), 50)))
        time.sleep(2 * LEASE_MS / 1000)  # a holder that does nothing, and is not frozen, keeps its place
        assert "connected to" not in second.log()
        first.signal(signal.SIGSTOP)
        client.publish_all(said.all(life_of(range(50, 100), 50)))
        second.wait_for_log("connected to", deadline_s=TAKES_OVER_S)
        first.signal(signal.SIGCONT)
        first.wait_for_log(
            f"another process is the bridge of {tmp_path}/presence.db: process {second.pid} on"
        )
        client.publish_all(said.all(life_of(range(100, 150), 50)))
        assert_true(mosquitto, sqlite_url, said, watched, late=True)
        assert second.log().count("connected to") == 1, "the thawed one pushes nobody off the broker"
        assert f"process {second.pid} on" in other_process("seats", f"--database={sqlite_url}").stdout
        assert second.stop() == 0
        first.wait_for_log("connected to", 2)
        assert first.stop() == 0
