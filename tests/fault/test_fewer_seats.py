"""A seat is removed: its bridge leaves the share, reads what is left, ends the session, and deletes the row."""

import json
from typing import Any

import pytest

from mqtt_presence.errors import SeatDrainedError
from tests.support.bridges import BridgeThread, tuned
from tests.support.brokers import BRIDGE_PASSWORD, Shipped
from tests.support.checker import assert_true
from tests.support.mqtt import Client
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of

REFUSED = "SELECT value FROM bridge WHERE name = 'refused' OR name LIKE 'refused@%'"


def client_ids(database: str) -> list[str]:
    """Return the client ids of the seats, by number."""
    return [row["client_id"] for row in query(database, "SELECT client_id FROM seats ORDER BY id")]


def has_session(broker: Shipped, client_id: str) -> bool:
    """Ask the broker whether it keeps a session of a client id; the question ends the session."""
    client = Client(broker.port, "bridge", client_id, password=BRIDGE_PASSWORD, clean=False)
    client.disconnect()
    Client(broker.port, "bridge", client_id, password=BRIDGE_PASSWORD).disconnect()
    return client.session_present


def refused(database: str) -> int:
    """Return the number of refused messages of all seats."""
    return sum(
        kind["total"] for row in query(database, REFUSED) for kind in json.loads(row["value"]).values()
    )


def test_two_seats_become_one(mosquitto: Shipped, postgres: Postgres) -> None:
    """A process alone reads the messages that wait in both sessions, and keeps only that of seat 0."""
    database, said = postgres.database(), Said()
    watched = mosquitto.recorder()
    settings: dict[str, Any] = {
        "broker": mosquitto.url, "database": database, "configure": tuned(settled_s=0.1),
    }  # fmt: skip
    with BridgeThread(seats=2, node="a", **settings), BridgeThread(seats=2, node="b", **settings):
        hello(mosquitto)
        ids = client_ids(database)
        speaker = mosquitto.publisher("", "")
        speaker.publish_all([(f"presence/user-{n}/phone/login", b"no JSON") for n in range(6)])
    speaker.publish_all(said.all(life_of(range(100), 50)))  # every other one waits in each session
    with pytest.raises(SeatDrainedError), BridgeThread(seats=1, node="one", **settings):
        pytest.fail("it takes the seat that leaves first")
    assert client_ids(database) == ids[:1]
    assert not has_session(mosquitto, ids[1])
    with BridgeThread(seats=1, node="one", **settings):
        speaker.publish_all(said.all(life_of(range(100, 150), 50)))
        assert_true(mosquitto, database, said, watched, late=True)
    assert query(database, "SELECT id FROM outbox") == []
    assert refused(database) == 6, "the count of a removed seat stays"
