"""Floods: what one user sends too much of is refused, counted and told, and nobody else notices (docs/security.md, F1 to F10)."""

import json
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.bridge.config import BridgeConfig
from tests.support.bridges import BridgeProcess, BridgeThread
from tests.support.brokers import Embedded, Mosquitto
from tests.support.checker import assert_consistent, read
from tests.support.playing import settle
from tests.support.postgres import query
from tests.support.waiting import until

AnyBroker = Mosquitto | Embedded


@contextmanager
def strict_bridge(broker: AnyBroker, database: str, **settings: Any) -> Iterator[BridgeThread]:
    """A bridge that takes nothing for what has waited with the broker."""

    def strict(config: BridgeConfig) -> BridgeConfig:
        return replace(config, limits=replace(config.limits, amnesty_s=0.0))

    with BridgeThread(configure=strict, broker=broker.url, database=database, **settings) as made:
        yield made


def login(connection_id: str) -> bytes:
    return json.dumps({"connectionId": connection_id}).encode()


def records(database: str, user: str) -> dict[str, str | None]:
    return {r.connection_id: r.reason for r in read(database)[0] if r.user_id == user}


def test_open_connections_of_one_user_are_limited(broker: AnyBroker, sqlite_url: str) -> None:
    """Beyond the limit a login opens nothing, not by its heartbeats either; when one ends there is room."""
    recorder = broker.recorder()
    with strict_bridge(broker, sqlite_url, max_connections=3) as bridge:
        for n in range(5):
            broker.say("alice", f"c{n}", "login", login(f"id{n}"))
            broker.say("alice", f"c{n}", "activity", login(f"id{n}"))
        broker.say("bob", "bobs", "login", login("b1"))
        settle(broker, recorder, "alice")
        assert sorted(records(sqlite_url, "alice")) == ["id0", "id1", "id2"]
        assert recorder.status("alice")["connections"] == 3
        assert recorder.wait_for_state("bob", "online")["connections"] == 1
        assert bridge.bridge.counters.refused["too_many_connections"] == 4

        broker.say("alice", "c3", "will", login("id3"))  # of one that was refused: harmless
        broker.say("alice", "c0", "login", login("id0-again"))  # replaces its own: no more than before
        broker.say("alice", "c1", "will", login("id1"))
        broker.say("alice", "c4", "activity", login("id4"))  # and now there is room
        settle(broker, recorder, "alice")
        assert recorder.status("alice")["connections"] == 3
        assert {i for i, reason in records(sqlite_url, "alice").items() if reason is None} == {
            "id0-again",
            "id2",
            "id4",
        }
        assert_consistent(sqlite_url, recorder.statuses(), recorder.versions())


def test_new_records_of_one_user_are_limited(broker: AnyBroker, sqlite_url: str) -> None:
    """A device that logs in anew all the time fills no database: neither by logins, nor activity, nor wills."""
    recorder = broker.recorder()
    with strict_bridge(broker, sqlite_url, max_records=30) as bridge:
        for n in range(12):
            broker.say("alice", "phone", "login", login(f"l{n}"))
            broker.say("alice", "phone", "activity", login(f"a{n}"))
            broker.say("alice", "phone", "will", login(f"w{n}"))
        broker.say("bob", "bobs", "login", login("b1"))
        settle(broker, recorder, "bob")
        assert len(records(sqlite_url, "alice")) == 30
        assert bridge.bridge.counters.refused["too_many_records"] == 6
        assert recorder.wait_for_state("bob", "online")
        open_ones = [i for i, reason in records(sqlite_url, "alice").items() if reason is None]
        for connection_id in open_ones:
            broker.say("alice", "phone", "logout", login(connection_id))
        settle(broker, recorder, "bob")
        assert recorder.status("alice")["state"] == "offline", "an end is taken whatever was refused"
        # Room for another comes back in two seconds: whoever was refused is let in by its next sign of life.
        until(
            lambda: bridge.parts.limiter.records_left("alice", time.monotonic()),
            "there is room",
            every_s=0.2,
        )
        broker.say("alice", "phone", "activity", login("l11"))
        assert recorder.wait_for_state("alice", "online")["connections"] == 1
        assert_consistent(sqlite_url, recorder.statuses(), recorder.versions())


def test_messages_of_one_user_are_limited(
    broker: AnyBroker, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who sends without pause is not looked at beyond the limit, but for the end; the log has a line or two."""
    recorder = broker.recorder()
    with (
        caplog.at_level(logging.WARNING, "mqtt_presence.bridge.counters"),
        strict_bridge(broker, sqlite_url, max_rate=1) as bridge,
    ):
        broker.say("alice", "phone", "login", login("a1"))
        alice = broker.publisher("alice", "phone")
        alice.publish_all([("presence/alice/phone/activity", b"")] * 2000)
        broker.say("bob", "bobs", "login", login("b1"))
        assert recorder.wait_for_state("bob", "online")
        assert bridge.bridge.counters.refused["too_fast"] == pytest.approx(1941, abs=5)
        broker.say("alice", "phone", "logout", login("a1"))
        assert recorder.wait_for_state("alice", "offline")
        told = [r.getMessage() for r in caplog.records if "too_fast" in r.getMessage()]
        assert 1 <= len(told) <= 3, told
        assert "presence/alice/phone/activity" in told[0]


def test_users_are_limited(broker: AnyBroker, sqlite_url: str) -> None:
    """Newcomers beyond the limit leave nothing behind; those that are known go on, and a restart counts again."""
    recorder = broker.recorder()
    for _ in range(2):
        with strict_bridge(broker, sqlite_url, max_users=2) as bridge:
            for user in ("alice", "bob", "carol", "dave"):
                broker.say(user, user, "login", login("c1"))
                broker.say(user, user, "will", login("c2"))
            broker.say("bob", "tablet", "login", login("c3"))
            until(lambda b=bridge: b.bridge.counters.refused["too_many_users"] == 4, "four are refused")
            recorder.wait_for(lambda: (recorder.status("bob") or {}).get("connections") == 2)
            assert {r.user_id for r in read(sqlite_url)[0]} == {"alice", "bob"}
            assert set(recorder.statuses()) == {"alice", "bob"}


def test_refusals_are_in_the_database(broker: AnyBroker, sqlite_url: str) -> None:
    """What was refused is told by the `bridge` table, over restarts, for whoever did not see the log."""
    for _ in range(2):
        with strict_bridge(broker, sqlite_url, max_connections=1) as bridge:
            for n in range(3):
                broker.say("alice", f"c{n}", "login", login(f"id{n}"))
            until(lambda b=bridge: b.bridge.counters.refused["too_many_connections"] == 2)
    (row,) = query(sqlite_url, "SELECT value FROM bridge WHERE name = 'refused'")
    kept = json.loads(row["value"])["too_many_connections"]
    assert (kept["total"], kept["last"]) == (4, "'alice'")
    assert abs(kept["at"] / 1000 - time.time()) < 60


def test_large_messages_do_not_make_the_bridge_large(
    mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path
) -> None:
    """What the broker lets through is read past, acknowledged, counted and told; the next message is heard as ever.

    This mosquitto has no limit of its own, as without `broker_config/`.
    """
    topic = "presence/mallory/m/activity"
    recorder = mosquitto.recorder()
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url) as bridge:
        settle(mosquitto, recorder)
        before = bridge.peak_memory()
        mallory = mosquitto.client("mallory", "m")
        mallory.publish(topic, b"x" * 40_000_000)
        settle(mosquitto, recorder)
        bridge.signal(signal.SIGSTOP)
        mallory.publish_all((topic, b"x" * 2_000_000) for _ in range(20))
        mallory.publish_all((topic, b"x" * 60_000) for _ in range(1_000))
        bridge.signal(signal.SIGCONT)
        settle(mosquitto, recorder)
        assert bridge.peak_memory() - before < 24_000_000
        assert bridge.stop() == 0
        assert f"refused reason=too_large new=1 total=1 last='{topic}: 40000" in bridge.log()
    assert records(sqlite_url, "mallory") == {}
    refused = json.loads(query(sqlite_url, "SELECT value FROM bridge WHERE name = 'refused'")[0]["value"])
    assert refused["too_large"]["total"] == 1_021
