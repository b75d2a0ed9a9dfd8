"""A primary that becomes read-only under the bridge: the bridge waits, says why, and goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.test_database_losses import ready
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of
from tests.support.waiting import free_port, until


@pytest.fixture
def server() -> Iterator[Postgres]:
    """Run a server of the test's own."""
    with Postgres() as started:
        yield started


def of_several_hosts(server: Postgres, database: str) -> str:
    """Return the URL of a database that asks for a server that may be written."""
    name = database.rpartition("/")[2]
    return (
        f"postgresql:///{name}?host=127.0.0.1,127.0.0.1&port={server.port},{server.port}"
        "&user=postgres&target_session_attrs=read-write"
    )


@pytest.mark.parametrize(
    ("how", "hosts", "reason"),
    [
        ("demoted", "one", "the database is read-only: its server is a standby now"),
        ("demoted", "several", "is in hot standby mode|session is read-only"),
        ("set", "several", "session is read-only"),
    ],
)
def test_server_is_read_only_for_a_while(
    mosquitto: Shipped, server: Postgres, tmp_path: Path, how: str, hosts: str, reason: str
) -> None:
    """No message is acknowledged or refused meanwhile, and no status changes; then all are decided."""
    database, port = server.database(), free_port()
    watched, said = mosquitto.recorder(), Said()
    url = database if hosts == "one" else of_several_hosts(server, database)
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=url, monitor_port=port) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(100), 50)))
        watched.wait_for(lambda: watched.status("user-49"), "the first are there")
        if how == "demoted":
            server.demote()
        else:
            server.set("default_transaction_read_only", "on")
        client.publish_all(said.all(life_of(range(100, 300), 100)))
        until(lambda: any(text in bridge.log() for text in reason.split("|")), "the log has the reason")
        bridge.wait_for_log("nothing is lost, next try", 4)
        until(lambda: ready(port)["database"] is False, "the bridge is not ready")
        assert ready(port)["broker"] is True
        assert query(database, "SELECT 1 FROM users WHERE user_id = 'user-99'") == []
        if how == "demoted":
            server.promote()
        else:
            server.set("default_transaction_read_only", "off")
        assert_true(mosquitto, database, said, watched, deadline_s=40)
        until(lambda: ready(port)["ready"], "the bridge is ready")
        assert {message.json["state"] for message in watched.on("bridge/state")} == {"online"}
        assert "the database has lost" not in bridge.log()
        assert bridge.stop() == 0
    assert query(database, "SELECT value FROM bridge WHERE name = 'refused'") == []
