"""`mqtt-presence verify` on a real mosquitto, with and without a bridge."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mqtt_presence.cli.app import app
from mqtt_presence.integrations.homeassistant import Discovery, HomeAssistantOutput
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store
from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.postgres import cursor, query
from tests.support.recorder import Recorder
from tests.support.waiting import until

USERS = tuple(f"user{n}" for n in range(8))
COMMAND = (sys.executable, "-m", "mqtt_presence", "verify")
SETTLE = "--settle=0.5s"


class SystemWithoutBridge:
    """A broker and a database with some users, whose bridge has ended.

    Args:
        mosquitto: the broker.
        database: where their records are.

    """

    def __init__(self, mosquitto: Mosquitto, database: str) -> None:
        self.mosquitto = mosquitto
        self.database = database
        self.recorder: Recorder = mosquitto.recorder("status/+")

    def verify(self, *flags: str) -> tuple[int, list[dict[str, Any]], str]:
        """Run the command in this process; return its exit code, output and errors."""
        run = CliRunner().invoke(
            app,
            ["verify", "--broker", self.mosquitto.url, "--database", self.database, SETTLE, "--json", *flags],
        )
        return run.exit_code, [json.loads(line) for line in run.stdout.splitlines()], run.stderr

    def found(self, *flags: str) -> list[tuple[str, str]]:
        """Run the command, which must find differences; return users and kinds."""
        code, told, stderr = self.verify(*flags)
        assert code == (0 if "--repair" in flags else 1), stderr
        return [(line["userId"], line["kind"]) for line in told]

    def publish(self, user: str, payload: bytes) -> None:
        """Falsify a retained status; an empty payload clears it."""
        self.mosquitto.publisher("", "").publish(f"status/{user}", payload, retain=True)

    def falsify(self, user: str, **fields: Any) -> None:
        """Change some fields of a retained status."""
        self.publish(user, json.dumps({**self.recorder.status(user), **fields}).encode())

    def execute(self, sql: str) -> None:
        """Change the database by hand."""
        with cursor(self.database) as cur:
            cur.execute(sql)

    def assert_right(self) -> None:
        """Check that the command finds no differences."""
        assert self.verify() == (0, [], "")


@pytest.fixture
def system(mosquitto: Mosquitto, sqlite_url: str) -> Iterator[SystemWithoutBridge]:
    """Make eight online users, and end the bridge."""
    made = SystemWithoutBridge(mosquitto, sqlite_url)
    with BridgeThread(broker=mosquitto.url, database=sqlite_url):
        for user in USERS:
            mosquitto.say(user, f"{user}-phone", "login", b'{"connectionId":"c"}')
        for user in USERS:
            made.recorder.wait_for_state(user, "online")
        mosquitto.say("user7", "user7-phone", "activity", b'{"idle":true}')
        made.recorder.wait_for_state("user7", "idle")
    return made


def _ghost() -> bytes:
    return json.dumps(
        {"userId": "ghost", "state": "online", "online": True, "idle": False, "connections": 1, "version": 50}
    ).encode()


def test_each_kind_of_difference_is_found_and_repaired(system: SystemWithoutBridge) -> None:
    """One difference of each kind gives exit code 1 and a line each; the repair gives 0 and corrects them."""
    system.publish("user0", b"")
    system.falsify("user1", version=0)
    system.falsify("user2", version=1000)
    system.falsify("user3", state="offline", online=False, connections=0)
    system.publish("user4", b"junk")
    system.publish("ghost", _ghost())
    system.execute("UPDATE user_states SET connections = 2, version = version + 1 WHERE user_id = 'user5'")
    system.execute("UPDATE user_states SET idle = 1 WHERE user_id = 'user6'")
    expected = [
        ("ghost", "leftOver"),
        ("user0", "missing"),
        ("user1", "stale"),
        ("user2", "ahead"),
        ("user3", "wrong"),
        ("user4", "unreadable"),
        ("user5", "row"),
        ("user5", "stale"),
        ("user6", "row"),
    ]
    assert system.found() == expected
    assert system.found("--repair") == expected
    system.assert_right()
    statuses = system.recorder.wait_for(
        lambda: "ghost" not in system.recorder.statuses() and system.recorder.statuses()
    )
    assert {user: (s["state"], s["connections"]) for user, s in statuses.items()} == {
        user: ("idle" if user == "user7" else "online", 1) for user in USERS
    }
    # Versions only grow, for whoever has heard of the wrong ones, too.
    assert statuses["user2"]["version"] == 1001
    assert statuses["user3"]["version"] == 2
    floor = query(system.database, "SELECT value FROM bridge WHERE name = 'version_floor'")
    assert int(floor[0]["value"]) >= 50


def test_rows_are_restored_from_the_records(system: SystemWithoutBridge) -> None:
    """A deleted row is restored with its live connections; a wrong state is corrected, with its version."""
    system.execute("DELETE FROM user_states WHERE user_id = 'user0'")
    system.execute(
        "UPDATE user_states SET state = 'offline', online = 0, idle = NULL WHERE user_id = 'user1'"
    )
    assert {kind for user, kind in system.found("--repair") if user == "user0"} == {"row", "leftOver"}
    system.assert_right()
    rows = query(system.database, "SELECT user_id, state, connections FROM users ORDER BY user_id LIMIT 2")
    assert [tuple(row.values()) for row in rows] == [("user0", "online", 1), ("user1", "online", 1)]


def test_wiped_broker_gets_everything_again(system: SystemWithoutBridge) -> None:
    """After a loss of all statuses, all are missing, and all are published."""
    system.mosquitto.lose_everything()
    assert system.found("--repair") == [(user, "missing") for user in USERS]
    recorder = system.mosquitto.recorder("status/+")
    recorder.wait_for(lambda: recorder.statuses().keys() == set(USERS), "all statuses")
    system.assert_right()


def test_plain_output_has_a_line_each_and_a_summary(system: SystemWithoutBridge) -> None:
    """The output for people has a line for each difference, and a summary."""
    flags = ["--broker", system.mosquitto.url, "--database", system.database, SETTLE]
    run = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (0, "8 users, all is right.\n")
    right = system.recorder.status("user2")["since"]
    system.falsify("user2", connections=3, since="2026-01-02T03:04:05.678Z")
    system.publish("user3", b"")
    run = subprocess.run(
        [*COMMAND, *flags, "--repair"], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0
    assert run.stdout.splitlines()[:2] == [
        f"user2: wrong  connections=3  since=2026-01-02T03:04:05.678Z  should be  connections=1  since={right}",
        "user3: missing  should be  version=1  state=online",
    ]
    assert run.stdout.endswith("8 users, 2 differences, all repaired.\n")


def test_locked_database_can_be_compared(system: SystemWithoutBridge) -> None:
    """A comparison takes no lock, nor does a repair that only publishes."""
    system.publish("user3", b"")
    with cursor(system.database) as cur:
        cur.execute("BEGIN IMMEDIATE")
        cur.execute("UPDATE user_states SET version = version WHERE user_id = 'user0'")
        assert system.found() == [("user3", "missing")]
        assert system.found("--repair") == [("user3", "missing")]
        system.assert_right()


def test_read_only_directory_of_the_database_is_reported(tmp_path: Path, sqlite_url: str) -> None:
    """SQLite cannot read a backup in a read-only directory; the message has the reason."""
    store = Store(sqlite_url)
    store.open()
    store.close()
    (shut := tmp_path / "shut").mkdir()
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), shut / "backup.db")
    shut.chmod(0o500)
    as_anybody = ("setpriv", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()
    flags = ("--broker=mqtt://127.0.0.1:1", f"--database=sqlite:///{shut}/backup.db")
    run = subprocess.run(
        [*as_anybody, *COMMAND, *flags], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert "copy it to a directory where it may" in run.stderr


def test_busy_system_is_right(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """With a running bridge, constant changes and more users than the queue holds: no output, exit code 0."""
    system = SystemWithoutBridge(mosquitto, sqlite_url)
    client = mosquitto.client("publisher", "busy")
    stop = threading.Event()
    users = 1500

    def work() -> None:
        for idle in itertools.cycle(("true", "false")):
            if stop.wait(0.2):  # busy, not flooded: a bridge that cannot keep pace is behind for all to see
                return
            payload = f'{{"connectionId":"c","idle":{idle}}}'.encode()
            client.publish_all((f"presence/busy{u}/c/activity", payload) for u in range(0, users, 5))

    with BridgeThread(broker=mosquitto.url, database=sqlite_url) as running:
        client.publish_all((f"presence/busy{u}/c/login", b'{"connectionId":"c"}') for u in range(users))
        thread = threading.Thread(target=work)
        thread.start()
        try:
            until(lambda: running.bridge.counters.published > 2.5 * users, "the system is busy")
            before = running.bridge.counters.published
            assert system.verify("--settle=3s") == (0, [], "")
            assert running.bridge.counters.published > before
            # And with something wrong among it.
            system.publish("busy7", b"")
            system.publish("ghost", _ghost())
            assert system.found("--repair", "--settle=3s") == [("busy7", "missing"), ("ghost", "leftOver")]
        finally:
            stop.set()
            thread.join(20)


def test_wrong_settings_exit_2_and_absent_servers_exit_1(tmp_path: Path, system: SystemWithoutBridge) -> None:
    """The exit codes distinguish a mistake from a difference."""
    assert system.verify("--settle=soon")[0] == 2
    assert system.verify(f"--database=sqlite:///{tmp_path}/none.db")[0] == 2
    system.mosquitto.hang_up()
    system.mosquitto.stop()
    code, _, stderr = system.verify()
    assert code == 1
    assert "cannot be reached" in stderr
    system.mosquitto.start()


def test_repair_includes_the_messages_for_home_assistant(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """A status that is left over goes with its discovery message, and a missing one comes with it."""
    made = SystemWithoutBridge(mosquitto, sqlite_url)
    with BridgeThread(broker=mosquitto.url, database=sqlite_url, homeassistant=True):
        mosquitto.say("alice", "phone", "login", b'{"connectionId":"c"}')
        made.recorder.wait_for_state("alice", "online")
    output = HomeAssistantOutput(Discovery("homeassistant"))
    ghost, alice = (next(iter(output.topics(UserId(user)))) for user in ("ghost", "alice"))
    made.publish("ghost", _ghost())
    made.publish("alice", b"")
    publisher = mosquitto.publisher("", "")
    publisher.publish(ghost, b"{}", retain=True)
    publisher.publish(alice, b"", retain=True)
    assert made.found("--repair") == [("alice", "missing"), ("ghost", "leftOver")]
    recorder = mosquitto.recorder("homeassistant/device/+/config")
    recorder.wait_for(lambda: any(heard.topic == alice and heard.payload for heard in recorder.heard))
    assert not any(heard.topic == ghost for heard in recorder.heard)
    made.assert_right()
