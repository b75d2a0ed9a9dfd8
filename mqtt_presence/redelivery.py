"""Knowing again what the broker delivers again although it is committed.

A message that names its connection may come twice: the rules make the second harmless. One that names
none cannot be told from a new one, except by its packet id and its DUP flag (MQTT 3.1.1 §4.4): a session that
goes on sends what was not acknowledged under the same packet id. So the ids of such messages are kept with
their effect, for as long as the broker may not have got the acknowledgement. Once it has, another message may
have the id. Of each batch that has such messages there is a row in the database: to write all that is known
again would cost more than the batch.
"""

import zlib
from collections import deque
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from mqtt_presence.link import Incoming
from mqtt_presence.store import Transaction

_KEPT = 24_000
"""Messages of QoS 1: more than the link lets a broker leave unacknowledged, less than there are packet ids,
so that an id that is used anew finds nothing of its past."""
_ROWS = "redeliveries "


class Page(Struct, frozen=True):
    """What a batch changes of what is known."""

    row: int
    """How many messages had been committed with it."""
    known: dict[int, int | None]
    """By packet id the checksum of a message; None: there is another one now, of which nothing is known."""
    session: int


class Redeliveries:
    """The committed messages that may come again, by packet id."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}  # packet id: (checksum, row), the oldest first
        self._count = 0
        self._session = 0
        self._forgotten: set[int] = set()  # by what is known here; the database may still have them
        self._rows: deque[int] = deque()  # that the database may have
        self._obsolete: list[int] = []

    def restore(self, tx: Transaction) -> None:
        """Read what was known when the bridge was last running."""
        rows = {int(name): text for name, text in tx.recall_all(_ROWS).items()}
        for row in sorted(rows):
            self._rows.append(row)
            self.committed(Page(row, msgspec.json.decode(rows[row], type=dict[int, int | None]), 0))

    def begin_anew(self) -> None:
        """Take note that the broker's session is new: its packet ids mean other messages."""
        self._session += 1
        self._known.clear()
        self._forgotten.clear()
        self._obsolete += self._rows
        self._rows.clear()

    def hear(self, message: Incoming) -> None:
        """Forget what had the packet id of a message that comes for the first time, committed or not yet."""
        if message.qos and not message.dup and self._known.pop(message.mid, None) is not None:
            self._forgotten.add(message.mid)

    def is_repeated(self, message: Incoming) -> bool:
        """Tell whether it is committed already."""
        known = self._known.get(message.mid) if message.dup else None
        return known is not None and known[0] == _checksum(message)

    def page(self, messages: Iterable[tuple[Incoming, bool]] = ()) -> Page:
        """Tell what is to be known once a batch is committed.

        Args:
            messages: all of the batch; True: it cannot be known again by what it says.

        """
        known: dict[int, int | None] = dict.fromkeys(self._forgotten)
        count = self._count
        for message, nameless in messages:
            if message.qos:
                count += 1
                if nameless:
                    known[message.mid] = _checksum(message)
                elif message.mid in self._known or message.mid in known:
                    known[message.mid] = None
        return Page(count, known, self._session)

    def remember(self, tx: Transaction, page: Page) -> None:
        """Keep it with the batch; `kept` says that it is done."""
        for row in self._obsolete:
            tx.remember(f"{_ROWS}{row}", None)
        if page.known:
            self._rows.append(page.row)
            tx.remember(f"{_ROWS}{page.row}", msgspec.json.encode(page.known).decode())

    def kept(self, page: Page) -> None:
        """Take note that the last `remember` is in the database."""
        if page.session == self._session:
            self._obsolete.clear()
            self._forgotten.difference_update(page.known)

    def committed(self, page: Page) -> None:
        """Know it from now on."""
        if page.session != self._session:
            return  # it took so long to learn of the commit that the ids mean other messages
        self._count = page.row
        for mid, checksum in page.known.items():
            self._known.pop(mid, None)
            if checksum is not None:
                self._known[mid] = checksum, page.row
        oldest = page.row - _KEPT
        while self._known and self._known[mid := next(iter(self._known))][1] <= oldest:
            del self._known[mid]
        while self._rows and self._rows[0] <= oldest:
            self._obsolete.append(self._rows.popleft())


def _checksum(message: Incoming) -> int:
    return zlib.crc32(message.payload, zlib.crc32(message.topic.encode()))
