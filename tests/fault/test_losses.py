"""A broker that drops what it has acknowledged: it is noticed, said, and made good by asking the clients."""

import json
from pathlib import Path

from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.postgres import query
from tests.support.waiting import until


def test_messages_dropped_while_the_bridge_was_away(tmp_path: Path, sqlite_url: str) -> None:
    """With mosquitto's default queue of 1,000, 1,500 logins are lost for an absent bridge: it says so with
    the remedy, asks, and has every client that answers.
    """
    with Mosquitto(tmp_path / "mosquitto", "max_queued_messages 1000\nsys_interval 1") as broker:
        bridge = BridgeProcess(tmp_path / "bridge.log", broker=broker.url, database=sqlite_url)
        # The count of a broker that has dropped nothing is what a later one is compared with.
        with bridge:
            until(
                lambda: query(
                    sqlite_url, "SELECT 1 AS x FROM bridge WHERE name = 'losses' AND value NOT LIKE '-%'"
                ),
                "the bridge knows the count",
            )
            assert bridge.stop() == 0
            client = broker.publisher("", "")
            logins = [
                (
                    f"presence/user-{n}/client/login",
                    json.dumps({"connectionId": f"id-{n}", "announce": True}).encode(),
                )
                for n in range(2500)
            ]
            client.publish_all(logins)
            asked = broker.recorder("bridge/announce")
            bridge.start()
            bridge.wait_for_log("raise max_queued_messages")
            asked.wait_for(lambda: asked.on("bridge/announce"), "the clients are asked")
            client.publish_all(logins)  # what they answer
            until(
                lambda: query(sqlite_url, "SELECT COUNT(*) AS n FROM connections")[0]["n"] == 2500,
                "every login has its record, once",
            )
