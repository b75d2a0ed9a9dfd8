"""The outbox: publications that are committed and not yet acknowledged, and which of them can be deleted.

Several bridges may publish one user's status. A status that is older in the database may reach the broker
last, and stay there. So each bridge looks at the database after the broker's acknowledgement: if the user has
a newer version, the bridge publishes that one. Of all statuses that reach the broker last, one sender looks
afterwards, so the newest is there in the end.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from mqtt_presence.protocol.publications import Publication, version_of
from mqtt_presence.protocol.topics import Topics

_LOOK_AFTER_S = 0.1
"""Between an acknowledgement and the look at the database, unless a batch comes first."""


class LastStatus(Struct, frozen=True):
    """The status that the broker acknowledged last; a broker that has lost it has lost more."""

    topic: str
    version: int


def last_status(publications: Sequence[Publication], topics: Topics) -> LastStatus | None:
    """Return the last status among publications; None: there is none."""
    for publication in reversed(publications):
        if publication.payload and topics.parse_status(publication.topic) is not None:
            return LastStatus(publication.topic, version_of(publication.payload))
    return None


def status_versions(publications: Sequence[Publication], topics: Topics) -> dict[str, int]:
    """Return the versions of the statuses among publications by topic; -1 for an empty one."""
    return {
        p.topic: version_of(p.payload)
        for p in publications
        if p.retain and topics.parse_status(p.topic) is not None
    }


@dataclass(slots=True)
class _Unacknowledged:
    remaining: int
    last_status: LastStatus | None
    publications: Sequence[Publication]
    was_alone: bool


class Outbox:
    """Counts the broker's acknowledgements by outbox number; numbers are cleared from the lowest upwards.

    Args:
        topics: the topics under the prefix in use.
        is_alone: returns whether no other bridge publishes statuses. It may change: a status that was sent
            or acknowledged beside others is looked at.

    """

    def __init__(self, topics: Topics, is_alone: Callable[[], bool]) -> None:
        self._topics = topics
        self._is_alone = is_alone
        self._batches: dict[int, _Unacknowledged] = {}
        self.clearable: int | None = None
        """The outbox can be cleared up to this number; None: no new number."""
        self.last_status: LastStatus | None = None
        """The last status among the publications to clear."""
        self._clearable_since_s: float | None = None
        self.statuses: dict[str, int] = {}
        """The versions of statuses among the publications to clear, by topic; -1: the topic was cleared."""

    def add(
        self,
        number: int,
        publications: Sequence[Publication],
        last: LastStatus | None,
    ) -> None:
        """Record a committed batch whose publications are being sent.

        Args:
            number: its number in the store, greater than all before.
            publications: of the batch.
            last: the last status among them.

        """
        self._batches[number] = _Unacknowledged(len(publications), last, publications, self._is_alone())

    def delivered(self, number: int, times: int) -> None:
        """Count so many messages of a batch as acknowledged by the broker."""
        batch = self._batches.get(number)
        if batch is None:
            return
        batch.remaining -= times
        if batch.remaining > 0:
            return
        for first in list(self._batches):
            if self._batches[first].remaining > 0:
                break
            cleared = self._batches.pop(first)
            self.last_status = cleared.last_status or self.last_status
            if not (cleared.was_alone and self._is_alone()):
                self.statuses.update(status_versions(cleared.publications, self._topics))
            self.clearable = first

    def look_in_s(self, now_s: float) -> float:
        """Return when to look for newer versions of acknowledged statuses, seconds from now.

        Args:
            now_s: the time by the monotonic clock, seconds.

        """
        if self.clearable is None or (self._is_alone() and not self.statuses):
            self._clearable_since_s = None
            return math.inf
        if self._clearable_since_s is None:
            self._clearable_since_s = now_s
        return self._clearable_since_s + _LOOK_AFTER_S - now_s

    def cleared(self, up_to: int) -> None:
        """Record that the store has deleted the publications up to a number."""
        if self.clearable is not None and self.clearable <= up_to:
            self.clearable = self.last_status = None
            self.statuses.clear()
