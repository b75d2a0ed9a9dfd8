"""Knowing again what the broker delivers again although it is committed.

A message that names its connection may come twice: the rules make the second harmless. One that names
none, or that the broker itself says, cannot be told from a new one, except by its packet id and its DUP flag
(MQTT 3.1.1 §4.4): a session that goes on sends what was not acknowledged under the same packet id. So the ids
of such messages are kept with their effect, a line for each batch, for as long as the broker may not have got
the acknowledgement. Once it has, another message may have the id.
"""

import zlib
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.store import Transaction


class _Body(Struct, array_like=True):
    count: int
    """How many messages had come for the first time, at the end of the batch."""
    over: list[int]
    """Packet ids: what had them before is over."""
    known: dict[int, int]
    """Checksums by packet id of what is to be known again."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class Line(Struct, frozen=True):
    """What is to be kept of a batch, by the transaction that commits it."""

    number: int
    """Its place among all lines: one more than the line before."""
    content: _Body
    obsolete: int
    """Lines up to this number are not needed any more; 0: all still are."""

    @property
    def body(self) -> bytes:
        """The content, for the database."""
        return _encode(self.content)


class Redeliveries(Part):
    """The committed messages that may come again, by packet id.

    Args:
        kept: how many messages to keep: as many as a broker may leave unacknowledged, and far fewer than
            there are packet ids, so that an id that is used anew finds nothing of its past.

    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._known: dict[int, tuple[int, int]] = {}  # packet id: checksum, number of its line
        self._lines: deque[tuple[int, _Body]] = deque()
        self._number = 0
        self._count = 0
        self.forgotten = 0
        """Lines up to this number are of a session that is over."""

    def restore(self, tx: Transaction) -> None:
        """Read the lines of the last run."""
        self.learn(tx.redeliveries())

    def learn(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """Read lines: number and body of each, in order."""
        for number, body in lines:
            self._learn(number, _decode(body))

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Forget everything if the broker's session is over."""
        del link, contested
        if not session_present:
            self.forget()

    def forget_packet_id(self, message: Incoming) -> None:
        """Forget what had the packet id of a message that comes for the first time, committed or not yet."""
        if message.qos and not message.dup:
            self._known.pop(message.mid, None)

    def is_repeated(self, message: Incoming) -> bool:
        """Tell whether it is committed already."""
        known = self._known.get(message.mid) if message.dup else None
        return known is not None and known[0] == _checksum(message)

    def line(self, batch: Sequence[tuple[Incoming, bool]]) -> Line | None:
        """Write what is to be kept of a batch; None: there is nothing to know.

        Args:
            batch: all of it; True: it cannot be known again by what it says.

        """
        if not self._lines and not any(m.qos and is_nameless for m, is_nameless in batch):
            return None
        over: list[int] = []
        known: dict[int, int] = {}
        count = self._count
        for message, is_nameless in batch:
            if message.dup:
                if self.is_repeated(message) or not (is_nameless or message.mid in self._known):
                    continue
            elif message.qos:
                count += 1  # not what comes again: who is killed often would forget what is still to come
            else:
                continue
            if is_nameless:
                known[message.mid] = _checksum(message)
            else:
                over.append(message.mid)
                known.pop(message.mid, None)
        if not over and not known:
            return None
        return Line(self._number + 1, _Body(count, over, known), self._obsolete(count))

    def committed(self, line: Line) -> None:
        """Take note that a batch is done: committed with its line, or all of it refused and no line kept."""
        if line.number > self.forgotten:  # or its session ended while the commit was in doubt
            self._learn(line.number, line.content)

    def forget(self) -> None:
        """The broker's session is over: nothing of it comes again."""
        self._known.clear()
        self._lines.clear()
        self._number += 1  # a commit may be in doubt
        self.forgotten = self._number

    def _obsolete(self, count: int) -> int:
        """Tell up to where all lines may go, kept or not: what is before the oldest that is still needed."""
        for number, body in self._lines:
            if body.count > count - self._kept:
                return number - 1
        return self._number

    def _learn(self, number: int, body: _Body) -> None:
        for mid in self._known.keys() & body.over:
            del self._known[mid]
        for mid, checksum in body.known.items():
            self._known[mid] = (checksum, number)
        self._lines.append((number, body))
        self._number, self._count = number, body.count
        while self._lines[0][1].count <= body.count - self._kept:
            self._unlearn(*self._lines.popleft())

    def _unlearn(self, number: int, body: _Body) -> None:
        for mid in body.known:
            known = self._known.get(mid)
            if known is not None and known[1] == number:
                del self._known[mid]


def _checksum(message: Incoming) -> int:
    return zlib.crc32(message.payload, zlib.crc32(message.topic.encode()))
