"""Faults again and again, and for long: fifty kills at random instants, a long absence, a clock that jumps."""

import json
import random
import threading
from pathlib import Path

import pytest

from tests.fault.test_crashes import assert_each_once, assert_true, count, login_of
from tests.support.bridges import BridgeProcess, BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.checker import read
from tests.support.playing import hello
from tests.support.waiting import now_ms, until

KILLS = 50


class Load:
    """Clients that log in, report and end, some of them without a word of JSON; it knows what must be.

    Args:
        seed: of all it decides.

    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.open: dict[tuple[str, str], str | None] = {}
        self.logins: list[str] = []
        self.nameless: dict[tuple[str, str], int] = {}
        self._number = 0

    def step(self) -> tuple[str, bytes]:
        """Decide what one client says next."""
        number = self._random.randrange(120)
        user, client = f"user-{number % 40}", f"client-{number}"
        key = (user, client)
        nameless = number % 5 == 0
        if key not in self.open:
            self._number += 1
            connection = None if nameless else f"id-{self._number}"
            self.open[key] = connection
            if connection is None:
                self.nameless[key] = self.nameless.get(key, 0) + 1
                return f"presence/{user}/{client}/login", b""
            self.logins.append(connection)
            return self._message(user, client, "login", connection, time=now_ms())
        connection = self.open[key]
        if self._random.random() < 0.6:
            idle = self._random.random() < 0.5
            return self._message(user, client, "activity", connection, idle=idle, lastActivity=now_ms())
        del self.open[key]
        return self._message(user, client, self._random.choice(["will", "logout"]), connection)

    @staticmethod
    def _message(
        user: str, client: str, verb: str, connection: str | None, **fields: object
    ) -> tuple[str, bytes]:
        if connection is None:
            fields.pop("time", None)
        else:
            fields["connectionId"] = connection
        return f"presence/{user}/{client}/{verb}", json.dumps(fields).encode() if fields else b""


@pytest.mark.timeout(420)
def test_fifty_kills_at_random_instants(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """Killed fifty times under logins, reports and wills: each login has one record, nobody is a ghost, each
    status is the function of the records, versions only grow; also for devices that name no connection.
    """
    load, chance = Load(7), random.Random(8)
    watched = mosquitto.recorder()
    done = threading.Event()
    failed: list[BaseException] = []

    def publish() -> None:
        try:
            with mosquitto.client("load", "load") as client:
                while not done.is_set():
                    client.publish_all(load.step() for _ in range(chance.randrange(1, 30)))
                    done.wait(chance.random() * 0.04)  # no more than a bridge that is often away can do
        except BaseException as error:  # noqa: BLE001 - for the test to see
            failed.append(error)

    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url) as bridge:
        hello(mosquitto)
        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            for _ in range(KILLS):
                # From before it has read anything to well into its work.
                wait = chance.random() * 0.25
                if chance.random() < 0.7:
                    bridge.wait_for_log("connected to", bridge.log().count("connected to"))
                done.wait(wait)
                bridge.kill()
                bridge.start(ready=chance.random() < 0.7)
        finally:
            done.set()
            publisher.join(60)
        assert not failed
        mosquitto.hang_up()  # its own connections have been silent for longer than their keep alive
        assert_true(mosquitto, sqlite_url, watched)
        records, _ = read(sqlite_url)
    named = [r for r in records if r.named and r.user_id.startswith("user-")]
    assert sorted(r.connection_id for r in named) == sorted(load.logins)
    live = {(r.user_id, r.client_id): r.connection_id for r in records if r.is_open and r.named}
    expected = {k: c for k, c in load.open.items() if c is not None}
    assert {k: c for k, c in live.items() if k[0].startswith("user-")} == expected
    nameless: dict[tuple[str, str], int] = {}
    for record in records:
        if not record.named and record.user_id.startswith("user-"):
            key = (record.user_id, record.client_id)
            nameless[key] = nameless.get(key, 0) + 1
    assert nameless == load.nameless
    assert len(load.logins) > 500


def test_a_hundred_thousand_messages_queued(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """After an absence of 100,000 messages the bridge decides on all of them, and loses none."""
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url) as bridge:
        hello(mosquitto)
        assert bridge.stop() == 0
        client = mosquitto.publisher("", "")
        logins, per = 10_000, 9
        client.publish_all(login_of(n, 2_000) for n in range(logins))
        client.publish_all(
            (f"presence/user-{n % 2_000}/client-{n}/activity", b'{"connectionId": "id-%d"}' % n)
            for n in range(logins)
            for _ in range(per)
        )
        bridge.start()
        until(lambda: count(sqlite_url) == logins, "all records", deadline_s=90)
        assert_true(mosquitto, sqlite_url)
        assert_each_once(sqlite_url, range(logins))


def test_slow_disk(mosquitto: Mosquitto, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every commit takes a quarter of a second: batches grow, nothing is lost, the connection is kept."""
    from mqtt_presence.store import Store

    waiting = threading.Event()
    transaction = Store.transaction

    def slow(store: Store):  # a disk that takes its time
        waiting.wait(0.25)
        return transaction(store)

    monkeypatch.setattr(Store, "transaction", slow)
    watched = mosquitto.recorder()
    with BridgeThread(broker=mosquitto.url, database=sqlite_url, keep_alive=5):
        mosquitto.publisher("", "").publish_all(login_of(n, 300) for n in range(3_000))
        until(lambda: count(sqlite_url) == 3_000, "all records", deadline_s=60)
        monkeypatch.undo()
        assert_true(mosquitto, sqlite_url, watched)
        assert_each_once(sqlite_url, range(3_000))
        assert [m.json["state"] for m in watched.on("bridge/state")] == ["online"]


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000], ids=["forward", "back"])
def test_clock_set_by_an_hour(mosquitto: Mosquitto, sqlite_url: str, jump_ms: int) -> None:
    """The clock is set by an hour under load: each login has its record, who says something is online, who
    ended is not, and the statuses are the function of the records.
    """
    offset = [0]
    watched = mosquitto.recorder()
    with BridgeThread(broker=mosquitto.url, database=sqlite_url, expire_after=600) as bridge:
        bridge.bridge._now = lambda: now_ms() + offset[0]
        client = mosquitto.publisher("", "")
        client.publish_all(login_of(n, 100) for n in range(200))
        until(lambda: count(sqlite_url) == 200, "the logins before")
        offset[0] = jump_ms
        client.publish_all(login_of(n, 100) for n in range(200, 400))
        client.publish_all(
            (f"presence/user-{n % 100}/client-{n}/activity", b'{"connectionId": "id-%d"}' % n)
            for n in range(400)
        )
        client.publish_all(
            (f"presence/user-{n % 100}/client-{n}/will", b'{"connectionId": "id-%d"}' % n)
            for n in range(0, 400, 2)
        )
        until(lambda: count(sqlite_url) == 400, "the logins after")

        def right() -> bool:
            records = {r.connection_id: r for r in read(sqlite_url)[0]}
            return all(records[f"id-{n}"].is_open == (n % 2 == 1) for n in range(400))

        until(right, "who ended has ended, who spoke after the jump is there")
        assert_true(mosquitto, sqlite_url, watched)
        assert_each_once(sqlite_url, range(400))


def test_broker_that_takes_statuses_slowly(
    mosquitto: Mosquitto, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be published is bounded: the bridge decides no faster than the broker takes it, and on."""
    from mqtt_presence import bridge as bridge_module

    monkeypatch.setattr(bridge_module, "_MAX_BACKLOG", 50)
    monkeypatch.setattr(bridge_module, "MAX_BATCH", 20)
    with BridgeThread(broker=mosquitto.url, database=sqlite_url) as bridge:
        bridge.bridge._batch_limit = 20
        link = bridge.bridge._link
        assert link is not None
        backlogs: list[int] = []
        publish = link.publish

        def watched(messages):
            publish(messages)
            backlogs.append(link.backlog)

        monkeypatch.setattr(link, "publish", watched)
        mosquitto.publisher("", "").publish_all(login_of(n, 1_000) for n in range(3_000))
        until(lambda: count(sqlite_url) == 3_000, "all records")
        assert_true(mosquitto, sqlite_url)
    # Over the limit by no more than what one batch and one page of users say.
    assert max(backlogs) <= 50 + 3 * 20 + 200
