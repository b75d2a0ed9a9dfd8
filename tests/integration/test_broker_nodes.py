"""Several nodes in the setting `broker`: the bridge and the commands use one that is there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
