"""A proxy before a broker that keeps back the acknowledgements of what a client publishes."""

import socket
import threading
from contextlib import suppress
from typing import Self

from mqtt_presence.mqtt.framing import Framer, Kind, fixed_header


class AckKeeper:
    """The way from a client to a broker on loopback; all but the PUBACKs of the broker always gets through.

    Args:
        port: of the broker.

    """

    def __init__(self, port: int) -> None:
        self._broker = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.is_keeping = False
        self.kept = 0
        """How many acknowledgements have not reached the client."""
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break the connections that there are."""
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                broker = socket.create_connection(self._broker)
                self._sockets += [client, broker]
                for work, source, sink in ((self._up, client, broker), (self._down, broker, client)):
                    threading.Thread(target=self._pass_on, args=(work, source, sink), daemon=True).start()

    def _pass_on(self, work, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            work(source, sink)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _up(self, client: socket.socket, broker: socket.socket) -> None:
        while data := client.recv(65_536):
            broker.sendall(data)

    def _down(self, broker: socket.socket, client: socket.socket) -> None:
        framer = Framer()
        while data := broker.recv(65_536):
            for packet in framer.feed(data):
                if packet.kind == Kind.PUBACK and self.is_keeping:
                    self.kept += 1
                else:
                    header = fixed_header(packet.kind << 4 | packet.flags, len(packet.body))
                    client.sendall(header + packet.body)
