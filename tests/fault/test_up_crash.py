"""`mqtt-presence up` killed under load: what its broker has acknowledged is in the database."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.fault.test_crashes import count
from tests.support.checker import read
from tests.support.mqtt import Client
from tests.support.receiver import WebhookReceiver
from tests.support.waiting import free_port, listens, until

KILLS = 8
CLIENTS = 4


class Up:
    """The command, in a process of its own."""

    def __init__(self, directory: Path, database: str, *options: str) -> None:
        self.port = free_port()
        self._log = directory / "up.log"
        self._command = [
            *(sys.executable, "-m", "mqtt_presence", "up", "--no-ws", "--no-web"),
            *("--port", str(self.port), "--database", database, *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MQTT_PRESENCE_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)
        until(lambda: listens(self.port), "up listens")

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None


def test_acknowledged_logins_survive_kills_of_up(tmp_path: Path, sqlite_url: str) -> None:
    """Killed eight times under logins: each that was acknowledged has its record, exactly once."""
    up = Up(tmp_path, sqlite_url)
    done = threading.Event()
    acknowledged: list[list[str]] = [[] for _ in range(CLIENTS)]

    def publish(number: int) -> None:
        """Log in again and again; what is not acknowledged is said again, as MQTT clients do."""
        mine = acknowledged[number]
        while not done.is_set():
            try:
                with Client(up.port, f"user-{number}", f"client-{number}") as client:
                    while not done.is_set():
                        connection = f"id-{number}-{len(mine)}"
                        client.publish(
                            f"presence/user-{number}/client-{number}/login",
                            json.dumps({"connectionId": connection}).encode(),
                        )
                        mine.append(connection)
            except (OSError, AssertionError):
                done.wait(0.02)  # it is being killed, or not there yet

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(CLIENTS)]
    up.start()
    try:
        for thread in threads:
            thread.start()
        for kill in range(KILLS):
            until(lambda kill=kill: count(sqlite_url) >= 100 * (kill + 1), "more logins", every_s=0.003)
            up.kill()
            up.start()
        until(lambda: count(sqlite_url) >= 100 * (KILLS + 1), "more logins")
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
        up.kill()
    records, users = read(sqlite_url)
    ids = [r.connection_id for r in records]
    assert len(ids) == len(set(ids))
    said = {c for mine in acknowledged for c in mine}
    assert said <= set(ids)
    assert len(set(ids) - said) <= CLIENTS * (KILLS + 1)  # committed, but killed before it could say so
    assert len(said) > 100 * KILLS
    for number in range(CLIENTS):
        assert sum(r.is_open for r in records if r.client_id == f"client-{number}") <= 1
        assert users[f"user-{number}"].version > 0


def test_notifications_of_ends_by_a_kill(tmp_path: Path, sqlite_url: str) -> None:
    """A user who was online when broker and bridge were killed goes offline for the receivers, too."""
    with WebhookReceiver() as receiver:
        config = tmp_path / "settings.toml"
        config.write_text(
            "notify_private = true\n"
            f'[[notify]]\nname = "ops"\nurl = "{receiver.url}"\non = ["userOnline", "userOffline"]\n'
        )
        up = Up(tmp_path, sqlite_url, "--config", str(config))
        try:
            up.start()
            with Client(up.port, "alice", "phone") as client:
                client.publish("presence/alice/phone/login")
                until(lambda: len(receiver.taken) == 1, "she is online")
                up.kill()
            up.start()
            until(lambda: ("alice", "userOffline") in receiver.told(), "she is offline")
        finally:
            up.kill()
        assert receiver.told() == [("alice", "userOnline"), ("alice", "userOffline")]
