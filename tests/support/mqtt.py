"""A client of few words over a socket: it publishes and waits for the acknowledgements, or dies on the spot."""

import socket
from collections import deque
from collections.abc import Iterable
from typing import Self

from mqtt_presence.mqtt.fields import length_prefixed, packet, uint16
from mqtt_presence.mqtt.framing import Framer, Kind, Packet
from mqtt_presence.mqtt.packets import DISCONNECT, MQTT_311, Connect, Will, connect_packet, read_connack

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
        clean: False: go on with the session that the broker keeps, and let it keep this one.

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
        clean: bool = True,
    ) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10, (address, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._framer = Framer()
        self._came: deque[Packet] = deque()
        self._mid = 0
        hello = Connect(
            MQTT_311,
            clean=clean,
            keep_alive_s=keep_alive_s,
            client_id=client_id,
            will=Will(*will) if will else None,
            user=user,
            password=None if password is None else password.encode(),
        )
        self._socket.sendall(connect_packet(hello))
        answer = self._read()
        assert answer.kind == Kind.CONNACK, f"no CONNACK but {answer}"
        self.session_present, code, _ = read_connack(answer.body)
        assert code == 0, f"refused with return code {code}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, topic: str, payload: bytes = b"", *, qos: int = 1, retain: bool = False) -> None:
        """Publish; at QoS 1 wait for the acknowledgement."""
        if qos:
            self.publish_all([(topic, payload)], retain=retain)
        else:
            self._socket.sendall(packet(0x30 | retain, length_prefixed(topic) + payload))

    def publish_all(self, messages: Iterable[tuple[str | bytes, bytes]], *, retain: bool = False) -> int:
        """Publish at QoS 1 in this order, as fast as it goes; return when all are acknowledged: how many."""
        count = waiting = 0
        chunk: list[bytes] = []
        for topic, payload in messages:
            self._mid = self._mid % 65_535 + 1
            chunk.append(packet(0x32 | retain, length_prefixed(topic) + uint16(self._mid) + payload))
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
            count -= self._read().kind == Kind.PUBACK

    def disconnect(self) -> None:
        """Leave on purpose: no will."""
        self._socket.sendall(DISCONNECT)
        self.close()

    def close(self) -> None:
        """Leave without a word: the will follows."""
        self._socket.close()

    def _read(self) -> Packet:
        while not self._came:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("the broker has closed the connection")
            self._came.extend(self._framer.feed(data))
        return self._came.popleft()
