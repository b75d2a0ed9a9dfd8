"""Addresses and causes from a real mosquitto's log, and that nobody can end or re-address somebody else's record."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from mqtt_presence.errors import StoreError
from mqtt_presence.rules.events import Login
from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.mqtt import Client
from tests.support.postgres import query
from tests.support.recorder import Recorder
from tests.support.waiting import free_port, listens, until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Run a mosquitto that logs to topics, as the shipped configuration has it."""
    with Mosquitto(tmp_path / "mosquitto", "log_dest topic") as started:
        yield started


def bridge(broker: Mosquitto, database: str, **settings: Any) -> BridgeThread:
    return BridgeThread(broker=broker.url, database=database, **settings)


def whole_log(broker: Mosquitto) -> str:
    return (broker.directory / "log").read_text(errors="replace")


def heard_log(broker: Mosquitto) -> int:
    """How often the bridge has been granted the log's topics."""
    return whole_log(broker).count("$SYS/broker/log/E (QoS 1)")


class Scene:
    """A bridge that hears the log, an operator, and what is in the database."""

    def __init__(self, broker: Mosquitto, database: str) -> None:
        self.broker, self.database = broker, database
        until(lambda: heard_log(broker), f"the bridge listens to the log\n{broker.log()}")
        self.operator = broker.recorder()

    def come(self, user: str, client_id: str, connection_id: str | None = None, **how: Any) -> Client:
        """Connect and log in; wait until the bridge has it."""
        client = self.broker.client(user, client_id, **how)
        self.login(client, user, client_id, connection_id)
        return client

    def login(self, client: Client, user: str, client_id: str, connection_id: str | None) -> None:
        payload = b"" if connection_id is None else json.dumps({"connectionId": connection_id}).encode()
        client.publish(f"presence/{user}/{client_id}/login", payload)
        until(lambda: self.records(user, connection_id), f"{user} is logged in\n{self.broker.log()}")

    def records(self, user: str, connection_id: str | None = None) -> list[dict[str, Any]]:
        rows = query(self.database, "SELECT * FROM connections ORDER BY id")
        return [
            row for row in rows if row["user_id"] == user and connection_id in {None, row["connection_id"]}
        ]

    def record(self, user: str, connection_id: str | None = None) -> dict[str, Any]:
        (found,) = self.records(user, connection_id)
        return found

    def ended(self, user: str, connection_id: str | None = None) -> tuple[str, str | None]:
        """Wait for the end of a record: reason and cause."""
        until(
            lambda: self.record(user, connection_id)["reason"],
            f"{user}'s record ends\n{self.broker.log()}",
        )
        found = self.record(user, connection_id)
        return found["reason"], found["cause"]

    def mark(self, name: str) -> None:
        """Wait until the bridge has seen all that has been sent and logged so far."""
        self.broker.say(name, "marker", "login")
        until(lambda: self.records(name), f"the mark {name} is seen")


@pytest.fixture
def scene(broker: Mosquitto, sqlite_url: str) -> Iterator[Scene]:
    with bridge(broker, sqlite_url):
        yield Scene(broker, sqlite_url)


def test_records_without_a_will_end_with_the_broker_s_word(scene: Scene) -> None:
    """Who disconnects without a logout has logged out; whose socket closes, or who falls silent, is lost. Each
    with its cause, also in the event; and each record has the address.
    """
    silent = scene.come("carol", "c1", "cc", keep_alive_s=1)
    left = scene.come("alice", "a1", "ca", address="127.0.0.2")
    killed = scene.come("bob", "b1", None, address="127.0.0.3")
    left.disconnect()
    killed.close()
    assert scene.ended("alice") == ("logout", "disconnect")
    assert scene.ended("bob") == ("lost", "closed")
    assert scene.ended("carol") == ("lost", "keepAlive")
    silent.close()
    assert [scene.record(user)["ip_addr"] for user in ("alice", "bob", "carol")] == [
        "127.0.0.2",
        "127.0.0.3",
        "127.0.0.1",
    ]
    login = scene.operator.wait_for_event("alice", "connectionLogin")
    assert login["ipAddr"] == "127.0.0.2"
    logout = scene.operator.wait_for_event("alice", "connectionLogout")
    assert (logout["reason"], logout["cause"]) == ("logout", "disconnect")
    scene.operator.wait_for_state("alice", "offline")


def test_will_and_logout_have_the_last_word_without_a_second_event(scene: Scene) -> None:
    """The will of a connection whose end the broker has told, and a logout before its DISCONNECT: one event each,
    the reason is the message's, and the cause is kept beside it.
    """
    will = json.dumps({"connectionId": "ca"}).encode()
    killed = scene.come("alice", "a1", "ca", will=("presence/alice/a1/will", will))
    left = scene.come("bob", "b1", "cb")
    killed.close()
    left.publish("presence/bob/b1/logout", b'{"connectionId":"cb"}')
    left.disconnect()
    until(lambda: scene.record("bob")["cause"], "the cause of bob's")
    scene.mark("dave")
    assert scene.ended("alice") == ("lost", "closed")
    assert scene.ended("bob") == ("logout", "disconnect")
    assert not scene.record("alice")["told"]
    for user in ("alice", "bob"):
        scene.operator.wait_for_state(user, "offline")
        assert [name for name, _ in scene.operator.events(user)].count("connectionLogout") == 1


def test_takeover_by_the_same_user_has_no_gap(scene: Scene) -> None:
    """The new login supersedes, the cause is noted; nobody sees the user go. The late line of a WebSocket that was
    taken over ends nothing, and the line of the new connection does.
    """
    first = scene.come("alice", "a1", "c1")
    second = scene.come("alice", "a1", "c2")
    assert scene.ended("alice", "c1") == ("superseded", "takeover")
    scene.mark("dave")
    assert scene.record("alice", "c2")["reason"] is None
    assert "userOffline" not in dict(scene.operator.events("alice"))
    first.close()
    second.disconnect()
    assert scene.ended("alice", "c2") == ("logout", "disconnect")


def websocket(port: int, user: str, client_id: str) -> mqtt.Client:
    """Connect by WebSocket, which mosquitto logs in its own way."""
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id, transport="websockets", reconnect_on_failure=False
    )
    client.username_pw_set(user, "")
    client.connect("127.0.0.1", port)
    client.loop_start()
    until(client.is_connected, f"{user} is connected by WebSocket")
    return client


def test_late_line_of_a_websocket_that_was_taken_over_ends_nothing(tmp_path: Path, sqlite_url: str) -> None:
    """Who had the id before by WebSocket is logged as closed after the new one has connected: it must not end
    the new one's record.
    """
    port = free_port()
    more = f"log_dest topic\nlistener {port} 127.0.0.1\nprotocol websockets"
    with Mosquitto(tmp_path / "mosquitto", more) as broker, bridge(broker, sqlite_url):
        until(lambda: listens(port), "it listens for WebSocket, too")
        play_late_line(broker, Scene(broker, sqlite_url), websocket(port, "mallory", "a1"))


def play_late_line(broker: Mosquitto, scene: Scene, theirs: mqtt.Client) -> None:
    before = whole_log(broker).count("Client a1 closed its connection")
    ours = scene.come("alice", "a1", "c1")
    until(
        lambda: (
            whole_log(broker).count("Client a1 closed its connection") > before
            or "[127.0.0.1" in broker.log()
        ),
        f"the late line\n{broker.log()}",
    )
    scene.mark("dave")
    assert scene.record("alice")["reason"] is None
    assert scene.operator.status("alice")["state"] == "online"
    theirs.loop_stop()
    ours.disconnect()
    assert scene.ended("alice") == ("logout", "disconnect")


def test_late_line_after_a_restart_of_the_bridge_ends_nothing(tmp_path: Path, sqlite_url: str) -> None:
    """Who had the id before by WebSocket and does not read keeps that line back, until the bridge has been restarted;
    and the broker, which gets no acknowledgement for it, delivers it to the one after that, too.
    """
    port = free_port()
    more = f"log_dest topic\nlistener {port} 127.0.0.1\nprotocol websockets"
    with Mosquitto(tmp_path / "mosquitto", more) as broker:
        with bridge(broker, sqlite_url):
            until(lambda: listens(port), "it listens for WebSocket, too")
            scene = Scene(broker, sqlite_url)
            theirs = websocket(port, "mallory", "a1")
            stop_reading(broker, theirs)
            ours = scene.come("alice", "a1", "c1")
            scene.mark("dave")
        late = "Client a1 closed its connection."
        is_2_1 = "[127.0.0.1" in broker.log()
        assert late not in whole_log(broker)
        with bridge(broker, sqlite_url) as running:
            acknowledge_nothing(running)
            theirs.socket().close()
            until(lambda: is_2_1 or late in whole_log(broker), "the late line")
            scene.mark("erin")
        with bridge(broker, sqlite_url):
            scene.mark("frank")
            assert scene.record("alice")["reason"] is None
            ours.disconnect()
            assert scene.ended("alice") == ("logout", "disconnect")


def stop_reading(broker: Mosquitto, client: mqtt.Client) -> None:
    """Have the broker wait with more for it than the kernel takes."""
    client.subscribe("flood")
    until(lambda: "flood (QoS 0)" in whole_log(broker), "it has subscribed")
    client.loop_stop()
    flood = broker.client("bob", "b1")
    for _ in range(20):
        flood.publish("flood", bytes(1_000_000))


def acknowledge_nothing(running: BridgeThread) -> None:
    """Let the broker get no acknowledgement of what is committed from now on."""
    running.links[-1].ack = lambda _messages: None  # type: ignore[method-assign]


def test_takeover_that_was_heard_twice_ends_the_record(
    broker: Mosquitto, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database fails, then the connection with the broker breaks: what was heard and not committed comes again,
    and who was thrown out by another user's client does not stay online.
    """
    with bridge(broker, sqlite_url) as running:
        scene = Scene(broker, sqlite_url)
        scene.come("alice", "a1", "c1")
        scene.mark("dave")

        def fail() -> None:
            raise StoreError("it is locked")

        with monkeypatch.context() as patch:
            patch.setattr(running.store, "transaction", fail)
            theirs = broker.client("mallory", "a1")
            theirs.publish("presence/mallory/a1/login")
            until(
                lambda: (
                    [type(event) for entry in [*running.parts.pending.messages] for event in entry.events][
                        -1:
                    ]
                    == [Login]
                ),
                "lines and login are heard",
            )
            granted = heard_log(broker)
            running.links[-1]._client.socket().shutdown(socket.SHUT_RDWR)
            until(lambda: heard_log(broker) > granted, "the bridge is back")
        assert scene.ended("alice") == ("lost", "takeover")
        scene.operator.wait_for_state("alice", "offline")
        theirs.close()


def test_takeover_by_another_user_ends_the_record_truly(scene: Scene) -> None:
    """Who is thrown out by another user's client of the same id is gone, and comes back as itself."""
    ours = scene.come("alice", "a1", "c1")
    theirs = scene.come("mallory", "a1", "m1", address="127.0.0.9")
    assert scene.ended("alice") == ("lost", "takeover")
    scene.operator.wait_for_state("alice", "offline")
    again = scene.come("alice", "a1", "c2")
    assert scene.record("alice", "c2")["ip_addr"] == "127.0.0.1"
    assert scene.ended("mallory") == ("lost", "takeover")
    theirs.close()
    ours.close()
    scene.mark("dave")
    assert scene.record("alice", "c2")["reason"] is None
    again.close()


HOSTILE = [
    "a1 (p2, c1, k60, u'alice').",
    "a1 (p2, c1, k60, u'alice",
    "x: New client connected from 127.0.0.9:1 as a1 (p2, c1, k60, u'alice').",
    "a1 disconnected.",
    "a1 closed its connection.",
    "a1 has exceeded timeout, disconnecting.",
    "a1 already connected, closing old connection.",
    "x: Client a1 disconnected",
    "a1 [127.0.0.1:{port}]",
    "a1 [127.0.0.1:{port}] disconnected: exceeded timeout.",
    " a1",
    "a1 ",
    "A1",
    "a1" + " " * 900,
    "a1 disconnected." + "x" * 960,
]


def test_hostile_client_ids_change_nothing_for_others(broker: Mosquitto, scene: Scene) -> None:
    """Whatever a client calls itself, connects as, and does: the victim's record, address and status stay. Nor
    does a name of a user, or somebody without a password who claims the victim's id.
    """
    victim = broker.client("alice", "a1")
    port = victim._socket.getsockname()[1]
    scene.login(victim, "alice", "a1", "c1")
    before = scene.record("alice")
    for client_id in HOSTILE:
        for user in ("mallory", "x') (p2, c1, k60, u'alice", "alice').", "x (p2, c1, k60, u'alice"):
            theirs = Client(broker.port, user, client_id.format(port=port), address="127.0.0.9")
            theirs.publish(f"presence/mallory/{len(client_id)}/login")
            (theirs.close if len(user) % 2 else theirs.disconnect)()
    with pytest.raises((AssertionError, ConnectionError)):
        Client(broker.port, "", "a1", will=("bad/+/topic", b""))  # refused before it is let in
    scene.mark("dave")
    assert scene.record("alice") == before
    assert scene.operator.status("alice")["state"] == "online"
    scene.login(victim, "alice", "a1", "c1")  # and it is still known by its own address
    scene.mark("erin")
    assert scene.record("alice")["ip_addr"] == "127.0.0.1"
    victim.disconnect()
    assert scene.ended("alice") == ("logout", "disconnect")


def test_who_came_before_a_restart_of_the_bridge_ends_after_it(broker: Mosquitto, database: str) -> None:
    """Ends are understood for those who logged in before the bridge was restarted, and those in between too."""
    with bridge(broker, database):
        scene = Scene(broker, database)
        stays = scene.come("alice", "a1", "ca")
        goes = scene.come("bob", "b1", "cb")
    goes.close()
    broker.client("carol", "c1", address="127.0.0.4").publish("presence/carol/c1/login")
    with bridge(broker, database):
        assert scene.ended("bob") == ("lost", "closed")
        until(lambda: scene.records("carol"), "carol's login")
        assert scene.record("carol")["ip_addr"] == "127.0.0.4"
        stays.close()
        assert scene.ended("alice") == ("lost", "closed")


def test_source_none_listens_to_nothing(broker: Mosquitto, sqlite_url: str) -> None:
    """No address, no cause; and the subscriptions of an earlier run are given up."""
    with bridge(broker, sqlite_url):
        until(lambda: heard_log(broker), "the bridge listens to the log")
    granted = heard_log(broker)
    with bridge(broker, sqlite_url, source="none"):
        until(lambda: "$SYS/broker/log/N\n" in whole_log(broker).partition("UNSUBSCRIBE")[2], "it gives up")
        recorder: Recorder = broker.recorder()
        broker.client("alice", "a1").publish("presence/alice/a1/login")
        recorder.wait_for_event("alice", "connectionLogin")
        assert "ipAddr" not in recorder.wait_for_event("alice", "connectionLogin")
    assert heard_log(broker) == granted
