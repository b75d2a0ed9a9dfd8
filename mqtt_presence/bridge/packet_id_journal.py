"""The journal of packet ids: remembers with each batch which of its messages may arrive again.

The packet ids of such messages are stored with their effect, as one entry for each batch. An entry stays
until the broker must have the acknowledgements; then another message may have the packet id.
"""

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.redeliveries import Redeliveries
from mqtt_presence.mqtt.messages import Incoming, checksum_of, is_repetition
from mqtt_presence.store import Transaction


class _Body(Struct, array_like=True):
    count: int
    """The number of messages delivered for the first time, up to the end of the batch."""
    reused: list[int]
    """Packet ids whose earlier messages are acknowledged."""
    checksums: dict[int, int]
    """The checksums of the messages to recognise, by packet id."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class JournalEntry(Struct, frozen=True):
    """The packet ids of one batch, for the transaction that commits it."""

    number: int
    """One more than the number of the entry before."""
    content: _Body
    body: bytes
    """The content, for the database."""
    obsolete: int
    """The last number of the entries that can be deleted; 0: keep all."""


class PacketIdJournal(Part):
    """Remembers committed messages that may arrive again, by packet id.

    Args:
        redeliveries: recognise them when they arrive.
        capacity: how many messages to remember: as many as a broker may leave unacknowledged, and far fewer
            than there are packet ids, so that a reused packet id matches no older message.

    """

    def __init__(self, redeliveries: Redeliveries, capacity: int) -> None:
        self._capacity = capacity
        self._committed = redeliveries.committed
        self._entries: deque[tuple[int, _Body]] = deque()
        self._number = 0
        self._count = 0
        self.lost_up_to = 0
        """The last number of the entries that belong to a lost session."""

    def restore(self, tx: Transaction) -> None:
        """Read the journal of the last run."""
        self.read_journal(tx.redeliveries())

    def read_journal(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Read entries: number and body of each, in order."""
        for number, body in entries:
            self._add(number, _decode(body))

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Forget all messages if the broker has lost the session."""
        del link, contested
        if not session_present:
            self.forget_session()

    def is_repeated(self, message: Incoming) -> bool:
        """Return whether a message is committed already, perhaps since it arrived."""
        return is_repetition(message, self._committed.get(message.mid))

    def journal_entry(self, batch: Sequence[tuple[Incoming, bool]]) -> JournalEntry | None:
        """Return the entry of a batch; None: the batch needs no entry.

        Args:
            batch: its messages; True: only the packet id distinguishes the message from an equal one.

        """
        if not self._entries and not any(m.qos and is_nameless for m, is_nameless in batch):
            return None
        reused: list[int] = []
        checksums: dict[int, int] = {}
        count = self._count
        for message, is_nameless in batch:
            if message.dup:
                # A repeated message is not counted again. Otherwise a bridge that is killed often would
                # forget the end of the window while the broker delivers its beginning for the tenth time.
                if self.is_repeated(message) or not (is_nameless or message.mid in self._committed):
                    continue
            elif message.qos:
                count += 1
            else:
                continue
            if is_nameless:
                checksums[message.mid] = checksum_of(message)
            else:
                reused.append(message.mid)
                checksums.pop(message.mid, None)
        if not reused and not checksums:
            return None
        content = _Body(count, reused, checksums)
        return JournalEntry(self._number + 1, content, _encode(content), self._obsolete(count))

    def batch_done(self, entry: JournalEntry) -> None:
        """Remember the messages of a batch: committed with its entry, or refused as a whole without one."""
        if entry.number > self.lost_up_to:  # the session may have ended while the commit was uncertain
            self._add(entry.number, entry.content)

    def forget_session(self) -> None:
        """Forget all messages: a lost session delivers none of them again."""
        self._committed.clear()
        self._entries.clear()
        self._number += 1  # a commit may be uncertain
        self.lost_up_to = self._number

    def _obsolete(self, count: int) -> int:
        """Return the number before the oldest entry that is still needed."""
        for number, body in self._entries:
            if body.count > count - self._capacity:
                return number - 1
        return self._number

    def _add(self, number: int, body: _Body) -> None:
        for mid in self._committed.keys() & body.reused:
            del self._committed[mid]
        for mid, checksum in body.checksums.items():
            self._committed[mid] = (checksum, number)
        self._entries.append((number, body))
        self._number, self._count = number, body.count
        while self._entries[0][1].count <= body.count - self._capacity:
            self._remove(*self._entries.popleft())

    def _remove(self, number: int, body: _Body) -> None:
        for mid in body.checksums:
            known = self._committed.get(mid)
            if known is not None and known[1] == number:
                del self._committed[mid]
