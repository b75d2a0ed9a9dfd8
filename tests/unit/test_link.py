"""How much the link takes at once, and what it makes of what is too large; the broker is a test at the other end of a socket."""

import fcntl
import socket
import time
from collections.abc import Iterator

import pytest
from paho.mqtt.client import _ConnectionState

from mqtt_presence.bridge.link import acknowledgements, batch_client
from mqtt_presence.bridge.link import link as link_module
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.mqtt.framing import Framer, Kind
from mqtt_presence.mqtt.messages import Outgoing
from mqtt_presence.mqtt.url import BrokerUrl
from tests.unit.test_batch_client import publish


class Ends:
    """Both ends of a connection that the link believes the broker has accepted."""

    def __init__(self, accepted: bytes = b"\x20\x02\x00\x00", *, mqtt5: bool = False) -> None:
        config = LinkConfig((BrokerUrl.parse("mqtt://bridge@127.0.0.1"),), "bridge-1", mqtt5=mqtt5)
        self.link = Link(config, lambda: ("bridge/state", b"{}"))
        ours, self.sock = socket.socketpair()
        ours.setblocking(False)
        self.link._client._sock = ours
        self.sock.sendall(accepted)
        assert self.poll().connected

    def poll(self, at_most: int = 1_000) -> Arrivals:
        return self.link.poll(0.0, at_most)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.link.close()
    made.sock.close()


def test_link_reads_no_more_bytes_than_it_may(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages may be of any size, so their number bounds nothing; that there may be more is told."""
    monkeypatch.setattr(link_module, "_MAX_READ", 10_000)
    monkeypatch.setattr(batch_client, "_READ", 2_000)
    for mid in range(1, 31):
        ends.sock.sendall(publish(b"presence/u/c/activity", b"x" * 1_000, mid, 2))
    polls = [ends.poll() for _ in range(5)]
    assert [len(arrivals.messages) for arrivals in polls] == [9, 10, 10, 1, 0]
    assert [arrivals.cut_short for arrivals in polls] == [True, True, True, False, False]


def test_link_tells_of_what_is_too_large(ends: Ends) -> None:
    """The message is there, so that it can be acknowledged and refused, but for its payload."""
    packet = publish(b"presence/u/c/activity", b"x" * 3_000_000, 7, 10)
    for at in range(0, len(packet), 50_000):
        ends.sock.sendall(packet[at : at + 50_000])
        arrivals = ends.poll()
    (message,) = arrivals.messages
    assert (message.topic, message.payload, message.oversize) == ("presence/u/c/activity", b"", 3_000_025)
    assert (message.qos, message.dup, message.retain) == (1, True, False)
    ends.link.ack((message,))
    ends.link.flush()
    assert ends.sock.recv(100) == b"\x40\x02\x00\x07"


def test_link_takes_the_largest_message_of_the_contract(ends: Ends) -> None:
    """8 KiB of payload, names of 128 characters of four bytes, a prefix, and properties: all of it is no large packet."""
    topic = "/".join(["p" * 1_000, "presence", "😀" * 128, "😀" * 128, "activity"])
    ends.sock.sendall(publish(topic.encode(), b"x" * 8192, 7, 2, b"p" * 10_000))
    (message,) = ends.poll().messages
    assert message.topic == topic
    assert not message.oversize


@pytest.mark.parametrize(
    ("accepted", "mqtt5", "window"),
    [
        (b"\x20\x02\x00\x00", False, 1_000),
        (b"\x20\x03\x00\x00\x00", True, 20_000),
        (b"\x20\x06\x00\x00\x03\x21\x00\x03", True, 3),
    ],
    ids=["3.1.1", "as many as there are", "three"],
)
def test_link_has_no_more_on_the_way_than_the_broker_takes(accepted: bytes, mqtt5: bool, window: int) -> None:
    """The broker's receive maximum (MQTT 5 §3.2.2.3.3) bounds what it has not acknowledged; each that it does makes room."""
    ends = Ends(accepted, mqtt5=mqtt5)
    ends.sock.setblocking(False)
    framer, mids = Framer(), []

    def look() -> int:
        """Poll until nothing comes any more; return how many messages have come so far."""
        quiet = 0
        while quiet < 3:
            ends.poll()
            try:
                came = list(framer.feed(ends.sock.recv(1 << 20)))
            except BlockingIOError:
                quiet += 1
                continue
            mids.extend(p.body[3:5] for p in came if p.kind == Kind.PUBLISH)
        return len(mids)

    ends.link.publish(Outgoing("t", b"x", ticket=n) for n in range(21_000))
    assert look() == window
    ends.sock.sendall(b"".join(b"\x40\x02" + mid for mid in mids[:2]))
    assert look() == window + 2
    assert ends.link.backlog == 20_998
    ends.link.close()
    ends.sock.close()


def test_link_gives_no_packet_id_to_two_messages_on_the_way() -> None:
    """Ids come round while one may still be unacknowledged (MQTT 5 §2.2.1): the message that has it would be lost."""
    ends = Ends(b"\x20\x03\x00\x00\x00", mqtt5=True)
    framer, mids = Framer(), []

    def say(*tickets: int) -> None:
        ends.link.publish(Outgoing("t", b"x", ticket=n) for n in tickets)
        ends.poll()
        mids.extend(int.from_bytes(p.body[3:5], "big") for p in framer.feed(ends.sock.recv(1 << 20)))

    say(1)
    ends.link._client._last_mid = 65_534
    say(2, 3, 4)
    assert mids == [1, 65_535, 2, 3]
    ends.sock.sendall(b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids))
    assert ends.poll().delivered == [1, 2, 3, 4]
    ends.link.close()
    ends.sock.close()


def test_link_with_much_on_the_way_is_woken_all_the_same() -> None:
    """The short wait for more acknowledgements than one does not swallow the word that ends the long one."""
    ends = Ends(b"\x20\x03\x00\x00\x00", mqtt5=True)
    ends.link.publish(Outgoing("t", b"x") for _ in range(200))
    ends.poll()
    ends.link.wake()
    before = time.monotonic()
    ends.link.poll(60.0, 1_000)
    assert time.monotonic() - before < 30.0
    ends.link.close()
    ends.sock.close()


def test_link_waits_on_any_file_descriptor(ends: Ends) -> None:
    """In one process with a broker, more than 1,024 sockets may be open before it; `select` knows no greater number."""
    link, wake_up = ends.link, ends.link._wake_up
    wake_up._receiver = socket.socket(fileno=fcntl.fcntl(wake_up._receiver.detach(), fcntl.F_DUPFD, 1_100))
    link.wake()
    assert link.poll(5.0, 0) == Arrivals()


def test_link_warns_once_when_an_optional_subscription_is_denied(caplog: pytest.LogCaptureFixture) -> None:
    """Without the broker's reports addresses are missing: the log says which topic the user may not read."""
    ends = Ends(b"\x20\x03\x00\x00\x00", mqtt5=True)
    for mid in (1, 2):
        ends.link.subscribe("$SYS/broker/log/N", required=False)
        ends.sock.sendall(b"\x90\x04" + mid.to_bytes(2, "big") + b"\x00\x87")
        ends.poll()
    (warning,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert "does not let this user subscribe to $SYS/broker/log/N" in warning.message
    ends.link.close()
    ends.sock.close()


@pytest.fixture
def owed(monkeypatch: pytest.MonkeyPatch) -> Iterator["Owed"]:
    """Make a link whose broker owes an acknowledgement, for six seconds at first."""
    monkeypatch.setattr(acknowledgements, "_TIMEOUT_S", 6.0)
    made = Owed(monkeypatch)
    yield made
    made.ends.link.close()
    made.ends.sock.close()


class Owed:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ends = Ends(b"\x20\x03\x00\x00\x00", mqtt5=True)
        self.now = time.monotonic()
        monkeypatch.setattr(link_module.time, "monotonic", lambda: self.now)
        self.ends.link.publish([Outgoing("status/alice", b"x", ticket=1)])
        self.ends.poll()

    def after(self, seconds: float, at_most: int = 1_000) -> bool:
        """Poll at a later time; tell whether the link has kept the connection."""
        self.now += seconds
        self.ends.poll(at_most)
        return self.ends.link.is_connected

    def holds_for(self) -> float:
        """Poll until the link has left the broker; return after how many seconds."""
        began = self.now
        while self.after(0.5):
            pass
        return self.now - began

    def connect_again(self) -> None:
        client = self.ends.link._client
        ours, self.ends.sock = socket.socketpair()
        ours.setblocking(False)
        client._sock, client._state = ours, _ConnectionState.MQTT_CS_CONNECTING
        self.ends.poll()  # a broker takes a while
        self.ends.sock.sendall(b"\x20\x03\x01\x00\x00")
        assert self.ends.poll().connected


def test_link_leaves_a_broker_that_owes_an_acknowledgement_less_often_each_time(owed: Owed) -> None:
    """What it owes is sent over the next connection; once one has lasted as long, it is as in the beginning."""
    for _ in range(2):
        owed.ends.sock.sendall(b"\x40\x02\x00\x01")
        assert owed.after(3.0)
    assert owed.ends.link.backlog == 0
    for _ in range(50):
        assert owed.after(1.0)
    owed.ends.link.publish([Outgoing("status/alice", b"x", ticket=1)])
    for patience in (6, 12, 24, 48):
        assert patience < owed.holds_for() <= patience + 2
        assert owed.ends.link.backlog == 1
        owed.connect_again()
    owed.ends.poll()
    framer = Framer()
    (mid,) = [p.body[14:16] for p in framer.feed(owed.ends.sock.recv(4096)) if p.kind == Kind.PUBLISH]
    owed.ends.sock.sendall(b"\x40\x02" + mid)
    for _ in range(200):
        assert owed.after(0.5)
    assert owed.ends.link.backlog == 0
    owed.ends.link.publish([Outgoing("status/alice", b"x", ticket=1)])
    assert 6 < owed.holds_for() <= 8


def test_link_does_not_blame_the_broker_for_what_it_has_not_read(owed: Owed) -> None:
    """While the database is away nothing is read: the acknowledgement may be there. Then it has its time again."""
    for _ in range(5):
        assert owed.after(2.0, at_most=0)
    assert owed.after(0.0)
    assert owed.after(4.0)
    assert owed.after(1.5)
    assert not owed.after(1.0)


def test_link_does_not_blame_the_broker_for_a_pause_of_its_own(owed: Owed) -> None:
    """A statement took long: more has come than the system takes, and the acknowledgement is behind it."""
    said = b"".join(publish(b"presence/u/c/activity", b"x" * 300, mid, 2) for mid in range(1, 3_000))
    owed.ends.sock.setblocking(False)
    assert owed.ends.sock.send(said) < len(said)
    assert owed.after(60.0, at_most=4_000)
    assert owed.after(1.0)


def test_link_leaves_a_broker_that_reads_nothing_but_once(
    owed: Owed, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that waits to be written is waited for."""
    owed.ends.link.publish([Outgoing("status/bob", b"x" * 1_000)] * 5_000)
    owed.holds_for()
    for _ in range(10):
        owed.ends.poll(0)
    assert sum("has not acknowledged" in record.message for record in caplog.records) == 1
    assert owed.ends.link.backlog == 5_001
