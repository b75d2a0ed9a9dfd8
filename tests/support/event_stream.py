"""Server-sent events as a client reads them (the HTML Standard, "Server-sent events")."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode


@dataclass(frozen=True)
class Event:
    """An event, or a comment with the event's name ``comment``."""

    name: str
    data: Any
    id: str


class EventStream:
    """Reads a stream in a thread of its own.

    Args:
        port: of the server.
        users: names and patterns.
        last_id: the id of the last event of an earlier stream.
        headers: more headers.
        reads: False reads the head of the answer only.

    """

    def __init__(
        self,
        port: int,
        *users: str,
        last_id: str | None = None,
        reads: bool = True,
        path: str = "/api/v1/stream",
        **headers: str,
    ) -> None:
        query = urlencode([("users", user) for user in users])
        self.events: list[Event] = []
        self.last_id = last_id or ""
        self.retry: int | None = None
        self.head = b""
        self.is_over = False
        self.on_event: Callable[[Event], None] = lambda _: None
        self._reads = reads
        self._socket = socket.create_connection(("127.0.0.1", port), 20)
        if not reads:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lines = [f"GET {path}?{query} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if last_id is not None:
            lines.append(f"Last-Event-ID: {last_id}")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        while b"\r\n\r\n" not in self.head:
            piece = self._socket.recv(1)
            assert piece, self.head
            self.head += piece
        if self._reads:
            self._socket.settimeout(None)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut the connection, and wait for the thread: later events are not noted."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(20)
        self._socket.close()

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.head.split(b" ", 2)[1])

    @property
    def statuses(self) -> list[Any]:
        """The statuses so far."""
        return [event.data for event in self.events if event.name == "status"]

    def has(self, name: str) -> bool:
        """Return whether an event of this name has come."""
        return any(event.name == name for event in self.events)

    def _read(self) -> None:
        text = b""
        with suppress(OSError, ValueError), self._socket.makefile("rb") as file:
            while size := int(file.readline() or b"0", 16):  # chunked transfer coding
                text += file.read(size)
                file.read(2)
                *blocks, text = text.split(b"\n\n")
                for block in blocks:
                    self._dispatch(block.decode())
        self.is_over = True

    def _dispatch(self, block: str) -> None:
        fields = _fields(block)
        self.last_id = fields.get("id", self.last_id)
        if "retry" in fields:
            self.retry = int(fields["retry"])
        event = _event(fields)
        if event is not None:
            self.events.append(event)
            self.on_event(event)


def events_in(text: str) -> list[Event]:
    """Return the whole events in a text."""
    found = (_event(_fields(block)) for block in text.split("\n\n")[:-1])
    return [event for event in found if event is not None]


def _fields(block: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in block.splitlines():
        name, _, value = line.partition(":")
        fields[name or "comment"] = value.removeprefix(" ")
    return fields


def _event(fields: dict[str, str]) -> Event | None:
    if "comment" in fields:
        return Event("comment", fields["comment"], fields.get("id", ""))
    if "data" in fields:
        return Event(fields.get("event", "message"), json.loads(fields["data"]), fields.get("id", ""))
    return None
