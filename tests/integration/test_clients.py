"""Both clients against a real mosquitto, with a small bridge of the test's own and a proxy that cuts connections."""

import contextlib
import gc
import getpass
import json
import logging
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from mqtt_presence.client import PresenceClient, StatusWatcher, clocks
from mqtt_presence.errors import BrokerError, PresenceError
from mqtt_presence.protocol.incoming import parse
from mqtt_presence.protocol.outgoing import (
    encode_announcement,
    encode_bridge_state,
    encode_status,
    encode_time_reply,
)
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import State, Status
from tests.support.waiting import DEADLINE_S, free_port, listens, until

EXAMPLES = Path(__file__).parents[2] / "examples"
AHEAD_MS = 3_600_000
"""The fake bridge's clock is an hour ahead."""
FAST = {"reconnect_min": 0.05, "reconnect_max": 0.2}


class Mosquitto:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.ws_port = free_port()
        self.process = None
        passwords = folder / "passwords"
        passwords.touch()
        for user in ("alice", "bob", "bridge"):
            subprocess.run(
                ["mosquitto_passwd", "-b", passwords, user, "secret"], check=True, capture_output=True
            )
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nlistener {self.ws_port} 127.0.0.1\nprotocol websockets\n"
            f"user {getpass.getuser()}\nallow_anonymous false\npassword_file {passwords}\npersistence false\n"
            "log_type all\nlog_dest stderr\nmax_queued_messages 100000\n"
        )

    def start(self):
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary, "-c", self.folder / "mosquitto.conf"], stderr=log, stdout=log
            )
        until(lambda: listens(self.port), "mosquitto listens: " + (self.folder / "log").read_text())

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def url(self, user="alice", port=None):
        return f"mqtt://{user}:secret@127.0.0.1:{port or self.port}"


class Proxy:
    """Passes bytes on to the broker, until told to hold them or to cut all connections."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.holding = False
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.server.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pairs.append((near, far))
            threading.Thread(target=self._pass, args=(near, far), daemon=True).start()

    def _pass(self, near, far):
        with contextlib.suppress(OSError, ValueError):
            while True:
                for sock in select.select([near, far], [], [])[0]:
                    while self.holding:
                        time.sleep(0.002)
                        near.fileno() == -1 and near.recv(1)
                    data = sock.recv(65536)
                    if not data:
                        raise OSError
                    (far if sock is near else near).sendall(data)
        for sock in (near, far):
            sock.close()

    def cut(self):
        """Reset every connection, on both sides."""
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.shutdown(socket.SHUT_RDWR)
                    sock.close()
        self.holding = False

    def close(self):
        self.server.close()
        self.cut()


class FakeBridge:
    """Records clients' messages, answers time requests, and publishes the messages of a test."""

    def __init__(self, mosquitto: Mosquitto, prefix: str = "") -> None:
        self.topics = Topics(prefix)
        self.messages = []
        self.silent = False
        self.version = 0
        ready = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.username_pw_set("bridge", "secret")
        self.client.on_connect = lambda *_: self.client.subscribe(self.topics.inputs, 1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = self._take
        self.client.connect("127.0.0.1", mosquitto.port)
        self.client.loop_start()
        assert ready.wait(DEADLINE_S)

    def _take(self, _client, _data, message):
        name = self.topics.parse_input(message.topic)
        now = round(time.time() * 1000) + AHEAD_MS
        event = parse(name, message.payload, now)  # what the real bridge would refuse fails here
        if name.verb == "time":
            if not self.silent:
                reply = self.topics.reply(name.user_id, name.client_id)
                self.client.publish(reply, encode_time_reply(event, now), 0)
            return
        assert not message.retain
        self.messages.append((name.verb, event, message.qos))

    def of(self, verb):
        return [event for seen, event, _ in list(self.messages) if seen == verb]

    def verbs(self):
        return [verb for verb, _, _ in list(self.messages)]

    def say(self, state="online"):
        self.version += 1
        self.client.publish(
            self.topics.bridge_state, encode_bridge_state(state, self.version, 1), 1, retain=True
        )

    def announce(self, within=0):
        self.client.publish(self.topics.bridge_announce, encode_announcement(within), 1)

    def status(self, user, version, state=State.ONLINE):
        count = 0 if state is State.OFFLINE else 1
        payload = encode_status(
            user, Status(state=state, since=1, connections=count), version=version, last_seen=1
        )
        self.raw(self.topics.status(user), payload)

    def raw(self, topic, payload):
        self.client.publish(topic, payload, 1, retain=True)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory):
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def bridge(mosquitto):
    fake = FakeBridge(mosquitto)
    yield fake
    fake.raw(fake.topics.bridge_state, b"")
    for user in ("alice", "bob", "carol", "dave"):
        fake.raw(fake.topics.status(user), b"")
    fake.client.publish("presence/x/x/logout", b"", 1).wait_for_publish(DEADLINE_S)
    fake.close()


@pytest.fixture
def proxy(mosquitto):
    it = Proxy(mosquitto.port)
    yield it
    it.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    """Ends the clients' threads after every test."""
    yield
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("mqtt-presence")], "threads end")


# PresenceClient


def has_nodelay(client):
    with socket.socket(fileno=os.dup(client._logged_in.connection._client.socket().fileno())) as same:
        return same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_login_and_logout(mosquitto, bridge):
    """Entering the block logs in with all fields. Leaving it logs out with the same id, acknowledged, without a will."""
    client = PresenceClient(
        mosquitto.url(), client_id="phone", user_agent="ua", idle_threshold=60, timeout=90, meta={"room": 7}
    )
    with client:
        assert client.connected
        assert has_nodelay(client)
        connection_id = client.connection_id
        login = until(lambda: bridge.of("login"))[0]
        assert (login.user_id, login.client_id, login.connection_id) == ("alice", "phone", connection_id)
        assert (login.user_agent, login.idle_threshold_ms, login.timeout_ms) == ("ua", 60_000, 90_000)
        assert (login.meta, login.announce) == ('{"room":7}', True)
        assert login.time is None  # not synced yet: nothing is claimed
        assert client.heartbeat()
    assert not client.connected
    assert client.connection_id is None
    end = until(lambda: bridge.of("logout"))[0]
    assert end.connection_id == connection_id
    with PresenceClient(mosquitto.url("bob")):
        until(lambda: len(bridge.of("login")) == 2)
    until(lambda: len(bridge.of("logout")) == 2)
    assert bridge.verbs()[:3] == ["login", "activity", "logout"]
    assert bridge.of("will") == []
    assert [qos for verb, _, qos in bridge.messages if verb != "activity"] == [1] * 4


def test_disconnect_tells_whether_the_logout_arrived(mosquitto, bridge, proxy):
    """True if the logout was acknowledged. Otherwise there is no DISCONNECT, so that the will is published."""
    client = PresenceClient(mosquitto.url(), client_id="phone")
    client.connect()
    assert client.disconnect() is True
    assert client.disconnect() is False
    client = PresenceClient(mosquitto.url(port=proxy.port), client_id="phone")
    client.connect()
    lost = client.connection_id
    proxy.holding = True
    assert client.disconnect(timeout=0.2) is False
    proxy.cut()
    assert until(lambda: bridge.of("will"))[0].connection_id == lost
    assert len(bridge.of("logout")) == 1


def test_client_can_connect_again(mosquitto, bridge):
    """After a disconnect the same object connects again, as a new connection; while connected it refuses."""
    client = PresenceClient(mosquitto.url())
    seen = set()
    for _ in range(3):
        with client:
            seen.add(client.connection_id)
            with pytest.raises(PresenceError, match="already connected"):
                client.connect()
    assert len(seen) == 3


def test_lost_connection_comes_back_as_a_new_one(mosquitto, bridge, proxy):
    """After each cut: the will of the old connection, then a login with a new id, and its own will."""
    with PresenceClient(mosquitto.url(port=proxy.port), client_id="phone", **FAST):
        for round_ in range(1, 4):
            until(lambda n=round_: len(bridge.of("login")) == n, f"login {round_}")
            proxy.cut()
            until(lambda n=round_: len(bridge.of("will")) == n, f"will {round_}")
        until(lambda: len(bridge.of("login")) == 4)
    logins = [login.connection_id for login in bridge.of("login")]
    assert len(set(logins)) == 4
    assert [will.connection_id for will in bridge.of("will")] == logins[:3]
    assert until(lambda: bridge.of("logout"))[0].connection_id == logins[3]


def test_nothing_of_an_old_connection_is_sent_on_a_new_one(mosquitto, bridge, proxy):
    """Messages without acknowledgement are dropped with the lost connection, like its id."""
    with PresenceClient(mosquitto.url(port=proxy.port), client_id="phone", **FAST) as client:
        client.monitor._send(False, 1)
        until(lambda: len(bridge.of("activity")) == 1)
        first = client.connection_id
        proxy.holding = True
        for _ in range(30):  # more than paho keeps in flight
            assert client.monitor._send(True, 1)
        proxy.cut()
        until(lambda: client.connection_id not in (None, first))
        client.monitor._send(False, 1)
        until(lambda: len(bridge.of("activity")) == 2)
    assert [a.connection_id for a in bridge.of("activity")] == [
        login.connection_id for login in bridge.of("login")
    ]


def test_login_of_a_reconnect_tells_server_time(mosquitto, bridge, proxy):
    """Once synced, a login carries the start of its connection by the server's clock."""
    with PresenceClient(mosquitto.url(port=proxy.port), **FAST) as client:
        assert client.server_time.wait_synced(DEADLINE_S)
        proxy.cut()
        login = until(lambda: bridge.of("login")[1:])[0]
        assert abs(login.time - login.now) < 1000


def test_announcement_is_answered_with_the_same_id(mosquitto, bridge):
    """On an announcement the same connection logs in again, with its `time` once that is known."""
    with PresenceClient(mosquitto.url()) as client, PresenceClient(mosquitto.url("bob"), announce=False):
        assert client.server_time.wait_synced(DEADLINE_S)
        until(lambda: len(bridge.of("login")) == 2)
        bridge.announce()
        again = until(lambda: bridge.of("login")[2:])[0]
        assert (again.user_id, again.connection_id) == ("alice", client.connection_id)
        assert again.time <= again.now + 100
        bridge.announce()
        third = until(lambda: bridge.of("login")[3:])[0]
        assert (third.connection_id, third.user_id) == (again.connection_id, "alice")
        assert abs(third.time - again.time) < 50
    assert [login.announce for login in bridge.of("login") if login.user_id == "bob"] == [False]


@pytest.fixture
def patience(monkeypatch):
    """The part of `within` that clients wait."""
    part = [1.0]
    monkeypatch.setattr(random, "uniform", lambda low, high: low + part[0] * (high - low))
    return part


def test_answers_to_an_announcement_are_spread(mosquitto, bridge, patience):
    """A client waits for its moment of `within`, and then answers once; the earliest moment counts."""
    with PresenceClient(mosquitto.url()) as client:
        assert client.server_time.wait_synced(DEADLINE_S)
        began = time.monotonic()
        bridge.announce(1.5)
        again = until(lambda: bridge.of("login")[1:])[0]
        assert time.monotonic() - began >= 1.5
        assert again.connection_id == client.connection_id
        bridge.announce(3600)
        bridge.announce(3000)
        patience[0] = 0.001
        bridge.announce(1000)
        until(lambda: bridge.of("login")[2:])
        patience[0] = 1.0
        bridge.announce(3600)
        bridge.announce()
        until(lambda: bridge.of("login")[3:])
        assert client._answer_at is None
        assert len(bridge.of("login")) == 4


def test_new_connection_answers_an_announcement_by_its_login(mosquitto, bridge, proxy, patience):
    """The connection that got it is gone: its answer would come under the wrong id. The logout answers, too."""
    client = PresenceClient(mosquitto.url(port=proxy.port), **FAST)
    with client:
        assert client.server_time.wait_synced(DEADLINE_S)
        bridge.announce(1.5)
        until(lambda: client._answer_at is not None)
        proxy.cut()
        until(lambda: len(bridge.of("login")) == 2)
        assert client._answer_at is None
        bridge.announce(1)
        until(lambda: client._answer_at is not None)
        answer_at = client._answer_at
    assert client._answer_at is None
    until(lambda: clocks.steady() > answer_at + 0.5)
    assert (bridge.verbs()[-1], len(bridge.of("login"))) == ("logout", 2)


def test_server_time_is_synced(mosquitto, bridge):
    """The client's clock follows the bridge's, and knows the difference to the local one."""
    with PresenceClient(mosquitto.url()) as client:
        clock = client.server_time
        assert clock.wait_synced(DEADLINE_S)
        assert abs(clock.offset - AHEAD_MS / 1000) < 0.5
        assert 0 <= clock.round_trip < 1
        assert abs(clock.now() - (time.time() * 1000 + AHEAD_MS)) < 500
        clock.resync()


def test_idle_monitor_reports_and_repeats_after_a_reconnect(mosquitto, bridge, proxy):
    """Active at the start, idle once, idle again on a new connection with the old activity, active after a ping."""
    with PresenceClient(mosquitto.url(port=proxy.port), **FAST) as client:
        assert client.heartbeat()
        client.monitor.start(threshold=0.2, interval=1, timeout=DEADLINE_S)
        assert client.monitor.is_monitoring
        until(lambda: len(bridge.of("activity")) == 3)
        assert client.monitor.is_idle
        proxy.cut()
        until(lambda: len(bridge.of("activity")) == 4)
        client.monitor._state._threshold = 1000  # from here on a slow machine must not make it idle again
        assert client.heartbeat()
        until(lambda: len(bridge.of("activity")) == 6)
    plain, start, idle, again, active, heartbeat = bridge.of("activity")
    first, second = bridge.of("login")
    assert [x.idle for x in bridge.of("activity")] == [None, False, True, True, False, None]
    assert plain.last_activity is None
    assert start.last_activity == idle.last_activity == again.last_activity < active.last_activity
    assert active.last_activity == heartbeat.last_activity
    assert abs(active.last_activity - active.now) < 1000
    ids = [x.connection_id for x in bridge.of("activity")]
    assert ids == [first.connection_id] * 3 + [second.connection_id] * 3
    until(lambda: bridge.of("logout"))
    assert bridge.verbs()[-5:] == ["login", "activity", "activity", "activity", "logout"]
    assert not client.monitor.is_monitoring


def test_idle_monitor_without_a_bridge_says_why(mosquitto, bridge):
    """Without a server time, the start is a clear error; after the bridge has come, it succeeds at once."""
    bridge.silent = True
    with PresenceClient(mosquitto.url()) as client:
        with pytest.raises(PresenceError, match="server time"):
            client.monitor.start(timeout=0.1)
        bridge.silent = False
        bridge.say("online")
        client.monitor.start(timeout=DEADLINE_S)


def test_bridge_connected_follows_the_bridge(mosquitto, bridge, proxy):
    """Of network, broker and bridge, each can be down; the state of the bridge is reported on its own."""
    with PresenceClient(mosquitto.url(port=proxy.port), **FAST) as client:
        assert not client.bridge_connected
        bridge.say("online")
        until(lambda: client.bridge_connected)
        proxy.cut()
        until(lambda: len(bridge.of("login")) == 2)
        until(lambda: client.bridge_connected)
        bridge.say("offline")
        until(lambda: not client.bridge_connected)
        assert client.connected


def test_wrong_password_is_a_broker_error(mosquitto):
    """A refused connect() raises at once, without the password, and leaves no thread."""
    for client in (
        PresenceClient(mosquitto.url(), password="guessed"),
        StatusWatcher(mosquitto.url(), password="guessed"),
    ):
        with pytest.raises(BrokerError, match=r"(?i)refuses us: wrong user name or password") as caught:
            client.connect()
        assert "guessed" not in str(caught.value)
        assert not client.connected


def test_no_broker_is_a_broker_error():
    """Without a listener, connect() raises, and can be called again."""
    client = PresenceClient(f"mqtt://alice@127.0.0.1:{free_port()}")
    for _ in range(2):
        with pytest.raises(BrokerError, match="cannot be reached"):
            client.connect()


def test_broker_that_does_not_answer_is_a_broker_error():
    """If a listener never answers, connect() gives up in time, and the thread ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = PresenceClient(f"mqtt://alice@127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(BrokerError, match=r"did not answer in 0\.2 s"):
            client.connect(timeout=0.2)
        web = StatusWatcher(f"ws://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(BrokerError):
            web.connect(timeout=0.2)


def test_connect_without_waiting_goes_on_trying(mosquitto, bridge):
    """A device that starts before its broker connects when the broker starts."""
    port = free_port()
    client = PresenceClient(mosquitto.url(port=port), **FAST)
    client.connect(wait=False)
    assert not client.connected
    assert not client.heartbeat()
    late = Proxy.__new__(Proxy)
    late.target, late.holding, late.pairs = mosquitto.port, False, []
    late.server = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=late._accept, daemon=True).start()
    try:
        until(lambda: client.connected)
        assert client.disconnect() is True
    finally:
        late.close()


def test_junk_does_no_harm(mosquitto, bridge):
    """Junk on the topics of a client does not end it."""
    with PresenceClient(mosquitto.url(), client_id="phone") as client:
        for junk in (b"", b"x", b"[]", b"\xff", b'{"t0":1}', b'{"state":1}'):
            for topic in ("reply/alice/phone/time", "bridge/state"):
                bridge.client.publish(topic, junk, 1)
        bridge.announce()
        assert until(lambda: bridge.of("login")[1:])[0].connection_id == client.connection_id


def test_failing_internals_do_not_end_the_thread(mosquitto, bridge, proxy, caplog):
    """An exception in a paho callback would leave a client that looks connected but ignores messages: it is caught and logged."""
    client = PresenceClient(mosquitto.url(port=proxy.port), **FAST)
    with client:
        receive, client._bridge.receive = client._bridge.receive, None
        bridge.say("online")
        until(lambda: "a callback failed" in caplog.text)
        client._bridge.receive = receive
        bridge.say("offline")
        bridge.say("online")
        until(lambda: client.bridge_connected)
        proxy.cut()
        until(lambda: len(bridge.of("login")) == 2)


def test_takeover_backs_off(mosquitto, bridge, caplog):
    """Two programs with one client id take over from each other with growing delays, not in a storm."""
    caplog.set_level(logging.INFO)

    def delays():
        messages = [record.getMessage() for record in caplog.records]
        return [float(message.split()[-2]) for message in messages if "trying again" in message]

    slow = {"reconnect_min": 0.1, "reconnect_max": 30.0}
    with PresenceClient(mosquitto.url(), client_id="phone", **slow):
        second = PresenceClient(mosquitto.url(), client_id="phone", **slow)
        second.connect()
        # Delays that began anew with each short-lived connection would stay below 0.1 s.
        until(lambda: max(delays(), default=0) > 0.3, "delays grow")
        second.disconnect()


def test_prefix_and_websocket(mosquitto):
    """The same by WebSocket, and under a prefix."""
    bridge = FakeBridge(mosquitto, "acme/")
    try:
        url = f"ws://alice:secret@127.0.0.1:{mosquitto.ws_port}"
        with PresenceClient(url, prefix="acme/") as client, StatusWatcher(url, prefix="acme/") as users:
            assert client.server_time.wait_synced(DEADLINE_S)
            assert has_nodelay(client)
            until(lambda: client.server_time.round_trip < 0.03, "an answer without Nagle's 40 ms")
            bridge.status("alice", 1)
            assert users.wait_for(lambda users: users["alice"].online, DEADLINE_S)
        until(lambda: bridge.of("logout"))
        assert bridge.verbs() == ["login", "logout"]
    finally:
        bridge.raw("acme/status/alice", b"")
        bridge.close()


def test_connections_leave_nothing_behind(mosquitto, bridge, proxy):
    """Reconnecting for months does not use up file descriptors, even without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        with PresenceClient(mosquitto.url(port=proxy.port), reconnect_min=0.01, reconnect_max=0.01) as client:
            counts = []
            for _ in range(8):
                before = until(lambda: client.connection_id)
                counts.append(len(gc_free_clients()))
                proxy.cut()
                until(lambda old=before: client.connection_id not in (None, old))
            assert max(counts) <= 2
    finally:
        gc.enable()


def gc_free_clients():
    return [it for it in gc.get_objects() if type(it) is Client and it._client_id[:2] in {b"py", b"wa"}]


def test_tls_with_a_private_authority(mosquitto, bridge, tmp_path):
    """Mqtts with ca_file works; without it the broker is not trusted, and the error has the reason."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    options = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            *options.split(),
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    broker = Mosquitto(tmp_path)
    with (tmp_path / "mosquitto.conf").open("a") as conf:
        port = free_port()
        conf.write(f"listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n")
    broker.start()
    fake = FakeBridge(broker)
    try:
        url = broker.url(port=port).replace("mqtt:", "mqtts:")
        with PresenceClient(url, ca_file=str(certificate)) as client:
            assert client.server_time.wait_synced(DEADLINE_S)
        assert until(lambda: fake.of("logout"))
        with pytest.raises(BrokerError, match="certificate verify failed"):
            PresenceClient(url).connect()
    finally:
        fake.close()
        broker.stop()


# StatusWatcher


def test_watcher_is_a_live_mapping(mosquitto, bridge):
    """Existing users, new users, users that log out or are forgotten; a snapshot does not change."""
    bridge.status("alice", 1)
    bridge.status("bob", 1, State.OFFLINE)
    bridge.say("online")
    with StatusWatcher(mosquitto.url()) as users:
        assert users.connected
        assert users.wait_for(lambda users: len(users) == 2 and users.bridge_connected, DEADLINE_S)
        before = users.snapshot()
        assert {name for name, user in users.items() if user.online} == {"alice"}
        bridge.status("bob", 2, State.IDLE)
        assert users.wait_for(lambda users: users["bob"].idle, DEADLINE_S)
        bridge.raw("status/alice", b"")
        assert users.wait_for(lambda users: "alice" not in users, DEADLINE_S)
        assert set(before) == {"alice", "bob"}
        assert not before["bob"].online
        assert not users.wait_for(lambda users: users["nobody"].online, 0.01)
    assert not users.connected
    assert not users.bridge_connected


def test_watcher_drops_old_versions_and_junk(mosquitto, bridge):
    """Older and equal versions and junk have no effect; they are counted, and the watcher goes on."""
    with StatusWatcher(mosquitto.url()) as users:
        changes = users.changes(timeout=DEADLINE_S)
        bridge.status("alice", 5)
        bridge.status("alice", 4, State.OFFLINE)
        bridge.status("alice", 5, State.OFFLINE)
        for junk in (b"x", b"[]", b"\xff", json.dumps({"userId": "bob", "version": 99}).encode()):
            bridge.raw("status/alice", junk)
        bridge.status("alice", 6, State.IDLE)
        assert [change.new.version for _, change in zip(range(2), changes, strict=False)] == [5, 6]
        assert users.ignored == {"stale": 1, "bad_payload": 4}


def test_watcher_that_may_not_read_says_so():
    """A broker that refuses the subscription in its SUBACK (mosquitto filters silently) is an error, not an empty mapping."""

    def refuse(server):
        near, _ = server.accept()
        near.recv(4096)
        near.sendall(b"\x20\x02\x00\x00")
        packet = near.recv(4096)
        near.sendall(b"\x90\x04" + packet[2:4] + b"\x01\x80")
        near.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=refuse, args=(server,), daemon=True).start()
        users = StatusWatcher(f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(BrokerError, match=r"does not let this client read status/\+"):
            users.connect()
        assert not users.connected


def test_observe_tells_of_who_matches(mosquitto, bridge):
    """`added` is also called for users that match already; failing callbacks disturb neither watcher nor other observers."""
    calls = []

    def bad(*_):
        raise RuntimeError("user code")

    bridge.status("alice", 1)
    with StatusWatcher(mosquitto.url()) as users:
        assert users.wait_for(lambda users: "alice" in users, DEADLINE_S)
        broken = users.observe(added=bad, changed=bad, removed=bad)
        users.observe(added=bad, where=bad)
        observer = users.observe(
            added=lambda new: calls.append(("added", new.user_id)),
            changed=lambda new, old: calls.append(("changed", new.state, old.state)),
            removed=lambda old: calls.append(("removed", old.user_id)),
            where=lambda user: user.online,
        )
        assert calls == [("added", "alice")]
        bridge.status("bob", 1, State.OFFLINE)
        bridge.status("alice", 2, State.IDLE)
        bridge.status("alice", 3, State.OFFLINE)
        bridge.status("bob", 2)
        until(lambda: len(calls) == 4)
        observer.stop()
        broken.stop()
        bridge.status("bob", 3, State.IDLE)
        assert users.wait_for(lambda users: users["bob"].version == 3, DEADLINE_S)
    assert calls == [
        ("added", "alice"),
        ("changed", "idle", "online"),
        ("removed", "alice"),
        ("added", "bob"),
    ]


def test_changes_end_with_the_watcher(mosquitto, bridge):
    """A thread that iterates is released by close()."""
    got = []
    users = StatusWatcher(mosquitto.url())
    users.connect()
    changes = users.changes()
    thread = threading.Thread(target=lambda: got.extend(changes))
    thread.start()
    bridge.status("alice", 1)
    until(lambda: got)
    users.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert [(change.old, change.new.user_id) for change in got] == [(None, "alice")]


def test_watcher_can_be_closed_while_a_callback_waits(mosquitto, bridge):
    """A callback that blocks, perhaps for the thread that closes, does not block close()."""
    has_begun, may_end = threading.Event(), threading.Event()

    def wait(_):
        has_begun.set()
        may_end.wait()

    users = StatusWatcher(mosquitto.url())
    changes = users.changes()
    users.connect()
    users.observe(added=wait)
    bridge.status("alice", 1)
    try:
        assert has_begun.wait(DEADLINE_S)
        closing = threading.Thread(target=users.close, daemon=True)
        closing.start()
        closing.join(DEADLINE_S)
        assert not closing.is_alive()
        assert list(changes) == []
    finally:
        may_end.set()


def test_watcher_may_be_closed_by_its_own_callback(mosquitto, bridge):
    """A callback that closes the watcher does not lock up."""
    users = StatusWatcher(mosquitto.url())
    users.connect()
    users.observe(added=lambda _: users.close())
    bridge.status("alice", 1)
    until(lambda: not users.connected)


def test_watcher_survives_a_lost_connection(mosquitto, bridge, proxy, monkeypatch):
    """The watcher keeps its statuses and reconnects; users forgotten meanwhile go once the bridge is online.

    Until then it is stale. Steady changes of another user do not delay it.
    """
    monkeypatch.setattr("mqtt_presence.client.status_watcher._QUIET_S", 0.3)
    for user in ("alice", "bob", "carol"):
        bridge.status(user, 1)
    with StatusWatcher(mosquitto.url(port=proxy.port), **FAST) as users:
        assert users.wait_for(lambda users: len(users) == 3, DEADLINE_S)
        changes = users.changes(timeout=DEADLINE_S)
        proxy.holding = True
        bridge.raw("status/carol", b"")
        bridge.status("bob", 2, State.OFFLINE)
        bridge.client.publish("presence/x/x/logout", b"", 1).wait_for_publish(DEADLINE_S)
        assert len(users) == 3
        proxy.cut()
        assert users.wait_for(lambda users: not users["bob"].online, DEADLINE_S)
        # Without a bridge, the broker may not have sent all statuses yet.
        assert not users.wait_for(lambda users: "carol" not in users, 1)
        bridge.say("online")
        assert users.wait_for(lambda users: users.bridge_connected, DEADLINE_S)
        versions = count(2)

        def carol_goes_though_alice_is_busy():
            assert users.wait_for(lambda users: users.stale == ("carol" in users), 0)
            bridge.status("alice", next(versions))
            return "carol" not in users

        until(carol_goes_though_alice_is_busy)
        assert not users.stale
        assert set(users) == {"alice", "bob"}
        others = (change for change in changes if change.user_id != "alice")
        assert [
            (change.user_id, change.new is None) for _, change in zip(range(2), others, strict=False)
        ] == [
            ("bob", False),
            ("carol", True),
        ]


def test_both_survive_a_restart_of_the_broker(tmp_path):
    """After the broker was killed and has lost all, both clients reconnect, and no user is dropped without a bridge."""
    broker = Mosquitto(tmp_path)
    broker.start()
    fake = FakeBridge(broker)
    try:
        with PresenceClient(broker.url(), **FAST) as client, StatusWatcher(broker.url(), **FAST) as users:
            first = client.connection_id
            fake.status("alice", 1)
            fake.say("online")
            assert users.wait_for(lambda users: "alice" in users and users.bridge_connected, DEADLINE_S)
            until(lambda: client.bridge_connected)
            broker.stop()
            until(lambda: not client.connected and not users.connected)
            until(lambda: not client.bridge_connected and not users.bridge_connected)
            assert client.heartbeat() is False
            broker.start()
            until(lambda: client.connected and users.connected)
            assert client.connection_id != first
            assert users["alice"].online
    finally:
        fake.close()
        broker.stop()


def test_watcher_takes_many_users_at_once(mosquitto, bridge):
    """Thousands of retained statuses arrive if the broker queues them."""
    count = 3000
    try:
        for number in range(count):
            bridge.status(f"u{number}", 1)
        bridge.client.publish("presence/x/x/logout", b"", 1).wait_for_publish(DEADLINE_S)
        with StatusWatcher(mosquitto.url()) as users:
            assert users.wait_for(lambda users: len(users) == count, DEADLINE_S)
    finally:
        for number in range(count):
            bridge.raw(f"status/u{number}", b"")


# The examples


def test_examples_run(mosquitto, bridge):
    """hello_presence comes and goes; watch prints the changes."""
    bridge.say("online")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    hello = subprocess.run(
        [sys.executable, EXAMPLES / "hello_presence.py", mosquitto.url()],
        input="\n",
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
        check=True,
    )
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "watch.py", mosquitto.url("bob"), "2"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as watch:
        bridge.status("alice", 1)
        assert watch.stdout.readline() == "alice: unknown -> online (1 connections)\n"
        bridge.status("alice", 2, State.OFFLINE)
        rest, _ = watch.communicate(timeout=30)
    assert watch.returncode == 0
    assert rest.splitlines() == ["alice: online -> offline (0 connections)", "online now: nobody"]
    assert "alice is online" in hello.stdout
    assert "ping; bridge online" in hello.stdout
    assert "alice has left" in hello.stdout
    until(lambda: bridge.of("logout"))
    assert bridge.verbs() == ["login", "activity", "logout"]
