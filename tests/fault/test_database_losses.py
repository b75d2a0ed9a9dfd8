"""The database loses what was committed: the bridge notices, says so, and repairs it as far as clients help."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.store import Store
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_consistent
from tests.support.playing import hello
from tests.support.postgres import Postgres, Standby, query
from tests.support.said import Said, life_of
from tests.support.waiting import free_port, until

GAP = 1 << 20


def ready(port: int) -> dict[str, Any]:
    """Ask for the readiness of the bridge."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with closing(error):
            return json.load(error)


@pytest.fixture
def primary() -> Iterator[Postgres]:
    """Run a primary of the test's own."""
    with Postgres() as started:
        yield started


def test_risks_of_the_database_are_logged(primary: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    """A single server with its defaults has none; each unsafe setting, and an asynchronous standby, is one."""

    def warnings() -> list[str]:
        caplog.clear()
        store = Store(primary.database())
        store.wait_for_seat(lambda: False)
        store.close()
        return [r.getMessage() for r in caplog.records if "can lose acknowledged" in r.getMessage()]

    assert warnings() == []
    with Standby(primary) as standby:
        standby.wait_until_streaming()
        (warning,) = warnings()
        assert "synchronous_standby_names is empty" in warning
        primary.set("synchronous_commit", "off")
        primary.set("full_page_writes", "off")
        assert [text.split(": ")[1] for text in warnings()][:2] == [
            "synchronous_commit = off",
            "full_page_writes = off",
        ]


def test_a_promoted_standby_lacks_the_last_commits(
    mosquitto: Shipped, primary: Postgres, tmp_path: Path
) -> None:
    """The log, bridge/state and /readyz say so; all are asked again; versions only grow."""
    database = primary.database()
    watched, said, port = mosquitto.recorder(), Said(), free_port()
    client = mosquitto.publisher("", "")

    with Standby(primary) as standby:
        url = standby.url_of_both(database)
        with BridgeProcess(
            tmp_path / "log", broker=mosquitto.url, database=url, monitor_port=port, confirm_within=3
        ) as bridge:
            hello(mosquitto)
            client.publish_all(said.all(life_of(range(100), 50)))
            watched.wait_for(lambda: watched.status("user-49"), "all are there")
            asked = watched.on("bridge/announce")
            standby.wait_until_streaming()
            standby.cut()
            # These are acknowledged and published, and the standby has none of them.
            client.publish_all(said.all(life_of(range(100, 150), 60)))
            watched.wait_for(lambda: watched.status("user-29")["version"] > 1, "they are published")
            watched.wait_for(lambda: watched.status("user-59"), "new users are published")
            seen = {user: told[-1][0] for user, told in watched.versions().items()}
            primary.stop("immediate")
            standby.promote()
            bridge.wait_for_log("the database has lost")
            watched.wait_for(lambda: len(watched.on("bridge/announce")) > len(asked), "all are asked")
            assert ready(port)["repaired"] is False
            # As clients do: whoever is connected logs in again.
            client.publish_all(
                (f"presence/{c.user}/{c.id}/login", f'{{"connectionId":"{here.connection}"}}'.encode())
                for c, here in said.here.items()
            )
            bridge.wait_for_log("the loss of the database is repaired", deadline_s=30)
            until(lambda: ready(port)["ready"], "the bridge is ready")
            for here in said.here.values():
                here.idle = None
            shown = watched.last("bridge/state")["databaseLoss"]
            assert shown["transactions"] > 0
            assert shown["after"] <= shown["until"] <= shown["noticedAt"]
            known = {row["user_id"] for row in query(url, "SELECT user_id FROM users")}
            until(lambda: watched.statuses().keys() == known, "users that the database lost are cleared")
            statuses = watched.statuses()
            for user, version in seen.items():
                if user in known:
                    assert statuses[user]["version"] >= max(version + 1, GAP), user
            assert seen.keys() - known, "some users were lost"
            versions = {user: told for user, told in watched.versions().items() if user in known}
            assert_consistent(url, statuses, versions)
            rows = query(url, "SELECT connection_id FROM connections WHERE logout_time IS NULL")
            here = {client.connection for client in said.here.values()}
            assert here <= {row["connection_id"] for row in rows}, "whoever is connected has a record"
            assert bridge.stop() == 0
