"""What is published again after a crash or a lost connection: no subscriber sees an older status after a newer one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store
from tests.support.ack_keeper import AckKeeper
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_consistent, assert_versions_only_grow
from tests.support.playing import hello, settle
from tests.support.postgres import query
from tests.support.recorder import Recorder
from tests.support.waiting import until

TURNS = 6
USERS = ("alice", "bob")


@pytest.fixture
def keeper(mosquitto: Shipped) -> Iterator[AckKeeper]:
    """Put a proxy between bridge and broker."""
    with AckKeeper(mosquitto.port) as proxy:
        yield proxy


@pytest.fixture
def bridge(mosquitto: Shipped, keeper: AckKeeper, sqlite_url: str, tmp_path: Path) -> Iterator[BridgeProcess]:
    """Run a bridge that comes to the broker by the proxy."""
    url = mosquitto.url.replace(f":{mosquitto.port}", f":{keeper.port}")
    with BridgeProcess(tmp_path / "bridge.log", broker=url, database=sqlite_url, keep_alive=5) as process:
        hello(mosquitto)
        yield process


def turn_often(broker: Shipped, watched: Recorder) -> None:
    """Publish several statuses of each user; return when a subscriber has all of them."""
    for turn in range(TURNS):
        for user in USERS:
            report = json.dumps({"idle": turn % 2 == 0}).encode()
            broker.say(user, f"{user}-phone", "activity", report)
            watched.wait_for_state(user, "idle" if turn % 2 == 0 else "online")
    settle(broker, watched)  # the events follow the status


@pytest.mark.parametrize("how", ["killed", "disconnected", "both"])
def test_no_version_goes_back(
    mosquitto: Shipped, keeper: AckKeeper, bridge: BridgeProcess, sqlite_url: str, how: str
) -> None:
    """Six statuses of each user are with the subscribers, and none is acknowledged: only the newest comes again."""
    watched = mosquitto.recorder()
    settle(mosquitto, watched)
    keeper.is_keeping = True
    turn_often(mosquitto, watched)
    assert keeper.kept >= TURNS * len(USERS)
    events = {user: watched.events(user) for user in USERS}
    if how != "disconnected":
        bridge.kill()
    keeper.is_keeping = how == "both"
    keeper.cut()
    if how != "disconnected":
        bridge.start()
    if how == "both":
        settle(mosquitto, watched)
        keeper.is_keeping = False
        keeper.cut()
    settle(mosquitto, watched)
    # A full republish ends with a new version of one status.
    until(lambda: not query(sqlite_url, "SELECT 1 FROM bridge WHERE name = 'republishing'"), "no republish")
    settle(mosquitto, watched)
    told = watched.versions()
    for user in USERS:
        assert_versions_only_grow(user, told[user])
        assert len(told[user]) > TURNS, "the newest came again"
    assert_consistent(sqlite_url, retained_by(mosquitto), told)
    # Events are published again as they were, all of them and in their order.
    for user in USERS:
        assert watched.events(user) == events[user] * (3 if how == "both" else 2)
    assert bridge.stop() == 0
    assert query(sqlite_url, "SELECT id FROM outbox") == []


def retained_by(broker: Shipped) -> dict[str, Any]:
    fresh = broker.recorder()
    settle(broker, fresh)
    return fresh.statuses()


def test_forgotten_user_is_not_published_again(
    mosquitto: Shipped, keeper: AckKeeper, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """Forgotten while the bridge was dead: what it had not finished publishing shows the user to nobody."""
    watched = mosquitto.recorder()
    settle(mosquitto, watched)
    keeper.is_keeping = True
    turn_often(mosquitto, watched)
    bridge.kill()
    keeper.is_keeping = False
    store = Store(sqlite_url)
    with store.transaction() as tx:
        assert tx.forget(UserId("alice"))
    store.close()
    seen = len(watched.on("status/alice"))
    bridge.start()
    settle(mosquitto, watched)
    watched.wait_for(lambda: watched.on("status/alice")[seen:], "alice's status is cleared")
    assert {m.payload for m in watched.on("status/alice")[seen:]} == {b""}
    assert_versions_only_grow("bob", watched.versions()["bob"])
