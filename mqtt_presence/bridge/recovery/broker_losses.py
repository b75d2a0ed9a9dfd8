"""Noticing that the broker has lost something that it acknowledged, where it says so.

mosquitto tells two things in `$SYS`. How many messages it has dropped: its queue for a client that is absent
or slow holds 1,000 unless it is told otherwise. And since when it runs: one that was killed has published no
will, so that who died with it, or while it was away, would stay online. Nobody knows what was lost, so
all clients are asked to log in again (contract B3).
"""

import logging
import re
from collections.abc import Callable

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.announcements import Announcements
from mqtt_presence.bridge.recovery.kept_values import KeptValue, save_changed
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.bridge.recovery.retained_statuses import RetainedStatuses
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)

DROPPED = "$SYS/broker/publish/messages/dropped"
UPTIME = "$SYS/broker/uptime"
_DROPPED = re.compile(rb"\d{1,18}")
_UPTIME = re.compile(rb"(\d{1,12}) seconds")
_DRIFT_MS = 3_000
"""Two looks at when it was started differ by no more: it counts whole seconds, and messages take a while."""
_ASK_EVERY_S = 60.0
_TO_ASK = "ask"
_BEHIND_MS = 2_000


class BrokerLosses(OnCheck):
    """Follows what the broker says of itself, also over the bridge's own absence.

    Args:
        store: keeps what the broker said of itself.
        clock: the bridge's.
        retained: notices that the broker has lost retained statuses.
        announcements: ask the clients to log in again.
        progress: while the bridge is behind, the broker may still be dropping messages.
        follows: the broker may be mosquitto; others may let anybody write to `$SYS`.
        on_restart: called when the broker turns out to have been restarted; True: without its retained
            messages.

    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        retained: RetainedStatuses,
        announcements: Announcements,
        progress: Progress,
        *,
        follows: bool = True,
        on_restart: Callable[[bool], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._store = store
        self._clock = clock
        self._retained = retained
        self._announcements = announcements
        self._progress = progress
        self._follows = follows
        self._on_restart = on_restart
        self._dropped: int | None = None
        self._started_at: int | None = None
        self._uptime_s = 0
        self._has_dropped = False
        self._has_lost = False
        self._connected_at = 0.0
        self._is_new_connection = False
        self._asked_at = -_ASK_EVERY_S
        self.memory = KeptValue("losses", self._dump)

    def restore(self, tx: Transaction) -> None:
        """Read what was known when the bridge was last running."""
        kept = self.memory.restore(tx)
        if kept is not None:
            dropped, started_at, *wish = kept.split()
            self._dropped = None if dropped == "-" else int(dropped)
            self._started_at = None if started_at == "-" else int(started_at)
            self._has_dropped = bool(wish)

    def _dump(self) -> str | None:
        known = ["-" if part is None else str(part) for part in (self._dropped, self._started_at)]
        if self._has_dropped or self._has_lost:
            known.append(_TO_ASK)
        return " ".join(known) if known != ["-", "-"] else None

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Follow it on a new connection, if we may; the brokers that have it speak MQTT 5."""
        del contested
        self._connected_at = self._clock.monotonic()
        self._is_new_connection = True
        if not session_present:  # the clients are asked anyway
            self._asked_at = self._connected_at
        if self._follows and link.is_mqtt5:
            for topic in (DROPPED, UPTIME):
                # QoS 0: what it was while we were away is of no use, and would fill the queue.
                link.subscribe(topic, 0, required=False)

    def handle(self, link: Link, message: Incoming) -> bool:
        """Take a message if it is about that; tell whether it was."""
        del link
        if message.topic == DROPPED:
            if _DROPPED.fullmatch(message.payload) is not None:
                self._count(int(message.payload), is_old=message.retain)
        elif message.topic == UPTIME:
            told = _UPTIME.fullmatch(message.payload)
            if told is not None:
                self._runs(int(told[1]), is_old=message.retain)
        else:
            return False
        return True

    def _count(self, dropped: int, *, is_old: bool) -> None:
        before, self._dropped = self._dropped, dropped
        if before is None:
            # It is told when it changes, and retained for a minute: one that comes live has just changed.
            before = dropped if is_old else 0
        if dropped > before:  # it begins at 0 again with the broker
            log.warning(
                "the broker has dropped %d messages, perhaps of ours: raise max_queued_messages and "
                "max_inflight_messages (docs/mosquitto.md); the clients will be asked to log in again",
                dropped - before,
            )
            self._has_dropped = True

    def _runs(self, uptime_s: int, *, is_old: bool) -> None:
        """Compare how long it has been running with what that was before.

        Args:
            uptime_s: seconds.
            is_old: it was told before we asked; by how much, nobody knows.

        """
        started_at = self._clock.now() - uptime_s * 1000
        was_restarted = uptime_s < self._uptime_s
        if self._is_new_connection and self._started_at is not None and not is_old:
            # Only of the first: no broker is restarted under a connection, but what it says may be read late.
            was_restarted = was_restarted or started_at - self._started_at > _DRIFT_MS
            self._is_new_connection = False
        if was_restarted:
            log.warning("the broker was restarted: perhaps it has published no wills")
            self.suspect()
            self._on_restart(False)
            self._started_at = None
        self._uptime_s = uptime_s
        if not is_old and (self._started_at is None or started_at < self._started_at - _DRIFT_MS):
            self._started_at = started_at

    def suspect(self) -> None:
        """Have the clients asked: before this connection the broker lost something."""
        # Who was asked on this connection was asked after the loss.
        self._has_lost = self._has_lost or self._asked_at < self._connected_at

    def check(self, link: Link) -> bool:
        """Have the clients asked if the broker has lost something that they sent."""
        del link
        if self._retained.has_news_of_a_loss():
            self.suspect()
            self._on_restart(True)
        # While the bridge is behind, the broker may still be dropping: it could drop the answers, too.
        is_behind = self._clock.now() - self._progress.until > _BEHIND_MS
        if not is_behind and self._must_announce():
            self._announcements.request("the broker has lost messages")
        save_changed(self._store, self.memory)
        return True

    def _must_announce(self) -> bool:
        """Tell whether it is time to ask the clients; of many messages that are dropped, not for each."""
        is_time = self._clock.monotonic() - self._asked_at >= _ASK_EVERY_S
        if not self._has_lost and not (self._has_dropped and is_time):
            return False
        self._has_lost = self._has_dropped = False
        self._asked_at = self._clock.monotonic()
        return True
