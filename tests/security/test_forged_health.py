"""Forged `bridge/health` on a broker without rules: at most one repair, and a bridge that goes on."""

import json
from pathlib import Path

from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.playing import hello

NOTICED = "the broker has the number of a later change"
GAP = 1 << 20


def test_forged_health_costs_one_repair(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """Values that no bridge writes are ignored; a plausible one raises the versions once, and loses no user."""
    watched = mosquitto.recorder()
    client = mosquitto.publisher("", "")

    def forge(**fields: object) -> None:
        client.publish("bridge/health", json.dumps(genuine | fields).encode(), retain=True)

    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url) as bridge:
        hello(mosquitto)
        mosquitto.say("alice", "phone", "login", b'{"connectionId":"a1"}')
        watched.wait_for_state("alice", "online")
        genuine = watched.last("bridge/health")
        assert bridge.stop() == 0
        forge(version=-(10**18), changes=10**12)
        bridge.start()
        hello(mosquitto)
        assert NOTICED not in bridge.log()
        assert bridge.stop() == 0
        forge(changes=2**63)
        bridge.start()
        bridge.wait_for_log(NOTICED)
        watched.wait_for(lambda: watched.status("alice")["version"] >= GAP, "the version is raised")
        assert bridge.stop() == 0
        forge(changes=2**63)
        bridge.start()
        hello(mosquitto)
        assert bridge.log().count(NOTICED) == 1
        assert watched.status("alice")["version"] < 2 * GAP
        assert watched.status("alice")["state"] == "online"
        assert bridge.stop() == 0
