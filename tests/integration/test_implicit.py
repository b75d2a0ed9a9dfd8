"""Clients without presence messages, counted by the broker's reports (I1), on mosquitto and the embedded broker."""

import asyncio
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from mqtt_presence.adapters.registry import EMBEDDED
from mqtt_presence.bridge.config import BridgeConfig
from mqtt_presence.cli.app import app
from tests.support.bridges import BridgeThread
from tests.support.brokers import Embedded, Mosquitto
from tests.support.mqtt import Client
from tests.support.postgres import query
from tests.support.recorder import Recorder
from tests.support.waiting import until

SOON_S = 0.2
"""The time that a client has to log in, where a test does not measure it."""
ROOT = Path(__file__).parents[2]


class Scene:
    """A broker, a bridge that counts clients by its reports, and an operator."""

    def __init__(self, broker: Mosquitto | Embedded, database: str) -> None:
        self.broker, self.database = broker, database
        self.bridges = ExitStack()
        self.operator: Recorder

    def start(self, **settings: Any) -> BridgeThread:
        """Start a bridge."""
        given: dict[str, Any] = {}
        configure: Callable[[BridgeConfig], BridgeConfig] = lambda config: config  # noqa: E731
        if isinstance(self.broker, Embedded):  # as `up` does
            given["address_of"] = self.broker.broker.client_address
            configure = lambda config: replace(config, source=EMBEDDED)  # noqa: E731
        settings = {"implicit": "username", "implicit_after": f"{SOON_S}s"} | settings
        bridge = BridgeThread(given, configure, broker=self.broker.url, database=self.database, **settings)
        self.bridges.enter_context(bridge)
        until(lambda: self.hears(bridge), f"the bridge reads reports\n{self.broker.log()}")
        return bridge

    def hears(self, bridge: BridgeThread) -> bool:
        if isinstance(self.broker, Embedded):
            return bridge.parts.connections.lists_read > 0
        return self.broker.log().count("$SYS/broker/log/E (QoS 1)") > 0

    def stop(self) -> None:
        """Stop the bridge."""
        self.bridges.close()

    def records(self, user: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        rows = query(self.database, "SELECT * FROM connections ORDER BY id")
        return [
            row
            for row in rows
            if user in {None, row["user_id"]} and all(row[name] == value for name, value in fields.items())
        ]

    def record(self, user: str, **fields: Any) -> dict[str, Any]:
        """Wait for the one record of a user."""
        until(lambda: self.records(user, **fields), f"a record of {user}\n{self.broker.log()[-4000:]}")
        (found,) = self.records(user, **fields)
        return found

    def end_of(self, user: str, **fields: Any) -> tuple[str, str | None]:
        """Wait for the end of the one record of a user."""
        until(
            lambda: any(row["reason"] for row in self.records(user, **fields)),
            f"the end of {user}\n{self.broker.log()[-4000:]}",
        )
        (found,) = self.records(user, **fields)
        return found["reason"], found["cause"]

    def mark(self, name: str) -> None:
        """Wait until the bridge has processed all that was sent and reported, and has opened what is due."""
        time.sleep(SOON_S)
        self.broker.say(name, "marker", "login")
        self.record(name)


@contextmanager
def on(kind: str, directory: Path, database: str) -> Iterator[Scene]:
    broker = (
        Mosquitto(directory / "mosquitto", "log_dest topic") if kind == "mosquitto" else Embedded(ws=True)
    )
    with broker:
        scene = Scene(broker, database)
        try:
            yield scene
        finally:
            scene.stop()


@pytest.fixture(params=["mosquitto", "embedded"])
def idle_scene(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str) -> Iterator[Scene]:
    """A broker without a bridge."""
    with on(request.param, tmp_path, sqlite_url) as scene:
        yield scene


@pytest.fixture
def scene(idle_scene: Scene) -> Scene:
    """A broker with a bridge and an operator."""
    idle_scene.start()
    idle_scene.operator = idle_scene.broker.recorder()
    return idle_scene


# Stock clients.


@contextmanager
def process(*command: str) -> Iterator[Callable[[], None]]:
    """Run a stock client; return what kills it."""
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield running.kill
    finally:
        running.kill()
        running.communicate(timeout=20)


def mosquitto_sub(
    port: int, user: str = "kitchen", client_id: str = "sub-1"
) -> AbstractContextManager[Callable[[], None]]:
    return process("mosquitto_sub", "-p", str(port), "-u", user, "-i", client_id, "-t", "status/+")


def mqtt_js(port: int) -> AbstractContextManager[Callable[[], None]]:
    script = (
        f'import("mqtt").then(({{default: m}}) => m.connect("mqtt://127.0.0.1:{port}", '
        '{username: "kitchen", clientId: "js-1", protocolVersion: 4}))'
    )
    return process("node", "-e", script)


@contextmanager
def with_paho(port: int) -> Iterator[Callable[[], None]]:
    client = paho.Client(CallbackAPIVersion.VERSION2, "paho-1")
    client.username_pw_set("kitchen", "")
    client.connect("127.0.0.1", port)
    client.loop_start()

    def leave() -> None:
        client.disconnect()
        client.loop_stop()

    yield leave
    leave()


@contextmanager
def with_aiomqtt(port: int) -> Iterator[Callable[[], None]]:
    leaving = threading.Event()

    async def stay() -> None:
        async with aiomqtt.Client("127.0.0.1", port, username="kitchen", identifier="aio-1"):
            await asyncio.to_thread(leaving.wait, 60)

    thread = threading.Thread(target=lambda: asyncio.run(stay()))
    thread.start()

    def leave() -> None:
        leaving.set()
        thread.join(20)

    yield leave
    leave()


@pytest.mark.parametrize(
    ("client", "client_id", "end"),
    [
        (mosquitto_sub, "sub-1", ("lost", "closed")),
        (mqtt_js, "js-1", ("lost", "closed")),
        (with_paho, "paho-1", ("logout", "disconnect")),
        (with_aiomqtt, "aio-1", ("logout", "disconnect")),
    ],
    ids=["mosquitto_sub", "mqtt.js", "paho", "aiomqtt"],
)
def test_stock_client_is_seen_and_its_end(
    idle_scene: Scene, client: Callable[[int], Any], client_id: str, end: tuple[str, str]
) -> None:
    """A client without a line of presence code is online within `implicit_after` + 1 s of its connect, with user and
    address; at its end with reason and cause. Its connect is the user's last login.
    """
    idle_scene.start(implicit_after="1s")
    operator = idle_scene.broker.recorder()
    with client(idle_scene.broker.port) as leave:
        until(lambda: connected(idle_scene, client_id), f"{client_id} connects", 30)
        began = time.monotonic()
        status = operator.wait_for_state("kitchen", "online")
        took = time.monotonic() - began
        found = idle_scene.record("kitchen")
        assert (found["client_id"], found["ip_addr"], found["origin"]) == (client_id, "127.0.0.1", "broker")
        login = operator.wait_for_event("kitchen", "connectionLogin")
        assert (login["clientId"], login["ipAddr"], "userAgent" in login) == (client_id, "127.0.0.1", False)
        assert status["lastLogin"]["date"] == login["loginTime"]
        leave()
        assert idle_scene.end_of("kitchen") == end
    operator.wait_for_state("kitchen", "offline")
    logout = operator.wait_for_event("kitchen", "connectionLogout")
    assert (logout["reason"], logout["cause"]) == end
    assert took < 2, f"seen after {took:.2f} s"


def connected(scene: Scene, client_id: str) -> bool:
    if isinstance(scene.broker, Embedded):
        return client_id in scene.broker.broker._broker.router.sessions
    return f" as {client_id} " in whole_log(scene.broker)


def whole_log(broker: Mosquitto | Embedded) -> str:
    assert isinstance(broker, Mosquitto)
    return (broker.directory / "log").read_text(errors="replace")


# One person.


def test_takeover_is_one_person(scene: Scene) -> None:
    """A client that connects again with its id stays online: one connection follows the other, without a gap, and the
    last one ends with reason and cause.
    """
    first = scene.broker.client("alice", "a1")
    scene.record("alice")
    second = scene.broker.client("alice", "a1")
    until(lambda: len(scene.records("alice")) == 2, "the second record")
    scene.mark("dave")
    old, new = scene.records("alice")
    assert (old["reason"], old["cause"], new["reason"]) == ("superseded", "takeover", None)
    assert scene.operator.status("alice")["connections"] == 1
    assert "userOffline" not in dict(scene.operator.events("alice"))
    first.close()
    second.close()
    scene.operator.wait_for_state("alice", "offline")
    assert [(r["reason"], r["cause"]) for r in scene.records("alice")][1] == ("lost", "closed")


def test_client_that_goes_at_once_after_a_takeover_ends(scene: Scene) -> None:
    """The second connection is gone before its record would open: the first record ends with it (G1, G2)."""
    scene.broker.client("alice", "a1")
    scene.record("alice")
    scene.broker.client("alice", "a1").disconnect()
    assert scene.end_of("alice") == ("logout", "disconnect")
    scene.operator.wait_for_state("alice", "offline")


def test_client_that_logs_in_has_its_own_record_only(scene: Scene) -> None:
    """A login within the time is the only record; a later one supersedes the broker's without a gap."""
    soon = scene.broker.client("alice", "a1")
    soon.publish("presence/alice/a1/login", b'{"connectionId":"c1","userAgent":"demo"}')
    late = scene.broker.client("bob", "b1")
    scene.record("bob", origin="broker")
    late.publish("presence/bob/b1/login", b'{"userAgent":"demo"}')
    scene.record("bob", origin="login")
    scene.mark("dave")
    assert [(r["connection_id"], r["origin"], r["reason"]) for r in scene.records("alice")] == [
        ("c1", "login", None)
    ]
    assert [(r["origin"], r["reason"]) for r in scene.records("bob")] == [
        ("broker", "superseded"),
        ("login", None),
    ]
    assert "userOffline" not in dict(scene.operator.events("bob"))
    (user,) = query(scene.database, "SELECT * FROM users WHERE user_id = 'bob'")
    assert (user["connections"], user["last_login_user_agent"]) == (1, "demo")
    late.close()
    assert scene.end_of("bob", origin="login") == ("lost", "closed")
    scene.operator.wait_for_state("bob", "offline")


def test_activity_with_an_id_supersedes_and_without_one_is_a_sign_of_life(scene: Scene) -> None:
    """A client that sends heartbeats without ever logging in stays one connection."""
    named, nameless = scene.broker.client("alice", "a1"), scene.broker.client("bob", "b1")
    scene.record("alice")
    before = scene.record("bob")
    named.publish("presence/alice/a1/activity", b'{"connectionId":"c1"}')
    nameless.publish("presence/bob/b1/activity")
    scene.record("alice", connection_id="c1")
    until(lambda: scene.record("bob")["last_seen"] > before["last_seen"], "bob's sign of life")
    assert scene.end_of("alice", origin="broker") == ("superseded", None)
    assert [scene.operator.wait_for_state(u, "online")["connections"] for u in ("alice", "bob")] == [1, 1]


def test_nobody_is_monitored_or_silent_without_a_setting(idle_scene: Scene) -> None:
    """A connected client without messages is neither idle nor ended; with `expire_after` it ends (B2)."""
    idle_scene.start(idle_threshold="0.1s")
    idle_scene.broker.client("alice", "a1")
    idle_scene.record("alice")
    time.sleep(0.5)
    idle_scene.mark("dave")
    assert (idle_scene.record("alice")["idle"], idle_scene.record("alice")["reason"]) == (None, None)
    idle_scene.stop()
    idle_scene.start(expire_after="0.3s")
    idle_scene.broker.client("bob", "b1")
    assert idle_scene.end_of("bob") == ("timeout", None)


# Users.


def test_client_ids_as_users(idle_scene: Scene) -> None:
    """With `client_id` each client is a user of its own; a login under another name takes its place; a takeover by
    another name stays the same user on a broker that lets it happen.
    """
    idle_scene.start(implicit="client_id", implicit_match="(lamp|plug).*")
    operator = idle_scene.broker.recorder()
    lamp = idle_scene.broker.client("fleet", "lamp-1")
    idle_scene.broker.client("fleet", "plug-1")
    idle_scene.broker.client("fleet", "other")
    operator.wait_for_state("plug-1", "online")
    operator.wait_for_state("lamp-1", "online")
    lamp.publish("presence/fleet/lamp-1/login", b'{"connectionId":"c1"}')
    assert idle_scene.end_of("lamp-1") == ("superseded", None)
    operator.wait_for_state("fleet", "online")
    operator.wait_for_state("lamp-1", "offline")
    idle_scene.mark("dave")
    assert {r["user_id"] for r in idle_scene.records(origin="broker")} == {"lamp-1", "plug-1"}
    lamp.close()
    until(lambda: idle_scene.records("fleet")[0]["reason"], "the end of the login")
    if not idle_scene.broker.one_owner_of_a_client_id:
        idle_scene.broker.client("other", "plug-1")
        until(lambda: len(idle_scene.records("plug-1")) == 2, "the takeover")
        assert "userOffline" not in dict(operator.events("plug-1"))


def test_clients_without_a_user_name(tmp_path: Path, sqlite_url: str) -> None:
    """With `client_id` a client without a user name counts; with `username` it does not. mosquitto's lines differ."""
    with on("mosquitto", tmp_path, sqlite_url) as scene:
        scene.start(implicit="client_id")
        command = ("mosquitto_sub", "-p", str(scene.broker.port), "-i", "lamp", "-t", "x")
        with process(*command) as kill:
            assert scene.record("lamp")["ip_addr"] == "127.0.0.1"
            kill()
            assert scene.end_of("lamp") == ("lost", "closed")
        scene.stop()
        scene.start()
        with process(*command):
            until(lambda: whole_log(scene.broker).count(" as lamp ") == 2, "it connects")
            scene.mark("dave")
            assert len(scene.records("lamp")) == 1


def test_who_never_counts(scene: Scene) -> None:
    """The bridge, a watcher, `verify` and `check` are not counted; nor is a page that only looks."""
    own = ["watch-0123456789abcdef", "alice-check-client-0123abcd-17"]
    for client_id in own:
        scene.broker.client("alice", client_id)
    scene.broker.client("alice", "watch-tower")
    scene.record("alice", client_id="watch-tower")
    scene.mark("dave")
    assert {r["client_id"] for r in scene.records(origin="broker")} <= {"watch-tower", "marker"} | {
        r["client_id"] for r in scene.records("operator")
    }
    assert not scene.records("bridge")


def test_no_setting_no_record(idle_scene: Scene) -> None:
    """Without `implicit` nobody is counted by the broker's word; and when it is switched off, its records end."""
    idle_scene.start()
    idle_scene.broker.client("alice", "a1")
    idle_scene.record("alice")
    idle_scene.stop()
    idle_scene.start(implicit="off")
    assert idle_scene.end_of("alice") == ("unconfirmed", None)
    idle_scene.broker.client("bob", "b1")
    idle_scene.mark("dave")
    assert not idle_scene.records("bob")


HOSTILE = [
    "a1 (p2, c1, k60, u'alice').",
    "a1 (p2, c1, k60, u'alice",
    "a1 (p2, c1, k60).",
    "x: New client connected from 127.0.0.9:1 as a1 (p2, c1, k60, u'alice').",
    "x: New client connected from 127.0.0.9:1 as bob (p2, c1, k60",
    "New client connected from 127.0.0.9:1 as bob (p2, c1, k60, u'bob').",
    "New connection from 127.0.0.1:{port} on port 1883.",
    "a1 disconnected.",
    "a1 closed its connection.",
    "a1 has exceeded timeout, disconnecting.",
    "a1 already connected, closing old connection.",
    "x: Client a1 disconnected",
    "a1 [127.0.0.1:{port}]",
    "a1 [127.0.0.1:{port}] disconnected: exceeded timeout.",
    "a1 ",
    "A1",
    "bob disconnected." + "x" * 960,
]
HOSTILE_USERS = ("mallory", "x') (p2, c1, k60, u'alice", "alice').", "bob (p2, c1, k60).")


@pytest.mark.parametrize("mode", ["username", "client_id"])
def test_hostile_names_open_and_end_nothing_for_others(tmp_path: Path, sqlite_url: str, mode: str) -> None:
    """Whatever a client calls itself, whether it stays or goes, and is let in or not: it appears under its own names
    or not at all, and the victim's record stays.
    """
    with mosquitto_scene(tmp_path, sqlite_url) as scene:
        scene.start(implicit=mode)
        victim = scene.broker.client("alice", "a1")
        name = "alice" if mode == "username" else "a1"
        before = scene.record(name)
        port = victim._socket.getsockname()[1]
        own: set[tuple[str, str]] = {(name, "a1")}
        for client_id in (each.format(port=port) for each in HOSTILE):
            for user in HOSTILE_USERS:
                theirs = Client(scene.broker.port, user, client_id, address="127.0.0.9")
                own.add((user if mode == "username" else client_id, client_id))
                if len(user) % 2:
                    theirs.close()
        with pytest.raises((AssertionError, ConnectionError)):
            Client(scene.broker.port, "", "a1", will=("bad/+/topic", b""))  # refused before it is let in
        scene.mark("marker")
        opened = {(r["user_id"], r["client_id"]) for r in scene.records(origin="broker")}
        assert opened <= own | {("publisher", "publisher")}
        assert scene.record(name, client_id="a1") == before
        victim.disconnect()
        assert scene.end_of(name, client_id="a1") == ("logout", "disconnect")


# Many.


def test_many_at_once(idle_scene: Scene) -> None:
    """1,000 clients connect at once and are cut at once: each is online once, and ends `lost`, `closed`."""
    idle_scene.start()
    count, users = 1000, 10
    clients = [Client(idle_scene.broker.port, f"u{n % users}", f"c{n}") for n in range(count)]
    until(lambda: len(idle_scene.records()) == count, "all are seen", 60)
    rows = query(idle_scene.database, "SELECT user_id, connections FROM users WHERE state = 'online'")
    assert {row["user_id"]: row["connections"] for row in rows} == {f"u{n}": 100 for n in range(users)}
    for client in clients:
        client.close()
    until(lambda: len(idle_scene.records(reason="lost", cause="closed")) == count, "all have ended", 60)
    assert query(idle_scene.database, "SELECT * FROM users WHERE state <> 'offline'") == []
    assert len(idle_scene.records()) == count


def test_check_says_whether_the_reports_suffice(tmp_path: Path) -> None:
    """With the log as topics, connects and ends are reported, with user names; without it, nobody is."""
    found = []
    for index, more in enumerate(("log_dest topic", "")):
        with Mosquitto(tmp_path / str(index), more) as broker:
            flags = [
                "--broker",
                broker.url,
                "--client",
                f"mqtt://alice:x@127.0.0.1:{broker.port}",
                "--only",
                "reports",
            ]
            run = CliRunner().invoke(app, ["check", *flags])
            found += [line for line in run.stdout.splitlines() if re.match(r"\w+ +reports ", line)]
    assert found[0].startswith("pass")
    assert "with user names" in found[0]
    assert found[1].startswith("note")


# After an absence of the bridge.


def test_list_of_the_embedded_broker_decides(tmp_path: Path, sqlite_url: str) -> None:
    """The bridge is away while stock clients come, go and stay, and its session is lost. Then the broker's list ends
    the records of those who went, opens those of who came, and leaves the others as they are.
    """
    with on("embedded", tmp_path, sqlite_url) as scene, ExitStack() as stock:

        def begin(user: str) -> Callable[[], None]:
            return stock.enter_context(mosquitto_sub(scene.broker.port, user, f"{user}-1"))

        def is_there(user: str) -> bool:
            return f"{user}-1" in scene.broker.broker._broker.router.sessions

        scene.start()
        stays, goes, again = (begin(user) for user in ("alice", "bob", "carol"))
        for user in ("alice", "bob", "carol"):
            scene.record(user)
        scene.stop()
        forget_bridge(scene)
        goes()
        again()
        until(lambda: not is_there("bob") and not is_there("carol"), "bob and carol are gone")
        for user in ("carol", "dora"):
            begin(user)
        passing = begin("erin")
        until(lambda: all(is_there(user) for user in ("carol", "dora", "erin")), "others have come")
        passing()
        until(lambda: not is_there("erin"), "erin is gone, too")
        scene.start()
        assert scene.end_of("bob") == ("lost", None)
        assert scene.record("dora")["ip_addr"] == "127.0.0.1"
        until(lambda: len(scene.records("carol")) == 2, "carol's second record")
        scene.mark("marker")
        assert [r["reason"] for r in scene.records("carol")] == ["superseded", None]
        assert [r["reason"] for r in scene.records("alice")] == [None]
        assert scene.records("erin") == []
        assert all(r["unconfirmed_since"] is None for r in scene.records())
        stays()
        assert scene.end_of("alice") == ("lost", "closed")


def forget_bridge(scene: Scene) -> None:
    """Have the embedded broker lose the bridge's session, with all that waits in it."""
    router = scene.broker.broker._broker.router

    async def discard() -> None:
        for session in [session for session in router.sessions.values() if session.bridge]:
            router.discard(session)

    scene.broker.broker.submit(discard()).result(10)


def test_lost_report_of_the_embedded_broker_is_repaired(tmp_path: Path, sqlite_url: str) -> None:
    """A report that the bridge's queue drops leaves a gap in the numbers; the bridge asks for the list."""
    with on("embedded", tmp_path, sqlite_url) as scene:
        scene.start()
        goes = scene.broker.client("bob", "b1")
        scene.record("bob")
        router = scene.broker.broker._broker.router
        route, router.reports._route = router.reports._route, lambda _message: False
        goes.close()
        until(lambda: "b1" not in router.sessions, "bob is gone")
        router.reports._route = route
        scene.broker.client("alice", "a1")
        assert scene.end_of("bob") == ("lost", None)
        scene.record("alice")


@contextmanager
def mosquitto_scene(directory: Path, database: str) -> Iterator[Scene]:
    with Mosquitto(directory / "mosquitto", "log_dest topic\nsys_interval 1") as broker:
        scene = Scene(broker, database)
        try:
            yield scene
        finally:
            scene.stop()


def test_mosquitto_keeps_reports_for_a_short_absence(tmp_path: Path, sqlite_url: str) -> None:
    """The log's lines of a short absence decide: nobody is unconfirmed, and everybody is as they are."""
    with mosquitto_scene(tmp_path, sqlite_url) as scene:
        scene.start()
        goes, stays = scene.broker.client("bob", "b1"), scene.broker.client("alice", "a1")
        scene.record("bob")
        scene.record("alice")
        scene.stop()
        goes.close()
        scene.broker.client("carol", "c1")
        scene.start()
        assert scene.end_of("bob") == ("lost", "closed")
        assert scene.record("carol")["ip_addr"] == "127.0.0.1"
        scene.mark("marker")
        assert [r["unconfirmed_since"] for r in scene.records()] == [None] * len(scene.records())
        stays.disconnect()
        assert scene.end_of("alice") == ("logout", "disconnect")


def test_absence_of_more_than_20_seconds_counts_as_lost_reports(tmp_path: Path, sqlite_url: str) -> None:
    """Mosquitto drops log lines that wait for longer, although it keeps the bridge's session. Then implicit records
    are unconfirmed until the next report about the client; and an explicit client's connection counts as unknown, so
    that nobody gets another connection's address or cause.
    """
    with mosquitto_scene(tmp_path, sqlite_url) as scene, ExitStack() as stock:

        def begin(user: str) -> Callable[[], None]:
            return stock.enter_context(mosquitto_sub(scene.broker.port, user, f"{user}-1"))

        scene.start()
        fay, gus = begin("fay"), begin("gus")
        erin = scene.broker.client("erin", "erin-1")
        erin.publish("presence/erin/erin-1/login", b'{"connectionId":"e1"}')
        for user in ("fay", "gus", "erin"):
            assert scene.record(user)["ip_addr"] == "127.0.0.1"
        goes, stays, told = (scene.broker.client(user, f"{user}-1") for user in ("bob", "alice", "carol"))
        told.publish("presence/carol/carol-1/login", b'{"connectionId":"c1"}')
        for user in ("bob", "alice", "carol"):
            scene.record(user)
        scene.stop()
        goes.close()
        told.close()
        gus()
        hal = begin("hal")
        lines = (" as hal-1 ", "Client gus-1 closed")
        until(lambda: all(line in whole_log(scene.broker) for line in lines), "the lines are written")
        time.sleep(21.5)
        back = scene.broker.client("carol", "carol-1", address="127.0.0.2")
        scene.start()
        until(lambda: scene.record("alice")["unconfirmed_since"], "alice is in doubt")
        # The line about bob has expired; that about carol's new connection has not.
        assert (scene.record("bob")["reason"], scene.record("bob")["unconfirmed_since"] is None) == (
            None,
            False,
        )
        assert "?" in users(scene, "alice")
        assert "?" not in users(scene, "carol")
        until(lambda: len(scene.records("carol")) == 2, "carol's new connection")
        old, new = scene.records("carol")
        assert (old["reason"], new["origin"], new["ip_addr"]) == ("superseded", "broker", "127.0.0.2")
        assert old["cause"] is None
        # Stock clients: one that stayed, one that went, one that came and whose line has expired.
        until(lambda: all(scene.record(user)["unconfirmed_since"] for user in ("fay", "gus")), "doubt")
        assert scene.records("hal") == []
        fay()
        assert scene.end_of("fay") == ("lost", "closed")
        begin("gus")
        until(lambda: len(scene.records("gus")) == 2, "gus comes again")
        assert [r["reason"] for r in scene.records("gus")] == ["superseded", None]
        hal()
        begin("hal")
        assert scene.record("hal")["unconfirmed_since"] is None
        is_unknown_after_the_absence(scene, erin)
        stays.disconnect()
        assert scene.end_of("alice") == ("logout", "disconnect")
        again = scene.broker.client("bob", "bob-1")
        until(lambda: len(scene.records("bob")) == 2, "bob's new connection")
        assert [(r["reason"], r["unconfirmed_since"] is None) for r in scene.records("bob")][1] == (
            None,
            True,
        )
        back.close()
        again.close()


def is_unknown_after_the_absence(scene: Scene, erin: Client) -> None:
    """Check that the next login of an explicit client that stayed has no address, and its end no cause."""
    erin.publish("presence/erin/erin-1/login", b'{"connectionId":"e2"}')
    assert scene.record("erin", connection_id="e2")["ip_addr"] is None
    erin.publish("presence/erin/erin-1/logout", b'{"connectionId":"e2"}')
    erin.disconnect()
    assert scene.end_of("erin", connection_id="e2") == ("logout", None)
    scene.mark("marker")
    (ended,) = scene.records("erin", connection_id="e2")
    assert (ended["reason"], ended["cause"], ended["ip_addr"]) == ("logout", None, None)


def users(scene: Scene, name: str) -> str:
    """Return the line of a user that `mqtt-presence users` prints."""
    command = [sys.executable, "-m", "mqtt_presence", "users", f"--database={scene.database}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return next(line for line in printed.splitlines() if line.startswith(name))


def test_unconfirmed_records_end_after_the_time_to_keep_them(tmp_path: Path, sqlite_url: str) -> None:
    """Where no report comes any more, the doubt ends with `implicit_keep`."""
    with mosquitto_scene(tmp_path, sqlite_url) as scene:
        scene.start()
        scene.broker.client("alice", "a1")
        scene.record("alice")
        scene.stop()
        write(scene.database, "UPDATE bridge SET value = '1000' WHERE name = 'source_until'")
        scene.start(implicit_keep="1s")
        until(lambda: scene.record("alice")["unconfirmed_since"], "alice is in doubt")
        assert scene.end_of("alice") == ("unconfirmed", None)


def write(database: str, statement: str) -> None:
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        connection.execute(statement)


def test_restart_of_the_broker_ends_who_does_not_come_back(tmp_path: Path, sqlite_url: str) -> None:
    """No connection outlives its broker: a client that does not connect again in time ends (B3), if the broker has
    kept the bridge's session, and so the reports of those who came back before the bridge.
    """
    with mosquitto_scene(tmp_path, sqlite_url) as scene:
        scene.start(confirm_within="2s")
        for user in ("alice", "bob"):
            scene.broker.client(user, f"{user}-1")
            scene.record(user)
        time.sleep(3.5)  # start times that differ by less prove no restart
        scene.broker.stop()
        scene.broker.start()
        scene.broker.client("alice", "alice-1")
        assert scene.end_of("bob") == ("unconfirmed", None)
        assert [r["reason"] for r in scene.records("alice")] == ["superseded", None]


def test_crash_of_the_broker_that_loses_the_session_leaves_doubts(tmp_path: Path, sqlite_url: str) -> None:
    """Nobody knows who came back before the bridge: open records are unconfirmed."""
    with mosquitto_scene(tmp_path, sqlite_url) as scene:
        scene.start(confirm_within="1s")
        scene.broker.client("alice", "alice-1")
        scene.record("alice")
        scene.broker.kill()
        scene.broker.wipe()
        scene.broker.start()
        scene.broker.client("alice", "alice-1")
        until(lambda: scene.record("alice")["unconfirmed_since"], "alice is in doubt")
        time.sleep(2)
        assert scene.record("alice")["reason"] is None
