"""How much the link takes at once, and what it makes of what is too large; the broker is a test at the other end of a socket."""

import socket
from collections.abc import Iterator

import pytest

from mqtt_presence import batch_client
from mqtt_presence import link as link_module
from mqtt_presence.broker_url import BrokerUrl
from mqtt_presence.link import Arrivals, Link, LinkConfig
from tests.unit.test_batch_client import publish


class Ends:
    """Both ends of a connection that the link believes the broker has accepted."""

    def __init__(self) -> None:
        config = LinkConfig(BrokerUrl.parse("mqtt://bridge@127.0.0.1"), "bridge-1", mqtt5=False)
        self.link = Link(config, lambda: ("bridge/state", b"{}"))
        ours, self.sock = socket.socketpair()
        ours.setblocking(False)
        self.link._client._sock = ours
        self.sock.sendall(b"\x20\x02\x00\x00")
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
    monkeypatch.setattr(link_module, "_READ_AT_MOST", 10_000)
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
