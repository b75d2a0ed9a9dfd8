"""Implicit records after a loss: the broker's list decides, a restart ends them (B3), or I2 marks them.

A client without presence messages cannot be asked. So after lost reports its record may be wrong, until the
broker's list of connected clients or the next report about the client corrects it.
"""

import logging
from collections.abc import Mapping, Sequence

from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import CHUNK, Committer
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.kept_values import KeptValue, save_changed
from mqtt_presence.bridge.recovery.progress import Progress
from mqtt_presence.rules.events import End, EndUnconfirmed, Event, NetworkOpened, ReportsLost
from mqtt_presence.rules.model import BROKER, Reason, Rule, UserId
from mqtt_presence.store import ImplicitRecord, Store, Transaction

log = logging.getLogger(__name__)
FIRST = ("", "", 0)
Page = tuple[str, str, int]
"""The key of the record that a page begins after."""


class ImplicitRecords(OnCheck):
    """Goes through the implicit records after a loss of reports, a restart of the broker, or its list.

    Args:
        connections: knows what the broker has reported.
        store: keeps unfinished work over a restart.
        committer: decides and commits.
        clock: the bridge's.
        progress: all reports up to its time are processed.
        within_ms: how long clients may take to connect to a restarted broker, milliseconds.
        mode: the setting `implicit`. When it changes, the records of the old mode end.

    """

    is_of_all = False

    def __init__(
        self,
        connections: BrokerConnections,
        store: Store,
        committer: Committer,
        clock: Clock,
        progress: Progress,
        within_ms: int,
        mode: str | None,
    ) -> None:
        super().__init__()
        self._connections = connections
        self._store = store
        self._committer = committer
        self._clock = clock
        self._progress = progress
        self._within_ms = within_ms
        self._mode = mode
        self._is_ending = False
        self._losses = 0
        self._lists = 0
        self._connected_at = 0
        self._has_session = False
        self._lost_at: int | None = None
        self._restarted_at: int | None = None
        self._judge_from = 0
        self._kept_mode = KeptValue("implicit", self._settled_mode)
        self._kept_loss = KeptValue("implicit_lost", lambda: _text(self._lost_at))
        self._kept_restart = KeptValue("implicit_restarted", lambda: _text(self._restarted_at))
        self._marked_up_to = self._listed_up_to = FIRST
        self._judged_up_to = ""

    def restore(self, tx: Transaction) -> None:
        """Read the unfinished work of the last run."""
        self._lost_at = _number(self._kept_loss.restore(tx))
        self._restarted_at = _number(self._kept_restart.restore(tx))
        self._judge_from = self._clock.now()
        self._kept_mode.restore(tx)
        self._is_ending = self._kept_mode.stored not in (None, self._mode)

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """See `Part`."""
        del link, contested
        self._connected_at = self._clock.now()
        self._has_session = session_present

    def _settled_mode(self) -> str | None:
        return self._kept_mode.stored if self._is_ending else self._mode

    @property
    def has_marked(self) -> bool:
        """Whether all records that a loss of reports leaves in doubt are marked."""
        return self._lost_at is None and self._losses == self._connections.losses

    def broker_restarted(self) -> None:
        """Begin to wait for the clients: none of their connections has outlived the restart.

        A broker that has lost the session has kept no reports of clients that came back before the bridge.
        """
        connections = self._connections
        if self._has_session and connections.keeps_reports and not connections.lists:
            self._restarted_at = self._judge_from = self._connected_at
            self._judged_up_to = ""

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Move the times with those of the records."""
        self._lost_at = _moved(self._lost_at, by_ms, now)
        self._restarted_at = _moved(self._restarted_at, by_ms, now)
        self._judge_from = now

    def check(self, link: Link) -> bool:
        """Do one page of the work that is due."""
        if self._connections.losses != self._losses:
            self._losses = self._connections.losses
            self._lost_at, self._marked_up_to = self._connections.lost_at, FIRST
        save_changed(self._store, self._kept_loss, self._kept_restart, self._kept_mode)
        if self._is_ending:
            return self._end_all(link)
        if self._connections.lists_read != self._lists:
            return self._apply_list(link)
        if self._lost_at is not None:
            return self._mark(link, self._lost_at)
        return self._end_silent(link)

    def _end_all(self, link: Link) -> bool:
        """End the records of another mode of the last run, a page at a time."""
        now = self._clock.now()

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            events: dict[UserId, list[Event]] = {}
            for record in tx.implicit_records(FIRST, CHUNK):
                events.setdefault(record.user_id, []).append(end_of_record(record, now, Reason.UNCONFIRMED))
            return events

        self._is_ending = self._committer.run(link, collect) > 0
        return not self._is_ending

    def _mark(self, link: Link, lost_at: int) -> bool:
        """Mark the records that no report has confirmed since the loss (I2)."""
        if self._connections.lists:  # the list is on its way
            self._lost_at = None
            return True
        page: list[ImplicitRecord] = []
        now = self._clock.now()

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            page[:] = tx.implicit_records(self._marked_up_to, CHUNK)
            return {
                r.user_id: (ReportsLost(user_id=r.user_id, now=now, before=lost_at),)
                for r in page
                if r.unconfirmed_since is None
            }

        self._committer.run(link, collect)
        self._marked_up_to = end_of_page(page)
        if self._marked_up_to == FIRST:
            self._lost_at = None
        return self._marked_up_to == FIRST

    def _apply_list(self, link: Link) -> bool:
        """End the records of clients that the broker's list does not have; confirm the others."""
        number = self._connections.lists_read
        page: list[ImplicitRecord] = []
        now = self._clock.now()

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            page[:] = tx.implicit_records(self._listed_up_to, CHUNK)
            events: dict[UserId, list[Event]] = {}
            for record in page:
                event = self._judge(record, now)
                if event is not None:
                    events.setdefault(record.user_id, []).append(event)
            return events

        self._committer.run(link, collect)
        self._listed_up_to = end_of_page(page)
        if self._listed_up_to == FIRST:
            self._lists, self._lost_at = number, None
        return self._listed_up_to == FIRST and self._lists == self._connections.lists_read

    def _judge(self, record: ImplicitRecord, now: int) -> Event | None:
        current = self._connections.current(record.client_id)
        if current is None:
            return end_of_record(record, now, Reason.LOST)
        if record.unconfirmed_since is None or current.network_id != record.network_id:
            return None  # the record of a new connection will supersede it (I1)
        return NetworkOpened(
            user_id=record.user_id,
            client_id=record.client_id,
            now=now,
            network_id=current.network_id,
            connected_at=now,
            connection_id=record.connection_id,
            is_listed=True,
        )

    def _end_silent(self, link: Link) -> bool:
        """End the records of clients that did not connect again in time (B3)."""
        since = self._restarted_at
        until = self._progress.until
        if since is None or not link.is_connected or until <= self._judge_from + self._within_ms:
            return True
        page: dict[UserId, bool] = {}
        now = self._clock.now()

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            page.update(tx.unconfirmed_devices(since, [BROKER], self._judged_up_to, CHUNK))
            origins = frozenset({BROKER})
            return {
                user_id: (EndUnconfirmed(user_id=user_id, now=now, announced_at=since, origins=origins),)
                for user_id, is_silent in page.items()
                if is_silent
            }

        self._committer.run(link, collect)
        if len(page) == CHUNK:
            self._judged_up_to = next(reversed(page))
            return False
        self._restarted_at, self._judged_up_to = None, ""
        return True


def end_of_record(record: ImplicitRecord, now: int, reason: Reason) -> End:
    """Return the end of a record (I2)."""
    return End(
        user_id=record.user_id,
        client_id=record.client_id,
        connection_id=record.connection_id,
        now=now,
        reason=reason,
        rule=Rule.I2,
    )


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _moved(time: int | None, by_ms: int, now: int) -> int | None:
    return None if time is None else min(now, time + max(0, by_ms))


def end_of_page(page: Sequence[ImplicitRecord]) -> Page:
    """Return the key after which the next page begins; `FIRST` after the last page."""
    return key_of(page[-1]) if len(page) == CHUNK else FIRST


def key_of(record: ImplicitRecord) -> Page:
    """Return the key of a record."""
    return record.user_id, record.client_id, record.row_id
