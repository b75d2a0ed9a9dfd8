"""What is committed but not yet known to be published: which numbers of the store's outbox may go."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from mqtt_presence.protocol.publications import Publication, version_of


class LastStatus(Struct, frozen=True):
    """The status that the broker acknowledged last: what it must still have, if it lost nothing."""

    topic: str
    version: int


def last_status(publications: Sequence[Publication]) -> LastStatus | None:
    """Return the last status among publications; None: there is none."""
    for publication in reversed(publications):
        if publication.retain and publication.payload:
            return LastStatus(publication.topic, version_of(publication.payload))
    return None


@dataclass(slots=True)
class _Open:
    remaining: int
    probe: LastStatus | None


class Outbox:
    """Counts the broker's acknowledgements by outbox number; numbers are cleared from the lowest upwards."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._cleared: int | None = None
        self.probe: LastStatus | None = None
        """Of all that is to be cleared, the last status."""

    def add(self, number: int, publications: list[Publication], probe: LastStatus | None) -> None:
        """Take note of a batch that is committed and on its way.

        Args:
            number: the store's, greater than all before.
            publications: what it says.
            probe: its last status.

        """
        self._open[number] = _Open(len(publications), probe)

    def delivered(self, number: int, times: int) -> None:
        """Count so many messages of a batch as acknowledged by the broker."""
        batch = self._open.get(number)
        if batch is None:
            return
        batch.remaining -= times
        if batch.remaining > 0:
            return
        for first in list(self._open):
            if self._open[first].remaining > 0:
                break
            self.probe = self._open.pop(first).probe or self.probe
            self._cleared = first

    @property
    def clearable(self) -> int | None:
        """Up to which number the store's outbox may be cleared; None: nothing new."""
        return self._cleared

    def cleared(self, up_to: int) -> None:
        """The store has done it."""
        if self._cleared is not None and self._cleared <= up_to:
            self._cleared = self.probe = None
