"""Faults that are no crashes: a locked or full disk, two bridges, poison, repeats, the wrong order."""

import json
import os
import random
import time
from pathlib import Path

import pytest

from mqtt_presence.bridge import committer
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.errors import StoreError
from mqtt_presence.rules.fold import fold
from mqtt_presence.store import Store
from tests.fault.test_crashes import count
from tests.support.bridges import BridgeProcess, BridgeThread, tuned
from tests.support.brokers import Embedded, Shipped
from tests.support.checker import assert_true, read
from tests.support.playing import hello
from tests.support.postgres import cursor, query
from tests.support.said import Client, Said, life_of
from tests.support.small_disk import small_disk
from tests.support.waiting import now_ms, until

# The database.


def test_database_locked_for_thirty_seconds(mosquitto: Shipped, sqlite_url: str, tmp_path: Path) -> None:
    """Another program locks the database for longer than the keep alive: nothing is lost, the bridge stays there."""
    watched, said = mosquitto.recorder(), Said()
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url, keep_alive=8) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        with cursor(sqlite_url) as cur:
            cur.execute("BEGIN EXCLUSIVE")
            locked_at = time.monotonic()
            number = 0
            while time.monotonic() - locked_at < 30:
                # So many that for the longer part the bridge does not read on.
                client.publish_all(said.all(life_of(range(number, number + 100), 200)))
                number += 100
                until(lambda n=number: time.monotonic() - locked_at >= n / 400, "the next hundred")
            cur.execute("ROLLBACK")
        bridge.wait_for_log("locked")
        assert_true(mosquitto, sqlite_url, said, watched)
        # Neither its will nor another birth: the connection was served all the time.
        assert [m.json["state"] for m in watched.on("bridge/state")] == ["online"]
        assert bridge.log().count("connected to") == 1
        assert bridge.stop() == 0


def test_database_locked_at_the_start(mosquitto: Shipped, sqlite_url: str, tmp_path: Path) -> None:
    """A bridge that finds the database locked waits for it, and a signal ends it as ever."""
    Store(sqlite_url).open()
    bridge = BridgeProcess(tmp_path / "log", ready=False, broker=mosquitto.url, database=sqlite_url)
    with cursor(sqlite_url) as cur:
        cur.execute("BEGIN EXCLUSIVE")
        with bridge:
            bridge.wait_for_log("locked; nothing is lost")
            assert bridge.stop() == 0
            bridge.start(ready=False)
            bridge.wait_for_log("locked; nothing is lost", bridge.log().count("locked; nothing is lost") + 1)
            assert not bridge.says("connected to")
            cur.execute("ROLLBACK")
            hello(mosquitto)
            assert bridge.stop() == 0


def test_database_locked_for_too_long_at_the_start(sqlite_url: str, mosquitto: Shipped) -> None:
    """In the end the one who started the bridge is told."""
    Store(sqlite_url).open()
    with cursor(sqlite_url) as cur:
        cur.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(StoreError, match="locked"),
            BridgeThread(configure=tuned(start_s=0.0), broker=mosquitto.url, database=sqlite_url),
        ):
            pass
        cur.execute("ROLLBACK")


def test_disk_full_and_freed(mosquitto: Shipped, tmp_path: Path) -> None:
    """The disk is full: messages wait with the broker; it is freed: they are all decided, the file is whole."""
    running: list[BridgeProcess] = []
    watched, said = mosquitto.recorder(), Said()
    with small_disk(tmp_path / "disk", lambda: running[0]) as (directory, fill, free):
        database = f"sqlite:///{directory / 'presence.db'}"
        with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=database, keep_alive=5) as bridge:
            running.append(bridge)
            hello(mosquitto)
            client = mosquitto.publisher("", "")
            client.publish_all(said.all(life_of(range(200), 50)))
            until(lambda: count(database) == 200, "the first 200")
            fill()
            client.publish_all(said.all(life_of(range(200, 1200), 50)))
            bridge.wait_for_log("full" if (directory / "ballast").exists() else "cannot use the database", 2)
            cpu, since = bridge.cpu_s(), time.monotonic()
            bridge.wait_for_log("next try in", 4)
            assert bridge.cpu_s() - cpu < 1 + (time.monotonic() - since) / 2, "no busy loop"
            free()
            assert_true(mosquitto, database, said, watched, deadline_s=40)
            assert query(database, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
            assert {m.json["state"] for m in watched.on("bridge/state")} == {"online"}
            assert bridge.stop() == 0


# Two bridges.


def test_two_bridges_by_mistake(mosquitto: Shipped, sqlite_url: str, tmp_path: Path) -> None:
    """A second bridge on a copy of the database, so with the same client id: both back off and say why, nothing is
    lost, one alone is fine again.
    """
    watched, said = mosquitto.recorder(), Said()
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    first = BridgeProcess(tmp_path / "first", broker=mosquitto.url, database=sqlite_url)
    second = BridgeProcess(tmp_path / "second", ready=False, broker=mosquitto.url, database=copy)

    def recorded() -> set[str]:
        sql = "SELECT connection_id FROM connections WHERE connection_id LIKE 'id-%'"
        return {row["connection_id"] for url in (sqlite_url, copy) for row in query(url, sql)}

    with first:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        with cursor(sqlite_url) as cur:
            cur.execute("VACUUM INTO ?", [str(tmp_path / "copy.db")])
        Store(copy).open()
        with second:
            started = time.monotonic()
            cpu = first.cpu_s() + second.cpu_s()
            number = 0
            while not (first.says("second bridge") and second.says("second bridge")):
                client.publish_all(said.all(life_of(range(number, number + 20), 50)))
                number += 20
                until(lambda n=number: len(recorded()) >= n - 200, "some bridge takes them")
                assert time.monotonic() - started < 40, first.log() + second.log()
            spent, lasted = first.cpu_s() + second.cpu_s() - cpu, time.monotonic() - started
            kicks = first.log().count("connected to") + second.log().count("connected to")
            assert kicks < 20
            assert second.stop() == 0
        until(lambda: len(recorded()) == number, "each has its record")
        watched.wait_for(lambda: watched.last("bridge/state")["state"] == "online", "the one that is left")
        states = [m.json for m in watched.on("bridge/state")]
        assert states[-1]["version"] == max(s["version"] for s in states), "its word is the newest"
        assert spent < 5 + lasted, "no busy loop"
        assert first.stop() == 0


# Poison.


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_poison_message_does_not_stop_the_others(
    kind: str, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that the bridge itself cannot process is counted and dropped; all others get through."""

    def poisoned(user, *more):
        if user.user_id == "poison":
            raise RuntimeError("a bug of ours")
        return fold(user, *more)

    monkeypatch.setattr(committer, "fold", poisoned)
    with Shipped(tmp_path / "m") if kind == "mosquitto" else Embedded() as broker:
        recorder, said = broker.recorder(), Said()
        with BridgeThread(broker=broker.url, database=sqlite_url) as bridge:
            for n in range(40):
                user = "poison" if n % 10 == 3 else f"user-{n}"
                broker.say(user, f"client-{n}", "login")
                if user != "poison":
                    said.note(Client(user, f"client-{n}"), "login", b"")
            assert_true(broker, sqlite_url, said, recorder)
            assert bridge.bridge.counters.refused == {"unprocessable": 4}
            assert recorder.status("poison") is None


# Repeats and order.


def history(user: str, base: int, rng: random.Random) -> list[tuple[str, bytes]]:
    """Make up what the clients of a user, with ids and times, say in a while."""
    said: list[tuple[str, bytes]] = []
    for client in range(3):
        at = base - 10_000
        for connection in range(rng.randrange(1, 5)):
            name = {"connectionId": f"{client}-{connection}"}
            at += rng.randrange(100, 400)
            said.append((f"{user}/{user}-{client}/login", json.dumps(name | {"time": at}).encode()))
            for _ in range(rng.randrange(3)):
                at += rng.randrange(1, 400)
                report = {"idle": rng.random() < 0.5, "lastActivity": at}
                said.append((f"{user}/{user}-{client}/activity", json.dumps(name | report).encode()))
            if connection or rng.random() < 0.5:
                verb = rng.choice(["logout", "will"])
                said.append((f"{user}/{user}-{client}/{verb}", json.dumps(name).encode()))
    return [(f"presence/{topic}", payload) for topic, payload in said]


def outcome(database: str, user: str) -> tuple[object, ...]:
    """Tell what came of a user, but for what depends on the order by its nature.

    That is the times of receipt; which word of an older connection's end came first; and the activity shown, which
    is never earlier than one shown before, even of a connection that turned out to be over.
    """
    records, users = read(database)
    status = users[user].status
    return (
        status.state,
        status.connections,
        sorted((r.client_id, r.connection_id, r.is_open) for r in records if r.user_id == user),
        sorted(
            (r.client_id, r.connection_id, r.idle, r.last_activity)
            for r in records
            if r.user_id == user and r.is_open
        ),
    )


def test_repeats_and_order_change_nothing(mosquitto: Shipped, sqlite_url: str) -> None:
    """Everything twice, and everything in a random order, comes to the same as once and in order."""
    rng = random.Random(20261125)
    recorder, said = mosquitto.recorder(), Said()
    base = now_ms()
    with BridgeThread(broker=mosquitto.url, database=sqlite_url):
        messages: dict[str, list[tuple[str, bytes]]] = {"plain": [], "twice": [], "shuffled": []}
        for n in range(60):
            seed = rng.random()
            for way, told in messages.items():
                told.extend(said.all(history(f"{way}-{n}", base, random.Random(seed))))
        messages["twice"] = [m for message in messages["twice"] for m in (message, message)] + messages[
            "twice"
        ]
        rng.shuffle(messages["shuffled"])
        for told in messages.values():
            mosquitto.publisher("", "").publish_all(told)
        assert_true(mosquitto, sqlite_url, said, recorder)
    for n in range(60):
        plain = str(outcome(sqlite_url, f"plain-{n}"))
        assert str(outcome(sqlite_url, f"twice-{n}")).replace("twice", "plain") == plain
        assert str(outcome(sqlite_url, f"shuffled-{n}")).replace("shuffled", "plain") == plain


def test_duplicates_are_told_once(mosquitto: Shipped, sqlite_url: str) -> None:
    """A message that comes three times causes one event."""
    recorder, said = mosquitto.recorder(), Said()
    with BridgeThread(broker=mosquitto.url, database=sqlite_url):
        for verb in ("login", "activity", "will"):
            payload = {"connectionId": "c1"} | (
                {"idle": True, "lastActivity": 1_700_000_000_000} if verb == "activity" else {}
            )
            for message in said.all([(f"presence/alice/phone/{verb}", json.dumps(payload).encode())]):
                mosquitto.publisher("", "").publish_all([message] * 3)
        assert_true(mosquitto, sqlite_url, said, recorder)
        assert [name for name, _ in recorder.events("alice")] == [
            "connectionLogin", "userOnline", "connectionIdle", "userIdle", "connectionLogout", "userOffline",
        ]  # fmt: skip


def test_no_acknowledgement_gets_to_the_broker(
    mosquitto: Shipped, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All comes again although it is committed; also what names no connection counts once."""
    recorder, said = mosquitto.recorder(), Said()
    topics = [f"presence/user{n // 10}/client{n}/{verb}" for n in range(6_000) for verb in ("login", "will")]
    with BridgeThread(broker=mosquitto.url, database=sqlite_url) as deaf, monkeypatch.context() as patch:
        patch.setattr(Link, "ack", lambda _link, came: list(came))
        mosquitto.publisher("", "").publish_all(said.all((topic, b"") for topic in topics))
        until(
            lambda: deaf.bridge.counters.received >= len(topics) and not deaf.parts.pending,
            "all is decided",
        )
    with BridgeThread(broker=mosquitto.url, database=sqlite_url) as bridge:
        until(lambda: bridge.bridge.counters.received >= len(topics), "all comes again")
        assert_true(mosquitto, sqlite_url, said, recorder)


def test_no_process_is_left() -> None:
    """Tests end what they start."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    commands = [
        Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children if Path(f"/proc/{pid}").exists()
    ]
    assert not [c for c in commands if b"mqtt_presence" in c or b"mosquitto" in c]
