"""A port proxy in front of a broker: it accepts connections before it knows whether the broker is there."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self


class PortProxy:
    """Passes bytes on between its own loopback port and the broker's.

    Args:
        target: the broker's port.
        closes: called with the number of each connection, from 0; whether to close it before a word.
        cuts: called with each chunk from the client; whether to cut the connection instead of passing it on.

    """

    def __init__(
        self,
        target: int,
        closes: Callable[[int], bool] = lambda _number: False,
        cuts: Callable[[bytes], bool] = lambda _chunk: False,
    ) -> None:
        self._target = target
        self._closes = closes
        self._cuts = cuts
        self._server = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.accepted = 0
        """How many connections were accepted, those that were closed at once too."""

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="port proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # `close` alone does not end an `accept`
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        for end in self._ends:
            _end(end)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                number, self.accepted = self.accepted, self.accepted + 1
                if self._closes(number):
                    client.close()
                    continue
                broker = socket.create_connection(("127.0.0.1", self._target))
                self._ends += (client, broker)
                for source, sink, cuts in ((client, broker, self._cuts), (broker, client, None)):
                    threading.Thread(target=_pass_on, args=(source, sink, cuts), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, cuts: Callable[[bytes], bool] | None) -> None:
    with suppress(OSError):
        while (chunk := source.recv(65_536)) and not (cuts is not None and cuts(chunk)):
            sink.sendall(chunk)
    _end(source)
    _end(sink)


def _end(sock: socket.socket) -> None:
    with suppress(OSError):  # it has ended already
        sock.shutdown(socket.SHUT_RDWR)
