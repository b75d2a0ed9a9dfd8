"""Changes among bridges that share the messages: more seats, lost sessions, a restarted broker, forgotten users."""

import threading
from contextlib import ExitStack
from pathlib import Path

from tests.fault.test_one_bridge import other_process
from tests.fault.test_sharing import holders, start
from tests.storm.storm_load import StormLoad
from tests.support.bridges import BridgeProcess
from tests.support.brokers import BRIDGE_PASSWORD, Shipped
from tests.support.checker import assert_consistent, assert_true
from tests.support.mqtt import Client
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said, end_of, life_of, login_of
from tests.support.waiting import until

_ASKING = "SELECT 1 FROM bridge WHERE name IN ('announced_at', 'must_announce')"


def await_holders(bridges: list[BridgeProcess], count: int, times: int = 1) -> None:
    """Wait until so many of these have a connection to the broker."""
    until(
        lambda: sum(b.log().count("connected to") >= times for b in bridges) >= count,
        f"{count} bridges are connected", deadline_s=40,
    )  # fmt: skip


def assert_verified(database: str, broker: Shipped) -> None:
    """`verify` finds nothing, and nothing is left to publish."""
    until(lambda: query(database, "SELECT id FROM outbox") == [], "the outbox is empty")
    verified = other_process("verify", f"--database={database}", f"--broker={broker.url}")
    assert verified.returncode == 0, verified.stdout


def test_more_seats_by_a_rolling_restart(mosquitto: Shipped, postgres: Postgres, tmp_path: Path) -> None:
    """One bridge becomes four, one restart after the other, under load: no message is lost."""
    database, said = postgres.database(), Said()
    watched = mosquitto.recorder()
    with ExitStack() as stack:
        old = start(stack, tmp_path, 4, seats=1, broker=mosquitto.url, database=database)
        await_holders(old, 1)
        hello(mosquitto)
        load = StormLoad(mosquitto, said, rate=150, seed=1)
        load.start()
        try:
            (tmp_path / "new").mkdir()
            (holder,) = holders(database)
            new: list[BridgeProcess] = []
            for number in sorted(range(4), key=lambda n: f"node{n}" == holder):  # the holder is the last
                old[number].stop()
                bridge = BridgeProcess(
                    tmp_path / "new" / f"bridge{number}", broker=mosquitto.url, database=database, seats=4,
                    node=f"new{number}", ready=False,
                )  # fmt: skip
                new.append(stack.enter_context(bridge))  # it waits: the holder's setting counts
            await_holders(new, 4)
        finally:
            load.stop()
        assert_true(mosquitto, database, said, watched, late=True, deadline_s=60)
        assert {name[:3] for name in holders(database)} == {"new"}
        subscribed = "SELECT subscribed FROM seats"  # a bridge stores it with its next transaction
        until(lambda: [r["subscribed"] for r in query(database, subscribed)] == [True] * 4, "all subscribe")
        assert_verified(database, mosquitto)


def test_session_lost_while_another_seat_is_vacant(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path
) -> None:
    """Both seats are vacant, and one session is lost: nobody is given up whose answer waits for the other."""
    database, said = postgres.database(), Said()
    watched = mosquitto.recorder()
    settings = {"seats": 2, "broker": mosquitto.url, "database": database, "confirm_within": 2}
    with ExitStack() as stack:
        first, second = (
            BridgeProcess(tmp_path / f"bridge{n}", node=f"node{n}", **settings) for n in range(2)
        )
        stack.enter_context(first)
        stack.enter_context(second)
        hello(mosquitto)
        first.wait_for_log("another bridge has lost its session")
        until(lambda: query(database, _ASKING) == [], "the first questions are over")
        speaker = mosquitto.publisher("", "")
        speaker.publish_all(said.all(login_of(n, 20, announce=True) for n in range(40)))
        assert_true(mosquitto, database, said, watched, late=True)
        first.stop()
        second.stop()
        client_id = query(database, "SELECT client_id FROM seats WHERE id = 0")[0]["client_id"]
        Client(mosquitto.port, "bridge", client_id, password=BRIDGE_PASSWORD).disconnect()  # a clean session
        asked = len(watched.on("bridge/announce"))
        first.start()
        until(lambda: len(watched.on("bridge/announce")) > asked, "all are asked to log in again")
        speaker.publish_all(login_of(n, 20, announce=True) for n in range(40))  # every other one waits
        first.wait_for_log("connected to", 2)
        until(lambda: query(database, "SELECT 1 FROM seats WHERE heard_until IS NOT NULL"), "it hears")
        threading.Event().wait(5)  # longer than `confirm_within`
        assert query(database, "SELECT 1 FROM connections WHERE logout_time IS NOT NULL AND announce") == []
        second.start()
        assert_true(mosquitto, database, said, watched, late=True, deadline_s=40)
        assert_verified(database, mosquitto)


def test_the_broker_restarts_and_loses_everything(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path
) -> None:
    """After a restart nothing is missing; after the loss of all sessions all statuses are there again."""
    database, said = postgres.database(), Said()
    with ExitStack() as stack:
        bridges = start(stack, tmp_path, 3, seats=3, broker=mosquitto.url, database=database)
        await_holders(bridges, 3)
        hello(mosquitto)
        watched = mosquitto.recorder()
        mosquitto.publisher("", "").publish_all(said.all(life_of(range(300), 150)))
        mosquitto.stop()
        mosquitto.start()
        await_holders(bridges, 3, 2)
        mosquitto.publisher("", "").publish_all(said.all(life_of(range(300, 400), 150)))
        assert_true(mosquitto, database, said, watched, late=True, deadline_s=60)
        mosquitto.lose_everything()
        await_holders(bridges, 3, 3)
        watched = mosquitto.recorder()
        mosquitto.publisher("", "").publish_all(said.all(life_of(range(400, 500), 150)))
        assert_true(mosquitto, database, said, watched, late=True, forgetful=True, deadline_s=60)
        assert_verified(database, mosquitto)


def test_forget_while_another_bridge_gets_a_login(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path
) -> None:
    """Users are forgotten while all bridges get their messages: the broker has whom the database has."""
    database = postgres.database()
    with ExitStack() as stack:
        bridges = start(stack, tmp_path, 3, seats=3, broker=mosquitto.url, database=database)
        await_holders(bridges, 3)
        hello(mosquitto)
        done = threading.Event()
        speaker = mosquitto.publisher("", "")

        def speak() -> None:
            number = 0
            while not done.is_set():
                speaker.publish_all(login_of(n, 5) for n in range(number, number + 5))
                speaker.publish_all(end_of(n, 5) for n in range(number, number + 5))
                number += 5
                done.wait(0.02)

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            for number in range(15):
                forgotten = other_process(
                    "forget",
                    f"user-{number % 5}",
                    "--yes",
                    f"--database={database}",
                    f"--broker={mosquitto.url}",
                )
                assert forgotten.returncode == 0, forgotten.stderr + forgotten.stdout
        finally:
            done.set()
            thread.join(20)
        speaker.publish_all(login_of(100_000 + n, 3) for n in range(3))  # the others may stay forgotten
        until(lambda: query(database, "SELECT 1 FROM outbox") == [], "the outbox is empty")
        failures: list[AssertionError] = []

        def is_right() -> bool:
            try:
                assert_consistent(database, mosquitto.recorder("status/+").statuses(), late=True)
            except AssertionError as failure:
                failures.append(failure)
                return False
            return True

        until(is_right, "the broker has whom the database has", deadline_s=30, every_s=1)
        assert_verified(database, mosquitto)
