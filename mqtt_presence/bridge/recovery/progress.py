"""Progress: the time up to which every message is processed. Silence is judged only up to then.

A sign of life may still wait in the bridge or at the broker, so the clock alone does not show that a client
is silent. Of several bridges, the one that is furthest behind counts.
"""

from collections.abc import Sequence

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.recovery.other_seats import OtherSeats
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.store import Store, Transaction

_NOTICED_S = 3.0
"""After so long all bridges have noticed that the clock of the server was set."""
_SHARED = "shared"
"""The name of a value that is there once the session of seat 0 may have subscribed to a share."""


class Progress(Part):
    """Records how far the clients' messages are processed, by both clocks.

    Args:
        clock: the bridge's.
        topics: have the topic filter of the clients' messages.
        settled_s: how long after a connect the broker may take to begin sending old messages, seconds.
        store: stores how far this bridge is.
        others: know how far the other bridges are.

    """

    def __init__(
        self, clock: Clock, topics: Topics, settled_s: float, store: Store, others: OtherSeats
    ) -> None:
        self._clock = clock
        self._topics = topics
        self._plain = Topics(topics.prefix).inputs
        self._settled_s = settled_s
        self._store = store
        self._others = others
        self._group = ""
        self._asked_for = ""
        """The filter of the last subscription on this connection."""
        self._settled_from_s = 0.0
        self.is_subscribed = False
        """Whether the broker has granted the subscription to the clients' messages on this connection."""
        self._own_until = 0
        self._own_until_s = 0.0
        self._shift_ms = 0
        """How far the clock was set, while the rows of vacant seats have the old time, milliseconds."""
        self._must_unsubscribe = False
        self._has_shared = False
        """Whether the session may have subscribed to a share."""
        self._is_first_session = False

    @property
    def until(self) -> int:
        """The time by the wall clock, epoch milliseconds; 0: unknown since the clock was set."""
        return max(0, self._own_until - self._lag_ms)

    @property
    def until_s(self) -> float:
        """The same by the monotonic clock, which is never set, seconds."""
        return self._own_until_s - self._lag_ms / 1000

    @property
    def _lag_ms(self) -> int:
        """How far the others are behind this bridge, milliseconds."""
        heard = self._others.facts.heard_until
        return 0 if heard is None else max(0, self._own_until - heard)

    @property
    def inputs(self) -> str:
        """The topic filter of this seat: with several seats its share of the messages."""
        if self.is_moved_here:
            return self._topics.inputs_of(self._store.seat.number)
        return self._share if self._others.count > 1 and self._has_shared else self._plain

    @property
    def is_moved_here(self) -> bool:
        """Whether the broker moves messages to topics of this seat, by a rule of its own."""
        return self._topics.has_seat_inputs

    @property
    def _share(self) -> str:
        return f"$share/{self._group}/{self._plain}"

    def restore(self, tx: Transaction) -> None:
        """Read the name of the group: the bridges of one database share the messages."""
        self._group = tx.share_group()
        self._is_first_session = tx.begin_session() and tx.seat > 0
        self._has_shared = tx.read_value(_SHARED) is not None
        if self._others.count > 1 and not self._has_shared:
            self._note_share(tx)

    def _note_share(self, tx: Transaction) -> None:
        """Store that the session may subscribe to a share, which it must leave after a crash, too."""
        tx.write_value(_SHARED, "yes")
        self._has_shared = True

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Subscribe, and wait until the broker has begun to send the messages that waited."""
        del contested
        self.is_subscribed = False
        self._is_first_session = False  # other parts have asked for it before
        if not session_present:
            self._store.seat.subscribed = False
        self._settled_from_s = self._clock.monotonic() + self._settled_s
        self._asked_for = ""
        if not self._store.seat.is_leaving:  # its messages arrive without a new subscription
            self._asked_for = self.inputs
            link.subscribe(self._asked_for)

    def has_lost_session(self, *, session_present: bool) -> bool:
        """Return, at a connect, whether messages may be lost with a session.

        The seats before a new one have read all messages until its first subscription. For seat 0, the first
        session begins a database, and the clients may be there already.

        Args:
            session_present: whether the broker has the session.

        """
        return not session_present and not self._is_first_session

    def disconnected(self) -> None:
        """See `Part`."""
        self.is_subscribed = False

    def subscribed(self, topic_filter: str) -> None:
        """See `Part`."""
        if topic_filter == self._asked_for:
            self.is_subscribed = True
            self._store.seat.subscribed = True
            self._must_unsubscribe = True

    def caught_up(self, until: int, until_s: float) -> None:
        """See `Part`."""
        if self._clock.monotonic() >= self._settled_from_s:
            self._own_until, self._own_until_s = until, until_s
            self._store.seat.heard_until = until

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Judge no silence by the old time."""
        del now
        self._own_until_s = self.until_s  # how far the others are behind is not known until the next progress
        self._own_until = 0
        if by_ms < 0 and self._others.count > 1:  # the others' times are still to come, until they notice
            self._settled_from_s = max(self._settled_from_s, self._clock.monotonic() + _NOTICED_S)
        seat = self._store.seat
        if seat.heard_until is not None:  # a bridge that is behind would keep a time that is still to come
            seat.heard_until += by_ms
        self._shift_ms += by_ms

    def step(self, link: Link) -> bool:
        """Follow a change of the number of seats: subscribe to the new filter, then leave the other."""
        if self._shift_ms:
            self._shift_vacant()
        if self._store.seat.is_leaving or not link.is_connected:
            return True
        if self._others.count > 1 and not self._has_shared:
            with self._store.transaction() as tx:
                self._note_share(tx)
        if self._asked_for != self.inputs:
            self._asked_for = self.inputs
            link.subscribe(self._asked_for)
        elif self._must_unsubscribe:
            self._must_unsubscribe = False
            if self.is_moved_here:
                link.unsubscribe(self._plain)  # from before the broker moved the messages
            elif self._has_shared:
                link.unsubscribe(self._plain if self._asked_for == self._share else self._share)
        return True

    def _shift_vacant(self) -> None:
        """Have the rows of vacant seats follow the clock; a holder does it for its own."""
        if self._others.is_first and self._others.count > 1:
            with self._store.transaction() as tx:
                tx.shift_vacant_seats(self._shift_ms)
        self._shift_ms = 0

    def leave(self, link: Link) -> Sequence[str]:
        """Unsubscribe from all messages of clients; return the topic filters."""
        self.is_subscribed = False
        filters = [self._plain, self.inputs if self.is_moved_here else self._share]
        for topic_filter in filters:
            link.unsubscribe(topic_filter)
        return filters
