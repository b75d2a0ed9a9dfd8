"""A database that is set to read-only: the bridge waits, says why, and goes on when it may write again."""

from pathlib import Path

from tests.fault.test_database_losses import ready
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of
from tests.support.waiting import free_port, until


def test_server_is_set_to_read_only(mosquitto: Shipped, postgres: Postgres, tmp_path: Path) -> None:
    """No message is acknowledged or refused meanwhile; log and /readyz say it; then all are decided."""
    database, port = postgres.database(), free_port()
    watched, said = mosquitto.recorder(), Said()
    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=database, monitor_port=port
    ) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(50), 20)))
        watched.wait_for(lambda: watched.status("user-19"), "the first are there")
        postgres.set("default_transaction_read_only", "on")
        try:
            client.publish_all(said.all(life_of(range(50, 100), 20)))
            bridge.wait_for_log("the database is read-only: default_transaction_read_only is on", 2)
            until(lambda: ready(port)["database"] is False, "the bridge is not ready")
            assert query(database, "SELECT COUNT(*) AS n FROM connections")[0]["n"] <= 50 + 1
        finally:
            postgres.set("default_transaction_read_only", "off")
        assert_true(mosquitto, database, said, watched)
        assert {m.json["state"] for m in watched.on("bridge/state")} == {"online"}
        assert bridge.stop() == 0
        assert "refused" not in bridge.log()
    assert query(database, "SELECT value FROM bridge WHERE name = 'refused'") == []
