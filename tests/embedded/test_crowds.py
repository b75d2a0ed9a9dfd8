"""Too many at the embedded broker's door, or inside: what is refused, who is let in all the same."""

import logging
import socket
from contextlib import closing

import pytest

from mqtt_presence.access import password_attempts
from mqtt_presence.embedded import add_user, admission, router, sessions
from mqtt_presence.protocol.topics import NAME_RULE
from tests.embedded.brokers import ours
from tests.support.waiting import until


def is_closed(sock: socket.socket) -> bool:
    """Tell whether the other side has closed; waits for nothing."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_who_says_nothing_makes_room(monkeypatch, transport):
    """Silent connections of one address: the oldest are closed, and whoever says who it is gets in."""
    monkeypatch.setattr(admission, "WAITING_LIMIT_EACH", 5)
    with ours(ws_port=0) as house:
        port = house.port if transport == "tcp" else house.broker.ws_port
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
        try:
            until(
                lambda: [is_closed(s) for s in silent] == [True] * 7 + [False] * 5,
                "the seven oldest are closed",
            )
            assert house.wire().connect("alice", "phone") == 0
            until(lambda: is_closed(silent[7]), "it had to go for the newcomer")
        finally:
            for sock in silent:
                sock.close()
        pending = house.broker._broker.router.admission.pending
        until(lambda: len(pending) == 0, "who has gone waits no more")


def test_there_are_only_so_many_clients(monkeypatch, caplog):
    """Beyond it CONNACK 3, "not available"; the bridge, and who takes the place of its own connection, get in."""
    monkeypatch.setattr(admission, "CLIENTS_LIMIT", 3)
    with ours() as house:
        for n in range(3):
            house.client("alice", f"c{n}")
        assert house.wire().connect("alice", "c3") == 3
        assert house.wire().connect("bob", "b") == 3
        assert "3 clients are connected: no more are let in" in caplog.text
        house.bridge()
        again = house.client("alice", "c2")
        again.disconnect()
        until(lambda: house.wire().connect("bob", "b") == 0, "one has gone, there is room")


def test_one_user_has_only_so_many_clients():
    """The setting max_connections: another user is not affected."""
    with ours(max_connections=2) as house:
        house.client("alice", "c0")
        house.client("alice", "c1")
        assert house.wire().connect("alice", "c2") == 3
        house.client("bob", "b")


def test_only_so_many_sessions_are_kept(monkeypatch, caplog):
    """Of clients that are away the one that left first is forgotten: of the user, then of all."""
    monkeypatch.setattr(router, "KEPT_LIMIT_EACH", 3)
    monkeypatch.setattr(router, "KEPT_LIMIT", 4)

    def kept() -> set[str]:
        return {s.client_id for s in house.broker._broker.router.sessions.values()}

    def is_away(client_id: str) -> bool:
        session = house.broker._broker.router.sessions.get(client_id)
        return session is None or session.connection is None

    with ours() as house:
        for user, client_id in [("alice", f"a{n}") for n in range(5)] + [("bob", "b0"), ("carol", "c0")]:
            house.client(user, client_id, clean=False).disconnect()
            until(lambda c=client_id: is_away(c), "it is gone")
        until(lambda: kept() == {"a3", "a4", "b0", "c0"}, "the oldest are forgotten")
        assert "sessions of user='alice' are kept" in caplog.text
        assert house.client("alice", "a4", clean=False).session_present
        assert not house.client("alice", "a0", clean=False).session_present


def test_one_session_has_only_so_many_subscriptions(monkeypatch):
    """Beyond it 0x80; one that it has can be made again."""
    monkeypatch.setattr(router, "SUBSCRIPTIONS_LIMIT_EACH", 3)
    with ours() as house:
        alice = house.client("alice", "phone")
        assert alice.subscribe(*(f"status/u{n}" for n in range(5))) == [1, 1, 1, 0x80, 0x80]
        assert alice.subscribe("status/u0", "status/u9") == [1, 0x80]


@pytest.mark.parametrize("count", [125, 126, 253, 254, 1000])
def test_each_filter_of_a_long_subscribe_is_answered(count):
    """The SUBACK has a code for each, however many; what comes after it is understood."""
    with ours() as house:
        alice = house.client("alice", "phone")
        filters = [f"status/u{n}" for n in range(count - 1)]
        assert alice.subscribe(*filters, "$SYS/#") == [1] * len(filters) + [0x80]
        assert alice.ping() == []


def test_wrong_passwords_are_limited(monkeypatch, tmp_path, caplog):
    """After some from one address no more are looked at, right or wrong; who was let in before comes and goes."""
    monkeypatch.setattr(password_attempts, "WRONG_FOR_ONE", (3, 0.001))
    path = tmp_path / "passwords"
    for user in ("alice", "bob", "carol"):
        add_user(path, user, f"pw-{user}")
    with ours(open=False, password_file=path) as house:
        assert house.wire().connect("alice", "a", password="pw-alice") == 0
        answers = [house.wire().connect("alice", "x", password=f"guess{n}") for n in range(5)]
        assert answers == [5] * 3 + [3] * 2
        assert "too many wrong passwords from address=127.0.0.1" in caplog.text
        assert "guess" not in caplog.text
        assert house.wire().connect("alice", "a", password="pw-alice") == 0, "it is known"
        assert house.wire().connect("bob", "b", password="pw-bob") == 0, "it is another user"
        for n in range(5):
            house.wire().connect("bridge", "x", password=f"guess{n}")
        house.bridge()
        assert house.wire().connect("carol", "c", password="pw-carol") == 0


def test_a_flood_of_refusals_does_not_fill_the_log(monkeypatch, tmp_path, caplog):
    """One line for each kind, with no more of a name than is needed; and it is said if no password was looked at."""
    monkeypatch.setattr(password_attempts, "WRONG_FOR_ONE", (3, 0.001))
    path = tmp_path / "passwords"
    add_user(path, "alice", "pw-alice")
    with ours(open=False, password_file=path) as house, caplog.at_level(logging.INFO):
        for _ in range(8):
            assert house.wire().connect("alice", "phone", password="guess") in {3, 5}
            assert house.wire().connect("a/" + "x" * 60_000, "phone", password="guess") == 4
            assert house.wire().connect("alice", "p/" + "y" * 60_000, password="guess") == 2
            assert house.wire().connect("alice", "phone", level=3) == 1
            with closing(socket.create_connection(("127.0.0.1", house.port))) as sock:
                sock.sendall(b"\x10\x0a\0\4QQQQ\4\2\0\0")
                sock.settimeout(5)
                assert sock.recv(100) == b""
        said = [r.getMessage() for r in caplog.records if r.name == "mqtt_presence.embedded"]
    assert max(map(len, said)) < 1000
    whys = sorted(
        line.rpartition(": ")[2] for line in said if line.startswith(("refused", "closing", "too many"))
    )
    assert whys == [
        f"a client id of {NAME_RULE} is needed",
        f"a user name of {NAME_RULE} is needed",
        "not looked at, too many wrong passwords from there",
        "protocol 'QQQQ'",
        "protocol level 3, only MQTT 3.1.1 (4) is spoken here",
        "too many wrong passwords from address=127.0.0.1, the last for user='alice'",
        "wrong password",
    ]


def test_a_user_cannot_fill_the_log_by_subscribing(caplog):
    """Filters that are refused are told of once, and cut."""
    with ours() as house, caplog.at_level(logging.INFO):
        alice = house.client("alice", "phone")
        for n in range(20):
            assert alice.subscribe(f"$SYS/{n}/" + "x" * 10_000) == [0x80]
        said = [r.getMessage() for r in caplog.records if "refused to" in r.getMessage()]
    assert len(said) == 1
    assert len(said[0]) < 500


def test_a_flood_of_one_user_does_not_push_out_the_others(monkeypatch):
    """When the bridge is behind, one user cannot fill its queue: the logins of others still get in."""
    monkeypatch.setattr(sessions, "BRIDGE_QUEUE_LIMIT", 400)
    monkeypatch.setattr(sessions, "WINDOW", 10)
    monkeypatch.setattr(router, "FAIR_SHARE", (50, 0.1))
    with ours() as house:
        bridge = house.bridge()  # which acknowledges nothing
        mallory = house.client("mallory", "m")
        for qos in (0, 1):
            for n in range(1000):
                mallory.publish("presence/mallory/m/activity", str(n), qos=qos)
        mallory.ping()
        alice = house.client("alice", "phone")
        alice.publish("presence/alice/phone/login", "me too")
        alice.ping()
        waiting = [
            d.message.payload
            for s in house.broker._broker.router.sessions.values()
            if s.bridge
            for d in s.queue
        ]
        assert b"me too" in waiting
        assert len(waiting) <= 260
        mallory.publish("presence/mallory/m/will", "the end is heard")
        mallory.ping()
        waiting = [
            d.message.payload
            for s in house.broker._broker.router.sessions.values()
            if s.bridge
            for d in s.queue
        ]
        assert b"the end is heard" in waiting
        bridge.sock.close()


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff\x00\xff" * 100, b"POST /x\r\n\r\n"])
def test_junk_at_the_websocket_port_makes_no_noise(caplog, junk):
    """A port scan is no error of ours: no traceback, and clients go on coming in."""
    with ours(ws_port=0) as house, caplog.at_level(logging.INFO):
        for _ in range(5):
            with closing(socket.create_connection(("127.0.0.1", house.broker.ws_port))) as sock:
                sock.sendall(junk)
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(5)
                while sock.recv(1000):
                    pass
        assert "Traceback" not in caplog.text
        assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
