"""Limits of clients, sessions, subscriptions, wrong passwords and log lines."""

import logging
import socket
from contextlib import closing

import pytest

from mqtt_presence.access import password_attempts
from mqtt_presence.embedded import add_user, admission, router, session_queue, sessions
from mqtt_presence.protocol.topics import NAME_RULE
from tests.embedded.brokers import embedded_server
from tests.support.waiting import until


def is_closed(sock: socket.socket) -> bool:
    """Return at once whether the other side has closed."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_the_oldest_pending_connections_are_closed(monkeypatch, transport):
    """Of silent connections from one address the oldest are closed, and a client with a CONNECT gets in."""
    monkeypatch.setattr(admission, "PENDING_LIMIT_PER_ADDRESS", 5)
    with embedded_server(ws_port=0) as server:
        port = server.port if transport == "tcp" else server.broker.ws_port
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
        try:
            until(
                lambda: [is_closed(s) for s in silent] == [True] * 7 + [False] * 5,
                "the seven oldest are closed",
            )
            assert server.raw_client().connect("alice", "phone") == 0
            until(lambda: is_closed(silent[7]), "it had to go for the newcomer")
        finally:
            for sock in silent:
                sock.close()
        pending = server.router.admission.pending
        until(lambda: len(pending) == 0, "who has gone waits no more")


def test_the_number_of_clients_is_limited(monkeypatch, caplog):
    """Further clients get CONNACK 3; the bridge and a client that replaces its own connection are accepted."""
    monkeypatch.setattr(admission, "CLIENTS_LIMIT", 3)
    with embedded_server() as server:
        for n in range(3):
            server.client("alice", f"c{n}")
        assert server.raw_client().connect("alice", "c3") == 3
        assert server.raw_client().connect("bob", "b") == 3
        assert "3 clients are connected: no more are let in" in caplog.text
        server.bridge()
        again = server.client("alice", "c2")
        again.disconnect()
        until(lambda: server.raw_client().connect("bob", "b") == 0, "one has gone, there is room")


def test_the_number_of_clients_of_a_user_is_limited():
    """The setting max_connections limits one user and leaves the others unaffected."""
    with embedded_server(max_connections=2) as server:
        server.client("alice", "c0")
        server.client("alice", "c1")
        assert server.raw_client().connect("alice", "c2") == 3
        server.client("bob", "b")


def test_the_number_of_absent_sessions_is_limited(monkeypatch, caplog):
    """The session of the client that left first is discarded, first of the user's, then of all."""
    monkeypatch.setattr(router, "ABSENT_SESSIONS_LIMIT_PER_USER", 3)
    monkeypatch.setattr(router, "ABSENT_SESSIONS_LIMIT", 4)

    def kept() -> set[str]:
        return {s.client_id for s in server.router.sessions.values()}

    def is_away(client_id: str) -> bool:
        session = server.router.sessions.get(client_id)
        return session is None or session.connection is None

    with embedded_server() as server:
        for user, client_id in [("alice", f"a{n}") for n in range(5)] + [("bob", "b0"), ("carol", "c0")]:
            server.client(user, client_id, clean=False).disconnect()
            until(lambda c=client_id: is_away(c), "it is gone")
        until(lambda: kept() == {"a3", "a4", "b0", "c0"}, "the oldest are forgotten")
        assert "sessions of user='alice' are kept" in caplog.text
        assert server.client("alice", "a4", clean=False).session_present
        assert not server.client("alice", "a0", clean=False).session_present


def test_the_number_of_subscriptions_of_a_session_is_limited(monkeypatch):
    """Further filters get 0x80, and an existing subscription may be repeated."""
    monkeypatch.setattr(router, "SUBSCRIPTIONS_LIMIT_PER_SESSION", 3)
    with embedded_server() as server:
        alice = server.client("alice", "phone")
        assert alice.subscribe(*(f"status/u{n}" for n in range(5))) == [1, 1, 1, 0x80, 0x80]
        assert alice.subscribe("status/u0", "status/u9") == [1, 0x80]


@pytest.mark.parametrize("count", [125, 126, 253, 254, 1000])
def test_each_filter_of_a_long_subscribe_is_answered(count):
    """The SUBACK has a code for each filter, and the next packet is read correctly."""
    with embedded_server() as server:
        alice = server.client("alice", "phone")
        filters = [f"status/u{n}" for n in range(count - 1)]
        assert alice.subscribe(*filters, "$SYS/#") == [1] * len(filters) + [0x80]
        assert alice.ping() == []


def test_wrong_passwords_are_limited(monkeypatch, tmp_path, caplog):
    """After some wrong passwords no further one is checked; users accepted before, and the bridge, are exempt."""
    monkeypatch.setattr(password_attempts, "FAILURES_PER_USER", (3, 0.001))
    path = tmp_path / "passwords"
    for user in ("alice", "bob", "carol"):
        add_user(path, user, f"pw-{user}")
    with embedded_server(open=False, password_file=path) as server:
        assert server.raw_client().connect("alice", "a", password="pw-alice") == 0
        answers = [server.raw_client().connect("alice", "x", password=f"guess{n}") for n in range(5)]
        assert answers == [5] * 3 + [3] * 2
        assert "too many wrong passwords from address=127.0.0.1" in caplog.text
        assert "guess" not in caplog.text
        assert server.raw_client().connect("alice", "a", password="pw-alice") == 0, "it is known"
        assert server.raw_client().connect("bob", "b", password="pw-bob") == 0, "it is another user"
        for n in range(5):
            server.raw_client().connect("bridge", "x", password=f"guess{n}")
        server.bridge()
        assert server.raw_client().connect("carol", "c", password="pw-carol") == 0


def test_a_flood_of_refusals_does_not_fill_the_log(monkeypatch, tmp_path, caplog):
    """Each kind has one line, names are cut, and unchecked passwords are a kind of their own."""
    monkeypatch.setattr(password_attempts, "FAILURES_PER_USER", (3, 0.001))
    path = tmp_path / "passwords"
    add_user(path, "alice", "pw-alice")
    with embedded_server(open=False, password_file=path) as server, caplog.at_level(logging.INFO):
        for _ in range(8):
            assert server.raw_client().connect("alice", "phone", password="guess") in {3, 5}
            assert server.raw_client().connect("a/" + "x" * 60_000, "phone", password="guess") == 4
            assert server.raw_client().connect("alice", "p/" + "y" * 60_000, password="guess") == 2
            assert server.raw_client().connect("alice", "phone", level=3) == 1
            with closing(socket.create_connection(("127.0.0.1", server.port))) as sock:
                sock.sendall(b"\x10\x0a\0\4QQQQ\4\2\0\0")
                sock.settimeout(5)
                assert sock.recv(100) == b""
        verbs_and_payloads = [r.getMessage() for r in caplog.records if r.name == "mqtt_presence.embedded"]
    assert max(map(len, verbs_and_payloads)) < 1000
    whys = sorted(
        line.rpartition(": ")[2]
        for line in verbs_and_payloads
        if line.startswith(("refused", "closing", "too many"))
    )
    assert whys == [
        f"a client id of {NAME_RULE} is needed",
        f"a user name of {NAME_RULE} is needed",
        "password not checked, too many wrong passwords from this network",
        "protocol 'QQQQ'",
        "protocol level 3, the broker supports MQTT 3.1.1 (4) only",
        "too many wrong passwords from address=127.0.0.1, the last for user='alice'",
        "wrong password",
    ]


def test_a_user_cannot_fill_the_log_by_subscribing(caplog):
    """Refused filters are logged once and cut."""
    with embedded_server() as server, caplog.at_level(logging.INFO):
        alice = server.client("alice", "phone")
        for n in range(20):
            assert alice.subscribe(f"$SYS/{n}/" + "x" * 10_000) == [0x80]
        verbs_and_payloads = [r.getMessage() for r in caplog.records if "refused to" in r.getMessage()]
    assert len(verbs_and_payloads) == 1
    assert len(verbs_and_payloads[0]) < 500


def test_a_flood_of_one_user_does_not_displace_other_users(monkeypatch):
    """When the bridge is behind, one user cannot fill its queue, and the logins of others are queued."""
    monkeypatch.setattr(session_queue, "BRIDGE_QUEUE_LIMIT", 400)
    monkeypatch.setattr(sessions, "BRIDGE_WINDOW", 10)
    monkeypatch.setattr(router, "FAIR_SHARE", (50, 0.1))
    with embedded_server() as server:
        bridge = server.bridge()  # which acknowledges nothing
        mallory = server.client("mallory", "m")
        for qos in (0, 1):
            for n in range(1000):
                mallory.publish("presence/mallory/m/activity", str(n), qos=qos)
        mallory.ping()
        alice = server.client("alice", "phone")
        alice.publish("presence/alice/phone/login", "me too")
        alice.ping()
        waiting = [
            d.message.payload for s in server.router.sessions.values() if s.bridge for d in s.queue.deliveries
        ]
        assert b"me too" in waiting
        assert len(waiting) <= 260
        mallory.publish("presence/mallory/m/will", "the end is heard")
        mallory.ping()
        waiting = [
            d.message.payload for s in server.router.sessions.values() if s.bridge for d in s.queue.deliveries
        ]
        assert b"the end is heard" in waiting
        bridge.sock.close()


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff\x00\xff" * 100, b"POST /x\r\n\r\n"])
def test_junk_at_the_websocket_port_logs_no_traceback(caplog, junk):
    """A port scan causes no traceback, and clients can connect afterwards."""
    with embedded_server(ws_port=0) as server, caplog.at_level(logging.INFO):
        for _ in range(5):
            with closing(socket.create_connection(("127.0.0.1", server.broker.ws_port))) as sock:
                sock.sendall(junk)
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(5)
                while sock.recv(1000):
                    pass
        assert "Traceback" not in caplog.text
        assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
