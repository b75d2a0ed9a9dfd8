"""Device confirmations: after a restart of the broker, devices that stay silent end (rule B3 of devices).

A retained `Online` survives the device, so it is no answer, unless the broker has lost its retained messages:
then it is newer than the loss. Fleets that publish again at each connect show which devices are still there.
"""

import logging
from collections.abc import Mapping, Sequence

from mqtt_presence.adapters.port import Fleets
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import CHUNK, Committer
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.kept_values import KeptValue, save_changed
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.rules.events import EndUnconfirmed, Event, Sighting
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)


class DeviceConfirmations(OnCheck):
    """Ends the records of silent devices once their time to publish again is over.

    Args:
        fleets: know which devices publish again.
        store: keeps the time of the restart over a restart of the bridge.
        committer: ends records.
        clock: the bridge's.
        progress: silence is judged up to the time that it knows.
        within_ms: how long devices may take, milliseconds.

    """

    is_of_all = False

    def __init__(
        self,
        fleets: Sequence[Fleets],
        store: Store,
        committer: Committer,
        clock: Clock,
        progress: Progress,
        within_ms: int,
    ) -> None:
        super().__init__()
        self._origins = frozenset(origin for of_profiles in fleets for origin in of_profiles.reconnecting)
        self._store = store
        self._committer = committer
        self._clock = clock
        self._progress = progress
        self._within_ms = within_ms
        self._connected_at = 0
        self._restarted_at: int | None = None
        self._kept = KeptValue(
            "devices_restarted_at", lambda: None if self._restarted_at is None else str(self._restarted_at)
        )
        self._judged_up_to = ""
        self._is_first = True
        self._fleets = fleets
        self._has_lost_retained = False
        self._confirmed: list[Sighting] | None = None
        """The devices that a retained message confirms, once they are known."""

    def restore(self, tx: Transaction) -> None:
        """Read whether the last run was still waiting; the devices then have their time once more."""
        if self._kept.restore(tx) is not None:
            self._restarted_at = self._clock.now()

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Take a lost session for a restart, except at the bridge's own start."""
        del link, contested
        self._connected_at = self._clock.now()
        self._has_lost_retained, self._confirmed = False, None
        if not session_present and not self._is_first:
            self.broker_restarted(lost_retained=False)
        self._is_first = False

    def broker_restarted(self, lost_retained: bool) -> None:
        """Begin to wait for the devices, from the connection on that came after the restart."""
        self._has_lost_retained = self._has_lost_retained or lost_retained
        if self._origins:
            log.info("the broker was restarted: devices that publish at each connect have to do so")
            self._restarted_at = self._connected_at
            self._judged_up_to = ""

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Give the devices their time once more: stored times were moved."""
        del by_ms
        if self._restarted_at is not None:
            self._restarted_at = now

    def check(self, link: Link) -> bool:
        """End silent records, a chunk at a time, once the time is over."""
        save_changed(self._store, self._kept)
        since = self._restarted_at
        if since is None or not link.is_connected or self._progress.until <= since + self._within_ms:
            return True
        now = self._clock.now()
        if self._has_lost_retained and self._confirmed is None:
            seen = (event for of_profiles in self._fleets for event in of_profiles.seen_retained(now))
            self._confirmed = [event for event in seen if event.origin in self._origins]
        if self._confirmed:
            page_of, self._confirmed = self._confirmed[:CHUNK], self._confirmed[CHUNK:]
            self._committer.run(link, lambda _: {event.user_id: (event,) for event in page_of})
            return False
        page: dict[UserId, bool] = {}

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            page.update(tx.unconfirmed_devices(since, self._origins, self._judged_up_to, CHUNK))
            return {
                user_id: (
                    EndUnconfirmed(user_id=user_id, now=now, announced_at=since, origins=self._origins),
                )
                for user_id, is_unconfirmed in page.items()
                if is_unconfirmed
            }

        self._committer.run(link, collect)
        if len(page) == CHUNK:
            self._judged_up_to = next(reversed(page))
            return False
        self._restarted_at, self._judged_up_to = None, ""
        save_changed(self._store, self._kept)
        return True
