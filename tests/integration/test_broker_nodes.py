"""Several nodes in the setting `broker`: the bridge and the commands use one that is there."""

import queue
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.link.node_connections import NodeAnswer, NodeConnections, NodeReport
from mqtt_presence.bridge.recovery.node_watch import NodeStates
from mqtt_presence.mqtt.broker_nodes import parse_nodes
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.commands import Commands


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Mosquitto, Mosquitto]]:
    """Run two brokers; they are no cluster, but the bridge cannot know."""
    with Mosquitto(tmp_path / "one") as one, Mosquitto(tmp_path / "two") as another:
        yield one, another


def nodes(*brokers: Mosquitto) -> str:
    first, *others = brokers
    return ",".join([first.url, *(f"mqtt://127.0.0.1:{other.port}" for other in others)])


def test_bridge_goes_on_to_the_next_node(
    two: tuple[Mosquitto, Mosquitto], sqlite_url: str, tmp_path: Path
) -> None:
    """When its node is killed, the bridge is at the other one within a second or two, and works there."""
    one, another = two
    with BridgeProcess(tmp_path / "log", broker=nodes(*two), database=sqlite_url) as bridge:
        bridge.wait_for_log(f"connected to mqtt://bridge@127.0.0.1:{one.port}")
        one.kill()
        bridge.wait_for_log(f"connected to mqtt://bridge@127.0.0.1:{another.port}", deadline_s=5)
        watched = another.recorder()
        another.say("alice", "phone", "login", b'{"connectionId":"1"}')
        watched.wait_for_state("alice", "online")
        assert bridge.stop() == 0


def test_commands_use_the_first_node_that_is_there(
    two: tuple[Mosquitto, Mosquitto], sqlite_url: str, tmp_path: Path, commands: Commands
) -> None:
    """The commands do not fail because the first node of the list is gone."""
    one, another = two
    with BridgeProcess(tmp_path / "log", broker=nodes(*two), database=sqlite_url):
        one.kill()
        verified = commands.done(
            "verify", "--broker", nodes(*two), "--database", sqlite_url, "--settle", "10s"
        )
        assert verified.returncode == 0, verified
    client = f"mqtt://alice@127.0.0.1:{another.port}"
    checked = commands.done("check", "--broker", nodes(*two), "--client", client, "--only", "mqtt-5")
    assert checked.returncode == 0, checked


def test_bridge_asks_all_clients_after_the_death_of_a_node(
    two: tuple[Mosquitto, Mosquitto], sqlite_url: str, tmp_path: Path
) -> None:
    """Another node than its own has died without wills: who is still there is to log in again."""
    one, another = two
    watched = one.recorder("bridge/announce", "status/+")
    with BridgeProcess(tmp_path / "log", broker=nodes(*two), database=sqlite_url) as bridge:
        watched.wait_for(lambda: watched.on("bridge/announce"), "the announcement of a new session")
        one.say("alice", "phone", "login", b'{"connectionId":"1","announce":true}')
        watched.wait_for_state("alice", "online")
        another.kill()
        bridge.wait_for_log(f"node 127.0.0.1:{another.port} of the broker is gone: asking all clients")
        watched.wait_for(lambda: len(watched.on("bridge/announce")) == 2, "an announcement")
        assert bridge.stop() == 0


def test_connection_that_watches_a_node_is_taken_over(two: tuple[Mosquitto, Mosquitto]) -> None:
    """A client with its id ends it, which is no death; the next id is another one. It subscribes to no topic."""
    one, _ = two
    reports: queue.Queue[NodeReport] = queue.Queue()
    watched = NodeConnections(LinkConfig(parse_nodes(one.url), "bridge-1"), reports.put)
    try:
        answers = [reports.get(timeout=10)]
        (first,) = watchers(one)
        with one.client("mallory", first):
            answers += [reports.get(timeout=10), reports.get(timeout=10)]
        assert [report.answer for report in answers] == [NodeAnswer.UP, NodeAnswer.LOST, NodeAnswer.UP]
        states = NodeStates({report.node for report in answers})
        assert not any(states.died(report) for report in answers)
        assert len(set(watchers(one))) == 2
        assert "SUBSCRIBE" not in one.log()
    finally:
        watched.close()


def watchers(broker: Mosquitto) -> list[str]:
    """Return the ids of clients of the user bridge with a clean session, from the broker's log."""
    return re.findall(r"as (bridge-node-[0-9a-f]{16}) \(p\d, c1, k5, u'bridge'\)", broker.log())
