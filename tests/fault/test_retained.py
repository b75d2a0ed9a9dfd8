"""Statuses are retained again after the broker has lost them, though what would tell of the loss is missing."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mqtt_presence.bridge.link import connecting
from tests.support.ack_keeper import AckKeeper
from tests.support.bridges import BridgeProcess, BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.mqtt import Client
from tests.support.playing import hello, settle
from tests.support.postgres import cursor, query
from tests.support.recorder import Recorder
from tests.support.waiting import free_port, listens, until


@pytest.fixture
def mosquitto(tmp_path: Path) -> Mosquitto:
    """Run a mosquitto without rights, so that a test can publish whatever is retained."""
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mqtt_presence", *words]


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("MQTT_PRESENCE_")}


def forget(broker_url: str, database: str, *users: str) -> None:
    words = command("forget", "--yes", "--broker", broker_url, "--database", database, *users)
    subprocess.run(words, check=True, env=environment(), timeout=60)


def wait_for_witness(database: str) -> None:
    """Wait until the bridge has a status to ask for, and nothing to publish."""
    until(
        lambda: (
            query(database, "SELECT 1 FROM bridge WHERE name = 'probe'")
            and not query(database, "SELECT 1 FROM bridge WHERE name = 'republishing'")
        ),
        "a witness",
    )


# The command `up`, whose broker keeps nothing.


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("forgotten", [["bob"], ["alice"], ["bob", "carol"]])
def test_up_shows_everybody_after_forget_and_a_restart(
    tmp_path: Path, sqlite_url: str, sign: signal.Signals, forgotten: list[str]
) -> None:
    """Whoever was forgotten, and whoever changed last: all others are retained after the next start."""
    port = free_port()
    log = tmp_path / "up.log"
    words = command("up", "--no-ws", "--no-web", f"--port={port}", f"--database={sqlite_url}")

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            process = subprocess.Popen(words, stdout=file, stderr=file, env=environment())
        until(lambda: listens(port), "up listens")
        return process

    users = ("alice", "carol", "bob")
    left = set(users) - set(forgotten)
    process = start()
    try:
        with closing(Recorder(port, ("status/+",))) as watched:
            for user in users:
                with Client(port, user, f"{user}-phone") as client:
                    client.publish(f"presence/{user}/{user}-phone/login")
                    client.publish(f"presence/{user}/{user}-phone/logout")
                watched.wait_for_state(user, "offline")
        forget(f"mqtt://me@127.0.0.1:{port}", sqlite_url, *forgotten)
        for _ in range(2):
            process.send_signal(sign)
            process.wait(30)
            process = start()
            with closing(Recorder(port, ("status/+",), log=log.read_text)) as watched:
                watched.wait_for(lambda w=watched: w.statuses().keys() == left, f"the statuses of {left}")
    finally:
        process.kill()
        process.wait(20)


# mosquitto that comes back without its store.


def forgotten_while_running(broker: Mosquitto, bridge: BridgeProcess, database: str) -> None:
    forget(broker.url, database, "zoe")
    bridge.stop()


def forgotten_while_away(broker: Mosquitto, bridge: BridgeProcess, database: str) -> None:
    bridge.stop()
    forget(broker.url, database, "zoe")


def killed_after_forget(broker: Mosquitto, bridge: BridgeProcess, database: str) -> None:
    forget(broker.url, database, "zoe")
    bridge.kill()


def without_what_the_bridge_keeps(broker: Mosquitto, bridge: BridgeProcess, database: str) -> None:
    """So is a database whose tables of users and connections were copied by SQL."""
    bridge.stop()
    with cursor(database) as cur:
        cur.execute("DELETE FROM bridge WHERE name != 'client_id'")


LOSSES = (
    forgotten_while_running,
    forgotten_while_away,
    killed_after_forget,
    without_what_the_bridge_keeps,
)


@pytest.mark.parametrize("lose", LOSSES, ids=lambda f: f.__name__)
def test_mosquitto_without_its_store_has_everybody_again(
    mosquitto: Mosquitto,
    sqlite_url: str,
    tmp_path: Path,
    lose: Callable[[Mosquitto, BridgeProcess, str], None],
) -> None:
    """There is no status to ask for, and the broker has none: all are published."""
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url) as bridge:
        hello(mosquitto)
        watched = mosquitto.recorder()
        for user in ("alice", "bob", "zoe"):
            mosquitto.say(user, f"{user}-phone", "login")
            watched.wait_for_state(user, "online")
        lose(mosquitto, bridge, sqlite_url)
        mosquitto.lose_everything()
        bridge._process = None
        bridge.start()
        assert_all_are_retained(mosquitto, sqlite_url)


def assert_all_are_retained(broker: Mosquitto, database: str) -> None:
    fresh = broker.recorder("status/+")
    users = {row["user_id"] for row in query(database, "SELECT user_id FROM users")}
    assert len(users) > 2
    fresh.wait_for(lambda: users <= fresh.statuses().keys(), f"the statuses of {users}")


def test_merged_users_are_published(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """Rows that were added by SQL are published at the next start, though the broker has lost nothing."""
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url) as bridge:
        hello(mosquitto)
        watched = mosquitto.recorder()
        for user in ("alice", "bob"):
            mosquitto.say(user, f"{user}-phone", "login")
            watched.wait_for_state(user, "online")
        assert bridge.stop() == 0
        columns = "state, online, idle, since, connections, last_login, last_login_order, last_seen, version"
        with cursor(sqlite_url) as cur:
            cur.execute(
                f"INSERT INTO user_states (user_id, {columns}) "
                f"SELECT 'merged-' || user_id, {columns} FROM user_states"
            )
        bridge.start()
        assert_all_are_retained(mosquitto, sqlite_url)
        wait_for_witness(sqlite_url)
        assert bridge.stop() == 0
        said = bridge.log().count("publishing the statuses of all users again")
        bridge.start()
        settle(mosquitto, mosquitto.recorder())
        assert bridge.log().count("publishing the statuses of all users again") == said


def test_status_that_was_never_acknowledged(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """The first statuses of all: the bridge dies before their acknowledgement, and the broker without its store."""
    with AckKeeper(mosquitto.port) as keeper:
        url = mosquitto.url.replace(f":{mosquitto.port}", f":{keeper.port}")
        with BridgeProcess(tmp_path / "log", broker=url, database=sqlite_url, keep_alive=5) as bridge:
            keeper.is_keeping = True
            hello(mosquitto)
            watched = mosquitto.recorder()
            for user in ("alice", "bob"):
                mosquitto.say(user, f"{user}-phone", "login")
                watched.wait_for_state(user, "online")
            bridge.kill()
            keeper.is_keeping = False
            keeper.cut()
            bridge.start()
            wait_for_witness(sqlite_url)
            assert bridge.stop() == 0
            mosquitto.lose_everything()
            bridge.start()
            assert_all_are_retained(mosquitto, sqlite_url)


def test_store_that_was_saved_in_the_middle_of_publishing_again(
    mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path
) -> None:
    """The broker has lost all, has all again, and comes back with the first half: the other is published, too."""
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url) as bridge:
        hello(mosquitto)
        watched = mosquitto.recorder()
        for user in ("zoe", "bob", "alice"):  # alice is the last, and the first of the next time
            mosquitto.say(user, f"{user}-phone", "login")
            watched.wait_for_state(user, "online")
        mosquitto.say("alice", "alice-phone", "activity")
        witness = "SELECT 1 FROM bridge WHERE name = 'probe' AND value LIKE '%alice%'"
        until(lambda: query(sqlite_url, witness), "alice is the witness")
        mosquitto.lose_everything()
        assert_all_are_retained(mosquitto, sqlite_url)
        wait_for_witness(sqlite_url)
        half = mosquitto.recorder("status/+")
        half.wait_for(lambda: half.status("alice"), "alice's status")
        alice = half.on("status/alice")[-1].payload
        assert bridge.stop() == 0
        mosquitto.lose_everything()
        mosquitto.publisher("", "").publish("status/alice", alice, retain=True)
        bridge.start()
        assert_all_are_retained(mosquitto, sqlite_url)


def test_lost_connections_publish_nobody_again(
    mosquitto: Mosquitto, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A network that breaks costs little, also after a user is forgotten: one status tells that the broker has all."""
    monkeypatch.setattr(connecting, "_STABLE_S", 0.0)
    caplog.set_level(logging.INFO)
    with AckKeeper(mosquitto.port) as keeper:
        url = mosquitto.url.replace(f":{mosquitto.port}", f":{keeper.port}")
        with BridgeThread(broker=url, database=sqlite_url):
            settle(mosquitto, mosquitto.recorder(), "one")
            settle(mosquitto, mosquitto.recorder(), "two")
            wait_for_witness(sqlite_url)
            (last,) = query(sqlite_url, "SELECT user_id FROM users WHERE user_id LIKE 'marktwo%'")
            forget(mosquitto.url, sqlite_url, last["user_id"])
            wait_for_witness(sqlite_url)
            for times in range(1, 4):
                keeper.cut()
                until(lambda n=times: caplog.text.count("connected to") > n, "the bridge is back")
                settle(mosquitto, mosquitto.recorder())
    assert "publishing" not in caplog.text
