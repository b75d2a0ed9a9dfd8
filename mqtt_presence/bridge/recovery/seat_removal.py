"""Removal of a seat: its bridge leaves the share, and reads the messages that are left in its session.

A session that is only dropped keeps collecting on mosquitto for ever. So nothing of a seat is deleted before
the broker has nothing left for it: the bridge unsubscribes when it has caught up, because a broker may drop
what it has not begun to send (MQTT 5 §3.10.4). Later a second request to unsubscribe is answered, without a
message before the answer. Then the session ends, and the row is deleted (`Bridge.remove_seat`). A process
that takes the seat over in between begins anew.
"""

import logging

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.config import Tuning
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.bridge.recovery.retained_statuses import RetainedStatuses
from mqtt_presence.errors import SeatDrainedError
from mqtt_presence.store import Store

log = logging.getLogger(__name__)

_TURN_S = 0.2
_LOG_EVERY_S = 60.0


class SeatRemoval(Part):
    """Drains a seat that is marked as leaving.

    Args:
        store: has the seat.
        clock: the bridge's.
        progress: knows the filters of the session.
        retained: may still ask the broker for the last status of this seat.
        tuning: how long the session must be quiet.

    """

    def __init__(
        self, store: Store, clock: Clock, progress: Progress, retained: RetainedStatuses, tuning: Tuning
    ) -> None:
        self._store = store
        self._clock = clock
        self._progress = progress
        self._retained = retained
        self._tuning = tuning
        self._settled_from_s = 0.0
        self._quiet_since_s: float | None = None
        """When the last message was processed; None: messages wait."""
        self._asked: set[str] = set()
        """Filters that the broker has not confirmed yet."""
        self._asked_s = 0.0
        self._is_unsubscribed = False
        self._is_empty = False
        """Whether the broker has answered after its last message."""
        self._logged_s = -_LOG_EVERY_S

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """See `Part`."""
        del link, session_present, contested
        self._settled_from_s = self._clock.monotonic() + self._tuning.settled_s

    def disconnected(self) -> None:
        """See `Part`."""
        self._quiet_since_s = None
        self._asked.clear()
        self._is_unsubscribed = self._is_empty = False

    def fell_behind(self) -> None:
        """See `Part`."""
        self._quiet_since_s = None
        self._is_empty = False

    def caught_up(self, until: int, until_s: float) -> None:
        """See `Part`."""
        del until, until_s
        if self._quiet_since_s is None:
            self._quiet_since_s = self._clock.monotonic()

    def unsubscribed(self, topic_filter: str) -> None:
        """See `Part`."""
        if topic_filter not in self._asked:
            return
        self._asked.remove(topic_filter)
        if self._asked:
            return
        if not self._is_unsubscribed:
            self._is_unsubscribed = True
            self._quiet_since_s = None
        else:
            self._is_empty = self._quiet_since_s is not None and self._quiet_since_s <= self._asked_s

    def wait_s(self) -> float:
        """See `Part`."""
        return _TURN_S if self._store.seat.is_leaving else super().wait_s()

    def step(self, link: Link) -> bool:
        """Do the next step of the removal.

        Raises:
            SeatDrainedError: nothing is left to read and to publish.

        """
        quiet_since_s = self._quiet_since_s
        now_s = self._clock.monotonic()
        if not self._store.seat.is_leaving or not link.is_connected or self._asked:
            return True
        if not self._is_unsubscribed and self._progress.is_moved_here:
            self._log_moved(quiet_since_s, now_s)
        if quiet_since_s is None or now_s < self._settled_from_s:
            return True
        quiet_s = now_s - quiet_since_s
        if not self._is_unsubscribed:
            # The broker goes on to move messages here until its rule is changed.
            if quiet_s >= (self._tuning.unmoved_s if self._progress.is_moved_here else 0.0):
                log.info("seat %d leaves: reading its last messages", self._store.seat.number)
                self._ask(link)
        elif not self._is_empty:
            if quiet_s >= self._tuning.settled_s:
                self._ask(link)
        elif not link.backlog and not self._retained.is_probing:
            self._require_empty_outbox()
        return True

    def _ask(self, link: Link) -> None:
        self._asked = set(self._progress.leave(link))
        self._asked_s = self._clock.monotonic()

    def _log_moved(self, quiet_since_s: float | None, now_s: float) -> None:
        """Log, once a minute, that the broker still moves messages to the seat."""
        if quiet_since_s is None and now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now_s
            log.warning(
                "seat %d leaves, and messages still arrive at %s: first have the broker move none there",
                self._store.seat.number,
                self._progress.inputs,
            )

    def _require_empty_outbox(self) -> None:
        with self._store.transaction() as tx:
            is_empty = not tx.has_publications()
        if is_empty:
            raise SeatDrainedError(f"seat {self._store.seat.number} has no messages left")
