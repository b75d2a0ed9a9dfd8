"""A backup is restored while no bridge runs: `bridge/health` shows it, and the loss is repaired once."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fault.test_database_losses import GAP
from tests.fault.test_sharing import start
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_consistent
from tests.support.playing import hello, settle
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of
from tests.support.waiting import until

CONNECTED = "connected to"


@pytest.fixture
def server() -> Iterator[Postgres]:
    """Run a server of the test's own."""
    with Postgres() as started:
        yield started


def wait_for_all(bridges: list[BridgeProcess], connects: int) -> None:
    """Wait until each bridge has connected so often."""
    for bridge in bridges:
        bridge.wait_for_log(CONNECTED, connects)


def stop_all(bridges: list[BridgeProcess]) -> None:
    """Stop the bridges cleanly."""
    for bridge in bridges:
        assert bridge.stop() == 0


@pytest.mark.parametrize("seats", [1, 2])
def test_backup_is_restored_while_no_bridge_runs(
    mosquitto: Shipped, server: Postgres, tmp_path: Path, seats: int
) -> None:
    """All versions are raised once, whoever is connected has a record again, and lost users are cleared."""
    database = server.database()
    watched, said = mosquitto.recorder(), Said()
    client = mosquitto.publisher("", "")
    with ExitStack() as stack:
        bridges = start(stack, tmp_path, seats, seats=seats, broker=mosquitto.url, database=database)
        wait_for_all(bridges, 1)
        hello(mosquitto)
        client.publish_all(said.all(life_of(range(100), 50)))
        watched.wait_for(lambda: watched.status("user-49"), "all are there")
        settle(mosquitto, watched)
        stop_all(bridges)
        copy = server.back_up(database)
        for bridge in bridges:
            bridge.start(ready=False)
        wait_for_all(bridges, 2)
        client.publish_all(said.all(life_of(range(100, 150), 60)))
        watched.wait_for(lambda: watched.status("user-59"), "new users are published")
        settle(mosquitto, watched)
        stop_all(bridges)
        # A start publishes the exact number of changes, at once.
        bridges[0].start()
        changes = query(database, "SELECT MAX(id) AS n FROM changes")[0]["n"]
        watched.wait_for(lambda: watched.last("bridge/health")["changes"] == changes, "health has the number")
        assert bridges[0].stop() == 0
        seen = {user: told[-1][0] for user, told in watched.versions().items()}
        asked = len(watched.on("bridge/announce"))
        server.restore(database, copy)
        for bridge in bridges:
            bridge.start(ready=False)

        def noticed() -> int:
            return sum(b.log().count("the broker has the number of a later change") for b in bridges)

        until(noticed, "the loss is noticed")
        watched.wait_for(lambda: len(watched.on("bridge/announce")) > asked, "all are asked")
        client.publish_all(
            (f"presence/{c.user}/{c.id}/login", f'{{"connectionId":"{here.connection}"}}'.encode())
            for c, here in said.here.items()
        )
        until(lambda: any("the loss of the database is repaired" in b.log() for b in bridges), "repaired", 60)
        assert watched.last("bridge/state")["databaseLoss"]["transactions"] > 0
        known = {row["user_id"] for row in query(database, "SELECT user_id FROM users")}
        until(lambda: watched.statuses().keys() == known, "users that the database lost are cleared")
        assert seen.keys() - known, "some users were lost"
        statuses = watched.statuses()
        for user in seen.keys() & known:
            assert max(seen[user] + 1, GAP) <= statuses[user]["version"] < 2 * GAP, user
        assert_consistent(database, statuses)
        is_open = query(database, "SELECT connection_id FROM connections WHERE logout_time IS NULL")
        here = {client.connection for client in said.here.values()}
        assert here <= {row["connection_id"] for row in is_open}, "whoever is connected has a record"
        before = noticed()
        assert before <= seats, "no bridge has noticed twice"
        stop_all(bridges)
        bridges[0].start()
        hello(mosquitto)
        assert noticed() == before, "a later start does not take it for another loss"
