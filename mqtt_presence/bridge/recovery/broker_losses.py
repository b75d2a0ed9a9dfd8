"""Broker losses: detects that mosquitto has lost messages that it acknowledged, from its topics in `$SYS`.

mosquitto reports the number of dropped messages: by default its queue for an absent or slow client holds
1,000. Its uptime shows a restart: a killed broker has published no will, so clients that vanished with it
would stay online. The lost messages are unknown, so all clients are asked to log in again (rule B3).
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
"""The largest difference of two start times of one broker: it counts whole seconds, and messages take a
while."""
_REQUEST_EVERY_S = 60.0
_REQUESTED = "ask"
_BEHIND_MS = 2_000


class _BrokerStart:
    """The time at which the broker was started, and whether it was restarted since."""

    def __init__(self) -> None:
        self.started_at: int | None = None
        """Epoch milliseconds; None: unknown."""
        self._uptime_s = 0
        self._is_first = False
        """The next live report is the first of its connection."""

    def connected(self) -> None:
        """Begin a new connection to the broker."""
        self._is_first = True

    def was_restarted(self, uptime_s: int, now: int, *, is_retained: bool) -> bool:
        """Read a report; return whether the broker was restarted since the report before.

        Args:
            uptime_s: seconds since the start of the broker.
            now: epoch milliseconds.
            is_retained: the report has an unknown age.

        """
        started_at = now - uptime_s * 1000
        was_restarted = uptime_s < self._uptime_s
        if self._is_first and self.started_at is not None and not is_retained:
            # Later reports prove less: no broker restarts under a connection, and a report may be read late.
            was_restarted = was_restarted or started_at - self.started_at > _DRIFT_MS
            self._is_first = False
        if was_restarted:
            self.started_at = None
        self._uptime_s = uptime_s
        if not is_retained and (self.started_at is None or started_at < self.started_at - _DRIFT_MS):
            self.started_at = started_at
        return was_restarted


class BrokerLosses(OnCheck):
    """Follows the broker's reports of itself, also over an absence of the bridge.

    Args:
        store: keeps the last reports.
        clock: the bridge's.
        retained: detects that the broker has lost retained statuses.
        announcements: ask the clients to log in again.
        progress: while the bridge is behind, the broker may still be dropping messages.
        follows: the broker may be mosquitto; other brokers may let any client publish to `$SYS`.
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
        self._broker = _BrokerStart()
        self._on_restart = on_restart
        self._dropped: int | None = None
        """The broker's last count; None: unknown."""
        self._has_dropped = False
        self._has_lost = False
        self._connected_at = 0.0
        self._requested_at = -_REQUEST_EVERY_S
        self.reports = KeptValue("losses", self._encode, of_seat=True)

    def restore(self, tx: Transaction) -> None:
        """Read the reports of the last run."""
        stored = self.reports.restore(tx)
        if stored is not None:
            dropped, started_at, *request = stored.split()
            self._dropped = None if dropped == "-" else int(dropped)
            self._broker.started_at = None if started_at == "-" else int(started_at)
            self._has_dropped = bool(request)

    def _encode(self) -> str | None:
        fields = ["-" if n is None else str(n) for n in (self._dropped, self._broker.started_at)]
        if self._has_dropped or self._has_lost:
            fields.append(_REQUESTED)
        return " ".join(fields) if fields != ["-", "-"] else None

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Subscribe to the reports; brokers that have them support MQTT 5."""
        del contested
        self._connected_at = self._clock.monotonic()
        self._broker.connected()
        if not session_present:  # the clients are asked anyway
            self._requested_at = self._connected_at
        if self._follows and link.is_mqtt5 and self._store.seat.number == 0:
            for topic in (DROPPED, UPTIME):
                # QoS 0: a report from an absence of the bridge is useless and would fill the queue.
                link.subscribe(topic, 0, required=False)

    def handle(self, link: Link, message: Incoming) -> bool:
        """Read a report."""
        del link
        if message.topic == DROPPED:
            if _DROPPED.fullmatch(message.payload) is not None:
                self._count(int(message.payload), is_retained=message.retain)
        elif message.topic == UPTIME:
            uptime = _UPTIME.fullmatch(message.payload)
            now = self._clock.now()
            if uptime and self._broker.was_restarted(int(uptime[1]), now, is_retained=message.retain):
                log.warning("the broker was restarted: perhaps it has published no wills")
                self._suspect_loss()
                self._on_restart(False)
        else:
            return False
        return True

    def _count(self, dropped: int, *, is_retained: bool) -> None:
        before, self._dropped = self._dropped, dropped
        if before is None:
            # mosquitto publishes the count when it changes, so a live report means a recent change.
            before = dropped if is_retained else 0
        if dropped > before:  # the count begins at 0 again with the broker
            log.warning(
                "the broker has dropped %d messages, perhaps of ours: raise max_queued_messages and "
                "max_inflight_messages (docs/mosquitto.md); the clients will be asked to log in again",
                dropped - before,
            )
            self._has_dropped = True

    def _suspect_loss(self) -> None:
        """Request an announcement, unless one was requested on this connection, and so after the loss."""
        self._has_lost = self._has_lost or self._requested_at < self._connected_at

    def check(self, link: Link) -> bool:
        """Request an announcement if the broker has lost clients' messages."""
        del link
        if self._retained.has_news_of_a_loss():
            self._suspect_loss()
            self._on_restart(True)
        # While the bridge is behind, the broker may still be dropping: it could drop the answers, too.
        is_behind = self._clock.now() - self._progress.until > _BEHIND_MS
        if not is_behind and self._must_request():
            self._announcements.request("the broker has lost messages")
        save_changed(self._store, self.reports)
        return True

    def _must_request(self) -> bool:
        """Return whether to request an announcement now; many dropped messages need one a minute."""
        is_time = self._clock.monotonic() - self._requested_at >= _REQUEST_EVERY_S
        if not self._has_lost and not (self._has_dropped and is_time):
            return False
        self._has_lost = self._has_dropped = False
        self._requested_at = self._clock.monotonic()
        return True
