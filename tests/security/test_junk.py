"""Junk at each port of `up`: the log stays short and has no traceback, whatever strangers send, and how often."""

import random
import re
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest

from mqtt_presence.access.rate_limited_log import LOG_INTERVAL_S
from tests.support.web import Page, frame, mqtt_connect

TIMES = 200
KINDS_OF_LINES = 6
"""More than there are: no WebSocket, a text frame, a broken packet, a broken CONNECT, a refused client."""
RESET = b"RESET"
"""Not sent: the connection is cut at once."""


def request(*, drop: Sequence[str] = (), **changed: str) -> bytes:
    """Write the request of a WebSocket for MQTT with other headers; names of headers with _ for -."""
    lines = {
        "Host": "127.0.0.1",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        "Sec-WebSocket-Protocol": "mqtt",
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if name not in drop)
    return f"GET /mqtt HTTP/1.1\r\n{head}\r\n".encode("latin-1")


WEBSOCKET = request()
HANDSHAKES: dict[str, bytes] = {
    "nothing": b"",
    "noise": random.Random(1).randbytes(300),
    "a TLS hello": b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(190),
    "another protocol": b"SSH-2.0-x\r\n",
    "half a request": WEBSOCKET[:60],
    "an old version of HTTP": WEBSOCKET.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "another method": WEBSOCKET.replace(b"GET", b"POST"),
    "no WebSocket": request(drop=("Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key")),
    "another subprotocol": request(Sec_WebSocket_Protocol="chat"),
    "no subprotocol": request(drop=("Sec-WebSocket-Protocol",)),
    "another version": request(Sec_WebSocket_Version="8"),
    "a bad key": request(Sec_WebSocket_Key="x"),
    "no key": request(drop=("Sec-WebSocket-Key",)),
    "a host with a blank": request(Host="a b["),
    "a malformed origin": request(Origin="http://["),
    "another site": request(Origin="https://elsewhere.example"),
    "an origin of nobody": request(Origin="null"),
    "a NUL in a header": request(X="a\0b"),
    "no ASCII in a header": request(X="\xff\xfe"),
    "a long header": request(X="y" * 20_000),
    "many headers": request(**{f"X{n}": "y" for n in range(300)}),
    "a body": request(Content_Length="5") + b"abcde",
    "a bad chunk": request(Transfer_Encoding="chunked") + b"zz\r\n",
    "frames before the answer": WEBSOCKET + frame(b"x", 1) + frame(b"y" * 125, 9),
}  # fmt: skip
FRAMES: dict[str, bytes] = {
    "text": frame(b"hello", 1),
    "text that is no UTF-8": frame(b"\xff\xfe", 1),
    "a frame without a mask": b"\x82\x02\x10\x00",
    "a reserved bit": b"\xc2\x81" + bytes(4) + b"x",
    "an unknown opcode": frame(b"x", 3),
    "a continuation of nothing": frame(b"x", 0),
    "a ping in fragments": b"\x09\x81" + bytes(4) + b"x",
    "a frame of 2^62 bytes": b"\x82\xff" + struct.pack("!Q", 1 << 62),
    "a frame of 4 MiB": b"\x82\xff" + struct.pack("!Q", 1 << 22) + bytes(1000),
    "a malformed close": frame(b"\x03", 8),
    "a close with a forbidden code": frame(struct.pack("!H", 1005), 8),
    "an early close": frame(struct.pack("!H", 1000), 8),
    "an early reset": RESET,
    "half a frame, then a reset": frame(b"x" * 100)[:20] + RESET,
    "noise for MQTT": frame(random.Random(2).randbytes(100)),
    "a broken CONNECT": frame(b"\x10\x04\x00\x04XX"),
    "a client, then a reset": frame(mqtt_connect("junk")) + RESET,
    "a client, then text": frame(mqtt_connect("junk")) + frame(b"x", 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("up"), "up") as page:
        yield page


def send(port: int, junk: bytes, *, first: bytes) -> None:
    """Send junk by a connection of its own, after something that is answered, and go."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as sock:
        if first:
            sock.sendall(first)
            sock.recv(4096)
        sock.sendall(junk.removesuffix(RESET))
        if junk.endswith(RESET):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def assert_log_stays_short(up: Page, port: int, kinds: dict[str, bytes], first: bytes = b"") -> None:
    for kind, junk in kinds.items():
        before, began = len(up.log()), time.monotonic()
        for _ in range(TIMES):
            send(port, junk, first=first)
        honest = up.websocket()  # it is served after the junk
        honest.send(mqtt_connect("honest"))
        assert honest.recv() == b"\x20\x02\x00\x00", kind
        honest.close()
        lines = up.log()[before:].splitlines()
        assert not [line for line in lines if "Traceback" in line or line.startswith(" ")], (kind, lines)
        assert len(lines) <= KINDS_OF_LINES * (1 + (time.monotonic() - began) / LOG_INTERVAL_S), (kind, lines)


def ws_port(up: Page) -> int:
    found = re.search(r"ws://127\.0\.0\.1:(\d+)/mqtt", up.log())
    assert found is not None, up.log()
    return int(found[1])


def test_bad_handshakes_do_not_fill_the_log(up: Page) -> None:
    """Hundreds of each kind at each port make a few lines, none of a traceback, and clients still come in."""
    for port in (ws_port(up), up.port, up.mqtt_port):
        assert_log_stays_short(up, port, HANDSHAKES)


def test_bad_frames_do_not_fill_the_log(up: Page) -> None:
    """The same after a good handshake."""
    for port in (ws_port(up), up.port):
        assert_log_stays_short(up, port, FRAMES, first=WEBSOCKET)
