"""Crashes and restarts of bridge, broker and PostgreSQL: nothing lost, nothing double, the statuses are true again."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence import publications
from mqtt_presence.store import Store
from mqtt_presence.topics import Topics
from tests.conftest import Postgres
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.checker import assert_consistent, read
from tests.support.playing import hello, settle
from tests.support.postgres import query
from tests.support.recorder import Recorder
from tests.support.waiting import until


def login_of(number: int, users: int) -> tuple[str, bytes]:
    """Make the login of a client of its own, of one of so many users."""
    payload = json.dumps({"connectionId": f"id-{number}", "announce": number % 2 == 0}).encode()
    return f"presence/user-{number % users}/client-{number}/login", payload


def count(database: str) -> int:
    sql = "SELECT COUNT(*) AS n FROM connections WHERE connection_id LIKE 'id-%'"
    return int(query(database, sql)[0]["n"])


def assert_each_once(database: str, logins: range) -> None:
    """Each acknowledged login has its record, exactly once."""
    records, _ = read(database)
    ids = sorted(r.connection_id for r in records if r.connection_id.startswith("id-"))
    assert ids == sorted(f"id-{n}" for n in logins)


def assert_true(broker: Mosquitto, database: str, watched: Recorder | None = None) -> dict[str, Any]:
    """Settle, look as a new subscriber does, and let the checker judge until it is content, or the deadline over."""
    hello(broker)
    fresh = broker.recorder()
    settle(broker, fresh, "end")
    failures: list[AssertionError] = []

    def is_consistent() -> bool:
        try:
            assert_consistent(database, fresh.statuses(), watched.versions() if watched else None)
        except AssertionError as failure:
            failures.append(failure)
            return False
        return True

    try:
        until(is_consistent, "consistent", every_s=0.1)
    except AssertionError:
        raise failures[-1] from None
    return fresh.statuses()


@pytest.fixture
def bridge(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> Iterator[BridgeProcess]:
    """Run a bridge process on mosquitto and SQLite."""
    with BridgeProcess(
        tmp_path / "bridge.log", broker=mosquitto.url, database=sqlite_url, confirm_within=1, keep_alive=5
    ) as process:
        hello(mosquitto)
        yield process


# The bridge.


def test_bridge_killed_in_the_middle_of_2000_logins(
    mosquitto: Mosquitto, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """Killed five times while 2,000 logins come in: each has exactly one record, each status is right."""
    watched = mosquitto.recorder()
    client = mosquitto.client("storm", "storm")
    failed: list[BaseException] = []

    def storm() -> None:
        try:
            for number in range(2000):  # one by one: acknowledged means acknowledged
                client.publish_all([login_of(number, 300)])
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = threading.Thread(target=storm)
    thread.start()
    for kill_at in (100, 400, 800, 1200, 1600):
        until(lambda kill_at=kill_at: count(sqlite_url) >= kill_at, f"{kill_at} records", every_s=0.002)
        bridge.kill()
        bridge.start(ready=False)
    thread.join(60)
    assert not failed
    until(lambda: count(sqlite_url) == 2000, "2000 records")
    assert_true(mosquitto, sqlite_url, watched)
    assert_each_once(sqlite_url, range(2000))

    # Every login was told, and no user's status was left on the way.
    def told() -> set[str]:
        logins = [m for m in watched.heard if m.topic.endswith("/connectionLogin") and "/user-" in m.topic]
        return {m.json["connectionId"] for m in logins}

    watched.wait_for(lambda: len(told()) == 2000, "2000 events")


def test_messages_queued_while_the_bridge_is_away(
    mosquitto: Mosquitto, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """What clients said while the bridge was away is decided when it is back, in order."""
    settle(mosquitto, mosquitto.recorder())
    assert bridge.stop() == 0
    client = mosquitto.publisher("", "")
    client.publish_all(login_of(n, 500) for n in range(3000))
    client.publish_all(
        (f"presence/user-{n % 500}/client-{n}/will", b'{"connectionId": "id-%d"}' % n)
        for n in range(0, 3000, 2)
    )
    bridge.start()
    until(lambda: count(sqlite_url) >= 3000, "all records")
    statuses = assert_true(mosquitto, sqlite_url)
    assert_each_once(sqlite_url, range(3000))
    assert statuses["user-0"]["connections"] == 0
    assert statuses["user-1"]["connections"] == 6


def test_sigterm_finishes_says_offline_and_exits_0(
    mosquitto: Mosquitto, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """SIGTERM under load: exit 0, offline on `bridge/state`, and nothing of what was said is lost."""
    watched = mosquitto.recorder()
    client = mosquitto.publisher("", "")
    client.publish_all(login_of(n, 100) for n in range(1000))
    assert bridge.stop() == 0
    watched.wait_for(lambda: watched.last("bridge/state")["state"] == "offline", "offline")
    client.publish_all(login_of(n, 100) for n in range(1000, 1500))
    bridge.start()
    watched.wait_for(lambda: watched.last("bridge/state")["state"] == "online", "online")
    until(lambda: count(sqlite_url) >= 1500, "all records")
    assert_true(mosquitto, sqlite_url, watched)
    assert_each_once(sqlite_url, range(1500))
    for sign in (signal.SIGINT,):
        bridge.signal(sign)
        assert bridge.wait() == 0


# The broker.


@pytest.mark.parametrize("how", ["stopped", "killed", "emptied"])
@pytest.mark.parametrize("clients", ["there", "away"])
def test_broker_restarted_under_the_bridge(
    mosquitto: Mosquitto, bridge: BridgeProcess, sqlite_url: str, how: str, clients: str
) -> None:
    """However the broker comes back, the retained statuses are all there again, and who is gone ends."""
    mosquitto.publisher("", "").publish_all(login_of(n, 400) for n in range(400))
    settle(mosquitto, mosquitto.recorder())
    before = {r["user_id"]: r["version"] for r in query(sqlite_url, "SELECT user_id, version FROM users")}
    if how == "stopped":
        mosquitto.stop()
    else:
        mosquitto.kill()
    if how == "emptied":
        mosquitto.wipe()
    # Held, so that who listens to the announcement is there before it is made.
    bridge.signal(signal.SIGSTOP)
    mosquitto.start()
    watched = mosquitto.recorder()
    bridge.signal(signal.SIGCONT)
    watched.wait_for(
        lambda: len(watched.on("bridge/state")) > 0 and watched.last("bridge/state")["state"] == "online"
    )
    announced = how == "emptied"
    if announced:
        watched.wait_for(lambda: watched.on("bridge/announce"), "the announcement")
    if clients == "there":  # half of those that answer announcements do
        mosquitto.publisher("", "").publish_all(login_of(n, 400) for n in range(0, 400, 4))
    if announced:
        silent = range(0, 400, 2) if clients == "away" else range(2, 400, 4)
        sql = "SELECT connection_id FROM connections WHERE reason = 'unconfirmed'"
        expected = {f"id-{n}" for n in silent}
        until(lambda: {r["connection_id"] for r in query(sqlite_url, sql)} == expected, "the silent ones end")
    statuses = assert_true(mosquitto, sqlite_url, None if announced else watched)
    assert {u for u in statuses if u.startswith("user-")} == {f"user-{n}" for n in range(400)}
    assert all(statuses[user]["version"] >= version for user, version in before.items())
    assert_each_once(sqlite_url, range(400))


def test_broker_and_bridge_killed_at_once(
    mosquitto: Mosquitto, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """Both are killed and the broker has lost everything: the database makes it true again."""
    mosquitto.publisher("", "").publish_all(login_of(n, 250) for n in range(500))
    until(lambda: count(sqlite_url) == 500, "500 records")
    bridge.kill()
    mosquitto.kill()
    mosquitto.wipe()
    mosquitto.start()
    watched = mosquitto.recorder()
    bridge.start()
    watched.wait_for(
        lambda: len([u for u in watched.statuses() if u.startswith("user-")]) == 250, "all again"
    )
    assert_true(mosquitto, sqlite_url)
    assert_each_once(sqlite_url, range(500))


def test_what_the_bridge_sends_itself_is_no_sign_that_nothing_is_lost(
    mosquitto: Mosquitto, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """The status it asks for is still to be published: the broker has it from the bridge, and nothing else."""
    mosquitto.publisher("", "").publish_all(login_of(n, 20) for n in range(20))
    settle(mosquitto, mosquitto.recorder())
    assert bridge.stop() == 0
    store = Store(sqlite_url)
    with store.transaction() as tx:
        (user,) = tx.users_after("user-18", 1)
        assert user.status is not None
        told = publications.of_status(user, user.status, Topics(), private=False)
        tx.put_outbox(publications.pack([told]))
        tx.remember("probe", json.dumps({"topic": told.topic, "version": user.version}))
    store.close()
    mosquitto.stop()
    mosquitto.wipe()
    mosquitto.start()
    bridge.start()
    assert_true(mosquitto, sqlite_url)


def test_broker_restarted_while_statuses_are_published_again(
    mosquitto: Mosquitto, bridge: BridgeProcess, sqlite_url: str
) -> None:
    """The broker loses everything, and again, while the bridge is still publishing all of it anew."""
    mosquitto.publisher("", "").publish_all(login_of(n, 1500) for n in range(1500))
    settle(mosquitto, mosquitto.recorder())
    for _ in range(2):
        mosquitto.kill()
        mosquitto.wipe()
        mosquitto.start()
        watched = mosquitto.recorder("status/+")
        watched.wait_for(lambda watched=watched: len(watched.heard) > 50, "the first of them")
    assert_true(mosquitto, sqlite_url)


def test_broker_away_at_the_start_of_the_bridge(tmp_path: Path, sqlite_url: str) -> None:
    """A bridge started before its broker waits for it, saying so, without a busy loop."""
    broker = Mosquitto(tmp_path / "m")
    with BridgeProcess(
        tmp_path / "bridge.log", ready=False, broker=broker.url, database=sqlite_url
    ) as bridge:
        bridge.wait_for_log("cannot reach the broker", 3)
        assert bridge.cpu_s() < 3
        with broker:
            hello(broker)
            bridge.wait_for_log("connected to")
            assert bridge.stop() == 0


# PostgreSQL.


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_postgresql_restarted_under_the_bridge(
    mosquitto: Mosquitto, postgres: Postgres, tmp_path: Path, how: str
) -> None:
    """PostgreSQL stops, or crashes, and comes back while logins come in: nothing is lost, the bridge stays."""
    database = postgres.database()
    watched = mosquitto.recorder()
    with BridgeProcess(tmp_path / "bridge.log", broker=mosquitto.url, database=database) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all(login_of(n, 100) for n in range(500))
        postgres.stop(how)
        client.publish_all(login_of(n, 100) for n in range(500, 1000))
        bridge.wait_for_log("next try in")
        postgres.start()
        until(lambda: count(database) == 1000, "all records")
        assert_true(mosquitto, database, watched)
        assert_each_once(database, range(1000))
        assert {m.json["state"] for m in watched.on("bridge/state")} == {"online"}
        assert bridge.stop() == 0


def test_bridge_killed_on_postgresql(mosquitto: Mosquitto, postgres: Postgres, tmp_path: Path) -> None:
    """The same promises hold on PostgreSQL: killed under load, nothing is lost or double."""
    database = postgres.database()
    watched = mosquitto.recorder()
    with BridgeProcess(tmp_path / "bridge.log", broker=mosquitto.url, database=database) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        for start in range(0, 900, 300):
            client.publish_all(login_of(n, 90) for n in range(start, start + 300))
            until(lambda start=start: count(database) > start, "some of them", every_s=0.001)
            bridge.kill()
            bridge.start()
        until(lambda: count(database) == 900, "all records")
        assert_true(mosquitto, database, watched)
        assert_each_once(database, range(900))
