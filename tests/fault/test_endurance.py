"""Faults again and again, and for long: fifty kills at random instants, a long absence, a clock that jumps."""

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import pytest

from mqtt_presence.bridge.link.link import Link
from tests.fault.test_crashes import count
from tests.support.bridges import BridgeProcess, BridgeThread, tuned
from tests.support.brokers import Shipped
from tests.support.checker import assert_true, read
from tests.support.crowd import CROWD, Crowd
from tests.support.playing import hello
from tests.support.said import Client, Message, Said, end_of, life_of, login_of, report_of
from tests.support.slow_disk import SlowDisk
from tests.support.waiting import now_ms, until

KILLS = 50


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Shipped]:
    """Run a mosquitto that knows the users of `CROWD`, too."""
    with Shipped(tmp_path / "mosquitto", users=CROWD) as broker:
        yield broker


class Load:
    """Clients that log in, report and end, some of them without a word of JSON.

    Args:
        said: follows them.
        seed: of all it decides.

    """

    def __init__(self, said: Said, seed: int) -> None:
        self._said = said
        self._random = random.Random(seed)
        self._number = 0
        self._moment = 0

    def step(self) -> Message:
        """Decide what one client says next."""
        number = self._random.randrange(120)
        client = Client(f"user-{number % 40}", f"client-{number}")
        here = self._said.here.get(client)
        fields: dict[str, object] = {}
        if here is None:
            verb = "login"
            if number % 5:
                self._number += 1
                fields = {"connectionId": f"id-{self._number}", "time": now_ms()}
        else:
            if here.connection is not None:
                fields = {"connectionId": here.connection}
            if self._random.random() < 0.6:
                verb = "activity"
                # Of two reports with the same moment the idle one wins, whichever is the later (docs/protocol.md).
                self._moment = max(self._moment + 1, now_ms())
                fields |= {"idle": self._random.random() < 0.5, "lastActivity": self._moment}
            else:
                verb = self._random.choice(["will", "logout"])
        payload = json.dumps(fields).encode() if fields else b""
        return f"presence/{client.user}/{client.id}/{verb}", payload


@pytest.mark.timeout(420)
def test_fifty_kills_at_random_instants(crowded: Shipped, sqlite_url: str, tmp_path: Path) -> None:
    """Killed fifty times under logins, reports and wills of 80 clients on connections of their own, and of 120
    that one speaks for: each login has one record, nobody is a ghost, each status is the function of the records,
    versions only grow; also for devices that name no connection.
    """
    mosquitto, said, chance = crowded, Said(), random.Random(8)
    load, watched = Load(said, 7), mosquitto.recorder()
    done = threading.Event()
    failed: list[BaseException] = []

    def publish() -> None:
        try:
            client = mosquitto.publisher("", "")
            while not done.is_set():
                client.publish_all(said.all(load.step() for _ in range(chance.randrange(1, 30))))
                done.wait(chance.random() * 0.04)  # no more than a bridge that is often away can do
        except BaseException as error:  # noqa: BLE001 - for the test to see
            failed.append(error)

    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=sqlite_url, confirm_within=2
    ) as bridge:
        hello(mosquitto)
        publisher = threading.Thread(target=publish)
        publisher.start()
        with Crowd(mosquitto, said, rate=150, seed=9, unsaid=True) as crowd:
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
            crowd.quiet()
            assert_true(mosquitto, sqlite_url, said, watched)
            assert len(said.logins) > 1_000


def test_a_hundred_thousand_messages_queued(mosquitto: Shipped, sqlite_url: str, tmp_path: Path) -> None:
    """After an absence of 100,000 messages the bridge decides on all of them, in order, and loses none."""
    watched, said = mosquitto.recorder(), Said()
    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=sqlite_url, idle_threshold=3600
    ) as bridge:
        hello(mosquitto)
        assert bridge.stop() == 0
        client = mosquitto.publisher("", "")
        clients, users = range(10_000), 2_000
        client.publish_all(said.all(login_of(n, users) for n in clients))
        client.publish_all(said.all(report_of(n, users, idle=True) for n in clients))
        for _ in range(7):  # by which they are active again
            client.publish_all(said.all(report_of(n, users) for n in clients))
        client.publish_all(said.all(report_of(n, users, idle=True) for n in clients if n % 4 == 0))
        client.publish_all(said.all(end_of(n, users) for n in clients if n % 4))
        bridge.start()
        assert_true(mosquitto, sqlite_url, said, watched, deadline_s=90)
        records = {r.connection_id: r for r in read(sqlite_url)[0]}
        assert all(records[f"id-{n}"].idle is (n % 4 == 0) for n in clients)


def test_slow_disk(crowded: Shipped, sqlite_url: str, tmp_path: Path) -> None:
    """Every sync takes 150 ms and every write 1 ms longer, under logins, reports and wills: batches
    grow, nothing is lost, the connection is kept.
    """
    watched, said = crowded.recorder(), Said()
    disk = SlowDisk(tmp_path, sync_ms=150, write_ms=1)
    settings = {"broker": crowded.url, "database": sqlite_url, "keep_alive": 5, "confirm_within": 2}
    with BridgeProcess(tmp_path / "log", environment=disk.environment, **settings) as bridge:
        hello(crowded)
        before, since = disk.syncs, monotonic()
        with Crowd(crowded, said, rate=600, seed=5, unsaid=True) as crowd:
            crowded.publisher("", "").publish_all(said.all(life_of(range(1_500), 300)))
            crowd.wait_for_logins(300)
            crowd.quiet()
            assert_true(crowded, sqlite_url, said, watched, deadline_s=60)
        took = monotonic() - since
        syncs = disk.syncs - before
        assert 5 <= syncs < 7 * took + 5, "it is the disk that makes it slow, and a sync is not one message's"
        assert len(said.logins) > 10 * syncs
        assert [m.json["state"] for m in watched.on("bridge/state")] == ["online"]
        assert bridge.log().count("connected to") == 1


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000], ids=["forward", "back"])
def test_clock_set_by_an_hour(mosquitto: Shipped, sqlite_url: str, jump_ms: int) -> None:
    """The clock is set by an hour under load: each login has its record, who says something is online, who
    ended is not, and the statuses are the function of the records.
    """
    offset = [0]
    watched, said = mosquitto.recorder(), Said()
    clock = SimpleNamespace(now=lambda: now_ms() + offset[0], monotonic=monotonic, error_ms=lambda: 0)
    with BridgeThread({"clock": clock}, broker=mosquitto.url, database=sqlite_url, expire_after=600):
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(login_of(n, 100) for n in range(200)))
        until(lambda: count(sqlite_url) == 200, "the logins before")
        offset[0] = jump_ms
        client.publish_all(said.all(login_of(n, 100) for n in range(200, 400)))
        client.publish_all(said.all(report_of(n, 100) for n in range(400)))
        client.publish_all(said.all(end_of(n, 100) for n in range(0, 400, 2)))
        assert_true(mosquitto, sqlite_url, said, watched)


def test_broker_that_takes_statuses_slowly(mosquitto: Shipped, sqlite_url: str) -> None:
    """What waits to be published is bounded: the bridge decides no faster than the broker takes it, and on."""
    statuses, said = mosquitto.recorder(), Said()
    backlogs: list[int] = []

    class WatchedLink(Link):
        def publish(self, messages):
            super().publish(messages)
            backlogs.append(self.backlog)

    with BridgeThread(
        {"make_link": WatchedLink},
        tuned(max_backlog=50, max_batch=20),
        broker=mosquitto.url,
        database=sqlite_url,
    ):
        mosquitto.publisher("", "").publish_all(said.all(login_of(n, 1_000) for n in range(3_000)))
        assert_true(mosquitto, sqlite_url, said, statuses)
    # Over the limit by no more than what one batch and one page of users say.
    assert max(backlogs) <= 50 + 3 * 20 + 200
