"""Names that brokers and clients may refuse (MQTT 3.1.1 §1.5.3), with a subscriber of libmosquitto."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mqtt_presence import PresenceClient
from mqtt_presence.errors import ConfigError
from tests.embedded.raw_client import RawClient
from tests.integration.test_bridge import AnyBroker, bridge_on
from tests.support.brokers import Embedded
from tests.support.waiting import until

REFUSED = "x\uffff"


class Subscriber:
    """mosquitto_sub, which says what it does.

    Args:
        port: of the broker.
        log: takes what it prints.

    """

    def __init__(self, port: int, log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    "stdbuf",
                    "-oL",
                    "mosquitto_sub",
                    "-d",
                    "-p",
                    str(port),
                    "-u",
                    "sub",
                    "-t",
                    "status/+",
                    "-v",
                ],
                stdout=output,
                stderr=output,
            )

    def said(self, text: str) -> int:
        return self._log.read_bytes().count(text.encode())


@contextmanager
def subscriber(port: int, log: Path) -> Iterator[Subscriber]:
    found = Subscriber(port, log)
    try:
        until(lambda: found.said("received SUBACK"), "it is subscribed")
        yield found
    finally:
        found.process.kill()
        found.process.wait(20)


def rename(path: Path, old: str, new: str) -> None:
    """Make the database one that was filled before such names were refused, and have all statuses published."""
    with closing(sqlite3.connect(path)) as database, database:
        for table in ("user_states", "connection_records"):
            database.execute(f"UPDATE {table} SET user_id = ? WHERE user_id = ?", (new, old))
        database.execute("UPDATE connection_records SET check_at = 1 WHERE user_id = ?", (new,))
        database.execute("INSERT OR REPLACE INTO bridge (name, value) VALUES ('republishing', '1')")


def test_a_stored_name_that_clients_refuse_stops_nobody(broker: AnyBroker, sqlite_url: str, tmp_path) -> None:
    """Nothing is published about its user, and that is counted; bridge and subscriber keep their connections."""
    with bridge_on(broker, sqlite_url):
        recorder = broker.recorder("status/+")
        for user in ("alice", "old"):
            broker.say(user, f"{user}-phone", "login")
            recorder.wait_for(lambda user=user: recorder.last(f"status/{user}"), "it is in")
        broker.say("old", "old-phone", "activity")  # from now on silence counts
    rename(tmp_path / "presence.db", "old", REFUSED)
    with subscriber(broker.port, tmp_path / "sub.log") as libmosquitto:
        with bridge_on(broker, sqlite_url, expire_after="1s") as bridge:
            until(lambda: bridge.bridge.counters.refused["bad_name"] >= 3, "status, and expiry")
            broker.say("bob", "bob-phone", "login")
            until(lambda: libmosquitto.said("status/bob {"), "the next status comes")
            until(lambda: bridge.parts.committer._outbox.clearable is None, "nothing is owed to the broker")
            epoch = bridge.links[-1]._collector.epoch
        assert epoch == 1, "the bridge has had one connection"
        assert libmosquitto.said("sending CONNECT") == 1
        assert libmosquitto.process.poll() is None


def test_a_stored_name_that_clients_refuse_can_be_looked_at_and_forgotten(
    broker: AnyBroker, sqlite_url: str, tmp_path
) -> None:
    """`verify` finds nothing to repair and counts the user, `history` shows it, `forget` deletes it."""
    with bridge_on(broker, sqlite_url):
        broker.say("old", "old-phone", "login")
        recorder = broker.recorder("status/+")
        recorder.wait_for(lambda: recorder.last("status/old"), "it is in")
    rename(tmp_path / "presence.db", "old", REFUSED)

    def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mqtt_presence", command, *arguments, f"--database={sqlite_url}"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    verified = run("verify", f"--broker={broker.url}", "--repair", "--settle=0s")
    assert "1 user with a name that MQTT clients refuse" in verified.stderr
    assert verified.returncode == 0, verified
    assert "old-phone" in run("history", REFUSED).stdout
    forgotten = run("forget", REFUSED, "--yes", f"--broker={broker.url}")
    assert forgotten.returncode == 0, forgotten
    assert run("history", REFUSED).returncode == 1


@pytest.mark.parametrize("name", [REFUSED, "x\ufdd0", "x\U0001fffe", "x\x85"], ids=ascii)
def test_the_embedded_broker_and_the_clients_refuse_such_a_name(name: str) -> None:
    """CONNACK 4 for a user, CONNACK 2 for a client id; the Python client says so before it connects."""
    with Embedded() as broker:
        for user, client_id, code in ((name, "phone", 4), ("alice", name, 2)):
            raw_client = RawClient(broker.port)
            with closing(raw_client.sock):
                assert raw_client.connect(user, client_id) == code
    for user, client_id in ((name, "phone"), ("alice", name)):
        with pytest.raises(ConfigError, match="noncharacters"):
            PresenceClient("mqtt://127.0.0.1", user=user, client_id=client_id)
