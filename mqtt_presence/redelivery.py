"""Knowing again what the broker delivers again although it is committed.

A message that names its connection may come twice: the rules make the second harmless. One that names
none cannot be told from a new one, except by its packet id and its DUP flag (MQTT 3.1.1 §4.4): a session that
goes on sends what was not acknowledged under the same packet id. So the ids of such messages are kept with
their effect, for as long as the broker may not have got the acknowledgement. Once it has, another message may
have the id.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from mqtt_presence.link import Incoming

_KEPT = 4_000
"""Messages: more than any broker leaves unacknowledged, less than there are packet ids, so that an id that is
used anew finds nothing of its past."""


@dataclass(slots=True)
class Redeliveries:
    """The committed messages that may come again, by packet id."""

    _known: dict[int, tuple[int, int]] = field(default_factory=dict)  # packet id: (checksum, number)
    _number: int = 0

    @property
    def is_empty(self) -> bool:
        """There is nothing to know."""
        return not self._known

    def hear(self, message: Incoming) -> None:
        """Forget what had the packet id of a message that comes for the first time, committed or not yet."""
        if message.qos and not message.dup:
            self._known.pop(message.mid, None)

    def is_repeated(self, message: Incoming) -> bool:
        """Tell whether it is committed already."""
        known = self._known.get(message.mid) if message.dup else None
        return known is not None and known[0] == _checksum(message)

    def with_committed(self, messages: Iterable[tuple[Incoming, bool]]) -> "Redeliveries":
        """Return what is known once a batch is committed.

        Args:
            messages: all of the batch; True: it cannot be known again by what it says.

        """
        known, number = dict(self._known), self._number
        for message, nameless in messages:
            number += 1
            known.pop(message.mid, None)
            if nameless and message.qos:
                known[message.mid] = (_checksum(message), number)
        oldest = number - _KEPT
        return Redeliveries({m: k for m, k in known.items() if k[1] > oldest}, number)

    def dump(self) -> str | None:
        """Write it for the database; None: there is nothing to know."""
        if self.is_empty:
            return None
        return msgspec.json.encode([self._number, list(self._known.items())]).decode()

    @classmethod
    def load(cls, text: str | None) -> "Redeliveries":
        """Read it again."""
        if text is None:
            return cls()
        number, known = msgspec.json.decode(text, type=tuple[int, list[tuple[int, tuple[int, int]]]])
        return cls(dict(known), number)


def _checksum(message: Incoming) -> int:
    return zlib.crc32(message.payload, zlib.crc32(message.topic.encode()))
