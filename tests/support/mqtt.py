"""A client of few words over a socket: it publishes and waits for the acknowledgements, or dies on the spot."""

import socket
import struct
from collections.abc import Iterable
from typing import Self

_WINDOW = 500


class Client:
    """A connected MQTT 3.1.1 client; the constructor connects.

    Args:
        port: of the broker, on loopback.
        user: the user name.
        client_id: the client id.
        will: topic and payload.
        password: None: none.
        keep_alive_s: nothing is sent by itself to keep it.
        address: the loopback address to come from.

    """

    def __init__(
        self,
        port: int,
        user: str,
        client_id: str,
        *,
        will: tuple[str, bytes] | None = None,
        password: str | None = None,
        keep_alive_s: int = 60,
        address: str = "127.0.0.1",
    ) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10, (address, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in = self._socket.makefile("rb")
        self._mid = 0
        flags = 0x82 | (0x0C if will else 0) | (0x40 if password is not None else 0)
        body = _text("MQTT") + bytes((4, flags)) + struct.pack("!H", keep_alive_s) + _text(client_id)
        if will:
            body += _text(will[0]) + struct.pack("!H", len(will[1])) + will[1]
        body += _text(user)
        if password is not None:
            body += _text(password)
        self._socket.sendall(_packet(0x10, body))
        head, answer = self._read()
        assert head == 0x20, f"no CONNACK but {head:#x}"
        assert answer[1] == 0, f"refused with return code {answer[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, topic: str, payload: bytes = b"", *, qos: int = 1, retain: bool = False) -> None:
        """Publish; at QoS 1 wait for the acknowledgement."""
        if qos:
            self.publish_all([(topic, payload)], retain=retain)
        else:
            self._socket.sendall(_packet(0x30 | retain, _text(topic) + payload))

    def publish_all(self, messages: Iterable[tuple[str | bytes, bytes]], *, retain: bool = False) -> int:
        """Publish at QoS 1 in this order, as fast as it goes; return when all are acknowledged: how many."""
        count = waiting = 0
        chunk: list[bytes] = []
        for topic, payload in messages:
            self._mid = self._mid % 65_535 + 1
            chunk.append(_packet(0x32 | retain, _text(topic) + struct.pack("!H", self._mid) + payload))
            count += 1
            if len(chunk) >= _WINDOW:
                self._await_acks(waiting)
                self._socket.sendall(b"".join(chunk))
                waiting, chunk = len(chunk), []
        self._await_acks(waiting)
        self._socket.sendall(b"".join(chunk))
        self._await_acks(len(chunk))
        return count

    def _await_acks(self, count: int) -> None:
        while count:
            head, _ = self._read()
            count -= head == 0x40

    def disconnect(self) -> None:
        """Leave on purpose: no will."""
        self._socket.sendall(b"\xe0\x00")
        self.close()

    def close(self) -> None:
        """Leave without a word: the will follows."""
        self._in.close()
        self._socket.close()

    def _read(self) -> tuple[int, bytes]:
        head = self._exactly(1)[0]
        length = shift = 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return head, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = self._in.read(count)
        if data is None or len(data) < count:
            raise ConnectionError("the broker has closed the connection")
        return data


def _text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(data)) + data


def _packet(head: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while True:
        length.append(size & 0x7F | (0x80 if size > 0x7F else 0))
        size >>= 7
        if not size:
            return bytes((head,)) + bytes(length) + body
