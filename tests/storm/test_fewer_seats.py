"""Seats are removed while messages come, and processes are killed or frozen at each step of it."""

import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import Phase

from mqtt_presence.bridge.recovery.seat_removal import SeatRemoval
from mqtt_presence.errors import SeatDrainedError
from mqtt_presence.store import LEASE_MS, Store
from tests.fault.test_fewer_seats import client_ids, has_session
from tests.fault.test_one_bridge import other_process
from tests.fault.test_sharing import holders, start
from tests.model.test_seats_model import FOUND_IN, ChangingSeats, search
from tests.storm.storm_load import StormLoad
from tests.storm.test_seat_changes import assert_verified, await_holders
from tests.support.bridges import BridgeProcess, BridgeThread, tuned
from tests.support.brokers import Mosquitto, Shipped
from tests.support.checker import assert_true
from tests.support.model_broker import ModelLink
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.recorder import Recorder
from tests.support.said import Said, life_of
from tests.support.waiting import until

LEAVING = "SELECT id FROM seats WHERE leaving"


def numbers(database: str) -> list[int]:
    return [row["id"] for row in query(database, "SELECT id FROM seats ORDER BY id")]


def assert_right(
    broker: Shipped, database: str, said: Said, watched: Recorder, bridges: list[BridgeProcess], old: set[str]
) -> None:
    """All that was acknowledged is recorded once; no session of a removed seat is left at the broker.

    Args:
        broker: of the test.
        database: its URL.
        said: the messages of the clients.
        watched: a subscriber of all statuses from the beginning.
        bridges: all processes.
        old: the client ids of all seats that ever were.

    """
    try:
        assert_true(broker, database, said, watched, late=True, deadline_s=120)
    except AssertionError as error:
        for client in {*re.findall(r"user-\d+-phone-\d", str(error))}:
            print(
                client, *query(database, f"SELECT * FROM connections WHERE client_id = '{client}'"), sep="\n"
            )
        raise
    assert_verified(database, broker)
    left = [client_id for client_id in old - {*client_ids(database)} if has_session(broker, client_id)]
    assert not left, f"{len(left)} sessions of {len(old)} seats are left at the broker"
    for text in (bridge.log() for bridge in bridges):
        assert "committed transactions" not in text, "a removed seat looks like a loss of the database"
        assert "deadlock" not in text
        assert "Traceback" not in text


def test_fewer_seats_by_a_rolling_restart(mosquitto: Shipped, postgres: Postgres, tmp_path: Path) -> None:
    """Four bridges become two, and then one that is started alone, under load: no message is lost."""
    database, said = postgres.database(), Said()
    watched = mosquitto.recorder()
    settings = {"broker": mosquitto.url, "database": database}
    with ExitStack() as stack:
        bridges = start(stack, tmp_path, 4, seats=4, broker=mosquitto.url, database=database)
        await_holders(bridges, 4)
        hello(mosquitto)
        ids = {*client_ids(database)}
        load = StormLoad(mosquitto, said, rate=150, seed=2)
        load.start()
        try:
            for number in range(4):
                bridges[number].stop()
                bridge = BridgeProcess(
                    tmp_path / f"new{number}", seats=2, node=f"new{number}", ready=False, **settings
                )
                bridges.append(stack.enter_context(bridge))
            until(lambda: numbers(database) == [0, 1], "two seats are left", deadline_s=60)
            until(lambda: "" not in holders(database), "both are held", deadline_s=40)
            state = watched.on("bridge/state")
            until(lambda: watched.on("bridge/state")[-1].json.get("seats") == 2, f"two seats: {state[-1]}")
            for bridge in bridges[4:]:
                bridge.stop()
            bridge = BridgeProcess(tmp_path / "one", seats=1, node="one", **settings)
            bridges.append(stack.enter_context(bridge))
            bridge.wait_for_log("seat 1 is removed", deadline_s=40)
            until(lambda: holders(database) == ["one"], "it has seat 0", deadline_s=40)
        finally:
            load.stop()
        assert_right(mosquitto, database, said, watched, bridges, ids)
        assert "asking all clients" not in bridge.log(), "it takes a removed session for a loss"


@contextmanager
def table_is_locked(database: str, table: str) -> Iterator[Callable[[], bool]]:
    """Lock a table; yield whether another session waits for it."""
    with psycopg.connect(database) as locking, psycopg.connect(database, autocommit=True) as watching:
        locking.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")  # type: ignore[call-overload]
        waits = f"SELECT 1 FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"
        yield lambda: watching.execute(waits).fetchone() is not None  # type: ignore[call-overload]


STEPS = ("marked", "unsubscribed", "session ended", "row deleted")


@pytest.mark.parametrize("how", ["kill", "freeze"])
@pytest.mark.parametrize("step", STEPS)
def test_another_process_goes_on_where_one_stopped(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path, step: str, how: str
) -> None:
    """The bridge of a seat that leaves is gone at some step: the seat is removed all the same, by another."""
    database, said = postgres.database(), Said()
    watched = mosquitto.recorder()
    settings = {"broker": mosquitto.url, "database": database}
    with ExitStack() as stack:
        bridges = start(stack, tmp_path, 2, seats=2, broker=mosquitto.url, database=database)
        await_holders(bridges, 2)
        hello(mosquitto)
        ids = {*client_ids(database)}
        speaker = mosquitto.publisher("", "")
        speaker.publish_all(said.all(life_of(range(200), 100)))
        first, second = (bridges[int(node.removeprefix("node"))] for node in holders(database))
        first.stop()
        speaker.publish_all(said.all(life_of(range(200, 300), 100)))
        first = BridgeProcess(tmp_path / "new", seats=1, node="new", **settings)
        bridges.append(stack.enter_context(first))
        if step == "session ended":
            with table_is_locked(database, "redeliveries") as is_awaited:
                until(is_awaited, "the second has ended its session", deadline_s=20)
                _end(second, how)
        elif step == "row deleted":
            second.wait_for_log("seat 1 is removed")
            _end(second, how)
        else:
            until(lambda: query(database, LEAVING), "the seat is marked", deadline_s=20, every_s=0.005)
            if step == "unsubscribed":
                second.wait_for_log("reading its last messages")
            _end(second, how)
            listed = other_process("seats", f"--database={database}").stdout
            assert "1 (leaving)" in listed, listed
        speaker.publish_all(said.all(life_of(range(300, 400), 100)))
        until(lambda: numbers(database) == [0], "the seat is removed", deadline_s=60)
        # The setting of whoever takes seat 0 counts, and the second still has two seats.
        until(lambda: holders(database) == ["new"], "it has its seat again", deadline_s=30)
        if how == "freeze":
            second.signal(signal.SIGCONT)
        else:
            second.start(ready=False)
        second.wait_for_log("waiting as a standby", deadline_s=30)
        speaker.publish_all(said.all(life_of(range(400, 500), 100)))
        until(lambda: holders(database) == ["new"], "it has its seat again", deadline_s=30)
        assert_right(mosquitto, database, said, watched, bridges, ids)


def _end(bridge: BridgeProcess, how: str) -> None:
    if how == "kill":
        bridge.kill()
    else:
        bridge.signal(signal.SIGSTOP)


CHAOS_S = 120.0


@pytest.mark.timeout(CHAOS_S + 300)
def test_the_number_changes_at_random_while_processes_die(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path
) -> None:
    """Restarts with other numbers of seats, kills and freezes, one after the other: no message is lost."""
    database, said = postgres.database(), Said()
    watched = mosquitto.recorder()
    chance = random.Random(3)
    with ExitStack() as stack:
        bridges = start(stack, tmp_path, 4, seats=3, broker=mosquitto.url, database=database)
        await_holders(bridges, 3)
        hello(mosquitto)
        ids: set[str] = set()
        load = StormLoad(mosquitto, said, rate=150, seed=4)
        load.start()
        try:
            ends_s = time.monotonic() + CHAOS_S
            while time.monotonic() < ends_s:
                assert load.error is None, load.error
                how = chance.choice(("restart", "restart", "restart", "kill", "freeze"))
                first = holders(database)[0]
                bridge = chance.choice(bridges)
                if first and chance.random() < 0.6:  # its setting counts
                    bridge = bridges[int(first.removeprefix("node"))]
                if how == "freeze":
                    bridge.signal(signal.SIGSTOP)
                    _wait(database, ids, LEASE_MS / 1000 + chance.uniform(0, 4))
                    bridge.signal(signal.SIGCONT)
                else:
                    if how == "kill" or first != f"node{bridges.index(bridge)}":
                        bridge.kill()  # a process that has just begun does not handle signals yet
                    else:
                        assert bridge.stop() == 0
                    bridge._settings["seats"] = chance.randint(1, 4)
                    bridge.start(ready=False)
                _wait(database, ids, chance.uniform(0, 6))
        finally:
            load.stop()
        for bridge in bridges:
            bridge.kill()
        for bridge in bridges[:3]:
            bridge._settings["seats"] = 2
            bridge.start(ready=False)
        until(lambda: numbers(database) == [0, 1], "two seats are left", deadline_s=120)
        until(lambda: "" not in holders(database), "both are held", deadline_s=40)
        print(f"\nseats that ever were: {len(ids)}, messages: {load.messages}")
        assert len(ids) > 4, "the number hardly changed"
        assert_right(mosquitto, database, said, watched, bridges, ids)


def _wait(database: str, ids: set[str], wait_s: float) -> None:
    """Wait, and collect the client ids of all seats."""
    until_s = time.monotonic() + wait_s
    while True:
        ids.update(client_ids(database))
        if time.monotonic() >= until_s:
            return
        time.sleep(0.1)


def drop(self: SeatRemoval, link: ModelLink) -> bool:
    """Remove a seat that leaves, and let its session be."""
    if self._store.seat.is_leaving and link.is_connected and not link.backlog:
        link.end_session = lambda: True  # type: ignore[method-assign]
        self._require_empty_outbox()
    return True


def test_the_model_finds_a_seat_that_is_only_dropped(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session goes on to collect a share of the messages."""
    database = postgres.database()
    store = Store(database)
    store.open()
    store.close()
    monkeypatch.setattr(SeatRemoval, "step", drop)
    with pytest.raises(AssertionError, match=r"sessions of removed seats|logins without|no rest"):
        search(
            database,
            FOUND_IN,
            of=ChangingSeats,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )


def test_seat_stays_while_the_broker_moves_messages_to_it(
    postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator has not changed the broker's rule yet: the seat goes on to read, and the log says so."""
    with Mosquitto(tmp_path / "mosquitto") as mosquitto:
        settings: dict[str, Any] = {
            "broker": mosquitto.url,
            "database": postgres.database(),
            "seat_inputs": "shard/{seat}/",
            "configure": tuned(settled_s=0.1, unmoved_s=0.8),
        }
        with BridgeThread(seats=2, **settings), BridgeThread(seats=2, **settings):
            pass
        ended_s: list[float] = []

        def speak() -> None:
            speaker = mosquitto.publisher("", "")
            for number in range(10):
                speaker.publish(f"shard/1/user-{number}/phone/login", b'{"connectionId":"c"}')
                time.sleep(0.2)
            ended_s.append(time.monotonic())

        speaking = threading.Thread(target=speak)
        speaking.start()
        with pytest.raises(SeatDrainedError), BridgeThread(seats=1, **settings):
            pytest.fail("it takes the seat that leaves first")
        assert ended_s, "it has left while messages arrived"
        assert time.monotonic() - ended_s[0] > 0.5
        speaking.join()
        assert query(settings["database"], "SELECT COUNT(*) AS n FROM connections") == [{"n": 10}]
        assert len(client_ids(settings["database"])) == 1
        assert "messages still arrive at shard/1/+/+/+" in caplog.text
