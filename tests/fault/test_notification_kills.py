"""Notifications of a bridge that is killed again and again, to receivers that fail half of the time.

KILLS is the number of kills; `make test-endurance` has fifty.
"""

import os
import random
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.support import impatient_bridge
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.playing import hello
from tests.support.receiver import Answer, Heard, WebhookReceiver
from tests.support.waiting import until

KILLS = int(os.environ.get("KILLS", "4"))
USERS = 20
Change = tuple[str, int, str]
"""User, number of the connection, event."""


class ImpatientBridge(BridgeProcess):
    """A bridge process whose retries come soon."""

    def _command(self) -> list[str]:
        return [sys.executable, impatient_bridge.__file__, *super()._command()[4:]]


def coin(seed: int) -> Callable[[Heard], Answer]:
    """Answer half of the requests with an error."""
    chance = random.Random(seed)
    return lambda _: Answer(503 if chance.random() < 0.5 else 204)


def change_of(event: dict[str, Any]) -> Change:
    return event["subject"], int(event["data"]["connectionId"][1:]), event["type"].split(".")[1]


class Life(threading.Thread):
    """Users that come and go, until `done` is set."""

    def __init__(self, broker: Mosquitto) -> None:
        super().__init__()
        self.done = threading.Event()
        self.changes: set[Change] = set()
        self.error: BaseException | None = None
        self._broker = broker
        self._chance = random.Random(7)
        self._number = 0
        self._here: dict[str, int] = {}

    def run(self) -> None:
        try:
            client = self._broker.publisher("", "")
            while not self.done.is_set():
                users = self._chance.sample(range(USERS), 3)
                client.publish_all([self._next(f"user-{user}") for user in users])
                self.done.wait(self._chance.random() * 0.1)
        except BaseException as error:  # noqa: BLE001 - for the test to see
            self.error = error

    def _next(self, user: str) -> tuple[str, bytes]:
        """Return the next message of a user."""
        number = self._here.pop(user, 0)
        verb, event = "will", "connectionLogout"
        if not number:
            self._number += 1
            number = self._here[user] = self._number
            verb, event = "login", "connectionLogin"
        self.changes.add((user, number, event))
        return f"presence/{user}/phone/{verb}", f'{{"connectionId":"c{number}"}}'.encode()


def assert_in_order(receiver: WebhookReceiver, expected: set[Change]) -> None:
    """Check that every change is there under one id; in order for each user, repetitions included."""
    things: dict[str, set[Change]] = defaultdict(set)
    ids: dict[Change, set[str]] = defaultdict(set)
    of_user: dict[str, list[Change]] = defaultdict(list)
    for event in receiver.taken:
        change = change_of(event)
        things[event["id"]].add(change)
        ids[change].add(event["id"])
        of_user[change[0]].append(change)
    assert ids.keys() == expected
    assert [each for each in (*things.values(), *ids.values()) if len(each) > 1] == []
    for user, changes in of_user.items():
        in_order = sorted(each for each in expected if each[0] == user)
        assert list(dict.fromkeys(changes)) == in_order
        for before, after in pairwise(changes):  # a repetition goes on from where it began
            assert in_order.index(after) <= in_order.index(before) + 1


@pytest.mark.timeout(120 + 8 * KILLS)
def test_kills_lose_and_double_nothing(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """Killed at random instants, with receivers that fail half of the time, one by one and in batches: every
    change arrives, in the order of its user, and never under two ids.
    """
    chance, life = random.Random(5), Life(mosquitto)
    with WebhookReceiver(coin(1)) as one_by_one, WebhookReceiver(coin(2)) as batches:
        config = tmp_path / "settings.toml"
        common = 'users = "user-*"\non = ["connectionLogin", "connectionLogout"]\n'
        config.write_text(
            "notify_private = true\n"
            f'[[notify]]\nname = "one"\nurl = "{one_by_one.url}"\n{common}'
            f'[[notify]]\nname = "batches"\nurl = "{batches.url}"\nbatch = "50ms"\n{common}'
        )
        with ImpatientBridge(
            tmp_path / "log", broker=mosquitto.url, database=sqlite_url, config=str(config)
        ) as bridge:
            hello(mosquitto)
            life.start()
            try:
                for _ in range(KILLS):
                    if chance.random() < 0.7:
                        bridge.wait_for_log("connected to", bridge.log().count("connected to"))
                    life.done.wait(chance.random() * 0.5)
                    bridge.kill()
                    bridge.start(ready=chance.random() < 0.7)
            finally:
                life.done.set()
                life.join(60)
            assert life.error is None
            for receiver in (one_by_one, batches):
                until(
                    lambda r=receiver: len(set(map(change_of, r.taken))) >= len(life.changes),
                    "everything has arrived",
                    100,
                    every_s=0.2,
                )
                assert_in_order(receiver, life.changes)
                assert any(status == 503 for _, status in receiver.requests)
            assert len(life.changes) > 10 * KILLS
            assert any(len(heard.events) > 1 for heard, _ in batches.requests)


def test_sigterm_ends_at_once_beside_receivers_that_hang(
    mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path
) -> None:
    """A bridge whose receivers never answer ends within a second, with exit code 0."""
    with (
        WebhookReceiver(lambda _: Answer(hang=True)) as hook,
        WebhookReceiver(lambda _: Answer(hang=True)) as text,
    ):
        config = tmp_path / "settings.toml"
        tables = [
            f'[[notify]]\nname = "{name}"\nurl = "{url}"\non = ["userOnline"]\n'
            for name, url in (("hook", hook.url), ("text", f"json://127.0.0.1:{text.port}/?rto=30"))
        ]
        config.write_text("notify_private = true\n" + "".join(tables))
        with BridgeProcess(
            tmp_path / "log", broker=mosquitto.url, database=sqlite_url, config=str(config)
        ) as bridge:
            hello(mosquitto)
            until(lambda: hook.requests and text.requests, "both hang")
            begin = monotonic()
            assert bridge.stop() == 0
            assert monotonic() - begin < 2
            assert "attempt" not in bridge.log()


def test_wrong_table_ends_with_one_line_and_exit_code_2(sqlite_url: str, tmp_path: Path) -> None:
    """The bridge does not start with a wrong table, and names table and key."""
    config = tmp_path / "settings.toml"
    config.write_text('[[notify]]\nname = "ops"\nurl = "https://hunter2.example/"\non = ["userGone"]\n')
    bridge = BridgeProcess(
        tmp_path / "log", broker="mqtt://127.0.0.1:1", database=sqlite_url, config=str(config)
    )
    bridge.start(ready=False)
    assert bridge.wait() == 2
    (line,) = bridge.log().splitlines()
    assert "[[notify]] ops: on: 'userGone' is no event" in line
    assert "hunter2" not in line
