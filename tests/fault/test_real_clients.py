"""Clients that hold their connections while broker and bridge die under them: who is here is right afterwards."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import mqtt
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true, read
from tests.support.crowd import CROWD, Crowd
from tests.support.playing import hello, settle, wait_until_asked
from tests.support.postgres import query
from tests.support.said import Client, Message, Said
from tests.support.waiting import now_ms, until

USERS = 80


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Shipped]:
    """Run a mosquitto that knows the users here, and tells of itself every second."""
    users = (*CROWD, *(f"user-{n}" for n in range(USERS)))
    with Shipped(tmp_path / "mosquitto", "sys_interval 1", users) as broker:
        yield broker


def who(number: int) -> Client:
    return Client(f"user-{number}", f"client-{number}")


def login_of(number: int, connection: str) -> list[Message]:
    payload = json.dumps({"connectionId": connection, "announce": True}).encode()
    return [("presence/{}/{}/login".format(*who(number)), payload)]


def login(broker: Shipped, said: Said, number: int, connection: str) -> mqtt.Client:
    """Connect with a will, and log in."""
    ((topic, payload),) = login_of(number, connection)
    client = broker.client(*who(number), will=(topic.replace("/login", "/will"), payload))
    client.publish_all(said.all(login_of(number, connection)))
    return client


@pytest.mark.parametrize("also", ["the broker alone", "the bridge too"])
def test_who_died_with_a_killed_broker_does_not_stay(
    mosquitto: Shipped, sqlite_url: str, tmp_path: Path, also: str
) -> None:
    """A killed broker publishes no will, though it still has the bridge's session: who does not come back ends."""
    watched, said = mosquitto.recorder(), Said()
    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=sqlite_url, confirm_within=2
    ) as bridge:
        hello(mosquitto)
        clients = [login(mosquitto, said, n, f"before-{n}") for n in range(USERS)]
        settle(mosquitto, mosquitto.recorder())
        until(lambda: _has_run_ms(sqlite_url) > 4_000, "the bridge knows a broker that has run for a while")
        mosquitto.kill()
        if also == "the bridge too":
            bridge.kill()
        for client in clients:
            client.close()
        mosquitto.start()
        if also == "the bridge too":
            bridge.start()
        back = [login(mosquitto, said, n, f"after-{n}") for n in range(0, USERS, 2)]
        bridge.wait_for_log("the broker was restarted")
        wait_until_asked(mosquitto, bridge)
        for n, client in zip(range(0, USERS, 2), back, strict=True):
            client.publish_all(login_of(n, f"after-{n}"))
        for n in range(1, USERS, 2):
            said.gone(who(n))
        assert_true(mosquitto, sqlite_url, said, watched)
        silent = [r.user_id for r in read(sqlite_url)[0] if r.reason == "unconfirmed"]
        assert {*silent} >= {f"user-{n}" for n in range(1, USERS, 2)}
        for client in back:
            client.close()


def _has_run_ms(database: str) -> int:
    """Tell for how long the broker has been running, as far as the bridge knows."""
    rows = query(database, "SELECT value FROM bridge WHERE name = 'losses'")
    since = rows[0]["value"].split()[1] if rows else "-"
    return 0 if since == "-" else now_ms() - int(since)


@pytest.mark.parametrize(
    ("how", "also"),
    [("stop", ""), ("kill", ""), ("kill", "the bridge"), ("kill", "its store")],
)
def test_broker_ends_under_load(
    mosquitto: Shipped, sqlite_url: str, tmp_path: Path, how: str, also: str
) -> None:
    """The broker, or broker and bridge, end under 80 clients that log in, report and leave, and come back to
    what they know; one that was stopped has lost nothing, one that was killed what it had not saved.
    """
    watched, said = mosquitto.recorder(), Said()
    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=sqlite_url, confirm_within=2
    ) as bridge:
        hello(mosquitto)
        with Crowd(mosquitto, said, seed=11, unsaid=how == "stop") as crowd:
            until(
                lambda: _has_run_ms(sqlite_url) > 4_000, "the bridge knows a broker that has run for a while"
            )
            crowd.wait_for_logins(50)
            if also == "the bridge":
                bridge.kill()
            (mosquitto.stop if how == "stop" else mosquitto.kill)()
            if also == "its store":
                mosquitto.wipe()
            mosquitto.start()
            if also == "the bridge":
                bridge.start()
            crowd.wait_for_logins(100)
            crowd.quiet()
            assert_true(mosquitto, sqlite_url, said, watched, forgetful=how == "kill", deadline_s=40)
            assert len(said.logins) > 200
