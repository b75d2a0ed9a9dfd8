"""Clients that vanish without a word, as a device without power does, and have asked for no keep alive."""

import ctypes
import socket
import struct
from contextlib import closing

import pytest
from websockets.sync.client import connect as websocket_connect

from mqtt_presence.mqtt import listening
from tests.embedded.brokers import ours
from tests.embedded.wire import connect_packet
from tests.support.waiting import until

SO_ATTACH_FILTER = 26
WILL = ("presence/alice/phone/will", b"gone")


def vanish(sock: socket.socket) -> None:
    """Have the kernel drop each packet for a socket: it answers nothing any more, and closes nothing."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PROBE_AFTER_S", 1)
    monkeypatch.setattr(listening, "PROBE_EVERY_S", 1)
    monkeypatch.setattr(listening, "SILENCE_S", 2)


@pytest.mark.usefixtures("_impatient")
def test_a_client_that_has_vanished_is_ended():
    """Its will is published although it has asked for no keep alive; who is there, and silent, stays."""
    with ours() as house:
        bridge = house.bridge()
        silent = house.client("bob", "silent", keep_alive=0)
        phone = house.client("alice", "phone", keep_alive=0, will=WILL)
        vanish(phone.sock)
        assert bridge.message(20).payload == b"gone"
        assert silent.ping() == []


@pytest.mark.usefixtures("_impatient")
def test_a_client_on_a_websocket_that_has_vanished_is_ended():
    """The same over a WebSocket."""
    with ours(ws_port=0) as house:
        bridge = house.bridge()
        with closing(socket.create_connection(("127.0.0.1", house.broker.ws_port))) as sock:
            page = websocket_connect(
                f"ws://127.0.0.1:{house.broker.ws_port}/", sock=sock, subprotocols=["mqtt"], close_timeout=0.1
            )
            page.send(connect_packet("alice", "phone", keep_alive=0, will=WILL))
            assert page.recv() == b"\x20\x02\x00\x00"
            vanish(sock)
            assert bridge.message(20).payload == b"gone"
            page.close()


@pytest.mark.usefixtures("_impatient")
def test_a_client_that_takes_nothing_is_ended():
    """What waits for it is not kept for ever, and it does not count as connected."""
    with ours() as house:
        bridge = house.bridge()
        phone = house.client("alice", "phone", keep_alive=0, will=WILL)
        phone.subscribe("status/+", qos=0)
        for _ in range(100):
            bridge.publish("status/x", bytes(200_000), qos=0)
        assert bridge.message(20).payload == b"gone"


def test_accepted_connections_are_watched_by_the_kernel():
    """The times are those of the documentation: asked after a minute, given up after two."""
    with ours(ws_port=0) as house:
        for port in (house.port, house.broker.ws_port):
            with closing(socket.create_connection(("127.0.0.1", port))) as sock:
                admission = house.broker._broker.router.admission
                (visitor,) = until(lambda e=admission: list(e.pending._address), "it is accepted")
                transport = getattr(visitor, "transport", None) or visitor._writer
                accepted = transport.get_extra_info("socket")
                assert accepted.getpeername() == sock.getsockname()
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                tcp = {
                    name: accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_USER_TIMEOUT")
                }
                assert tcp == {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_USER_TIMEOUT": 120_000}
            until(lambda e=admission: not len(e.pending), "it has gone")
