"""New network connections: those that the broker has reported, and that no record names yet.

They are stored with each batch, so that a restarted bridge knows the connection of a later login. Rule I1
opens records for some of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct, field

from mqtt_presence.bridge.ambiguous_ends import AmbiguousEnds
from mqtt_presence.bridge.batch_recorder import Batch
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.events import Activity, Event, Login, NetworkClaimed, NetworkClosed
from mqtt_presence.rules.model import ClientId, Outcome, UserId
from mqtt_presence.store import Transaction

MAX_NEW = 1_000
"""Stored connections without a login: more than connect between one client's connect and its login."""
MAX_WAITING = 50_000
"""Stored connections that rule I1 will open: more than connect in the time that a client has to log in."""
_NEW = "source_new"


class ReportedConnection(Struct, frozen=True, gc=False):
    """A client's network connection, as the broker reported it."""

    user_id: UserId | None
    """None: the client has no user name."""
    address: str | None
    network_id: int = field(name="number")
    """See `Connected.network_id`."""
    era: int
    """A number that changes whenever the bridge may have missed a report."""
    reported_at: int = 0
    """Epoch milliseconds; 0: in an earlier run."""


NotLoggedIn = dict[ClientId, ReportedConnection]
"""Connections without a record, the latest last."""


class UncommittedReport(Struct, gc=False):
    """A report that is not committed yet, with the state of its client before it."""

    client_id: ClientId
    current: ReportedConnection | None
    previous: ReportedConnection | None
    new: ReportedConnection | None = None
    """The connection that the report is about, if it has begun."""


class NewConnections:
    """Stores the connections without a record, as a recorder of batches.

    Args:
        ambiguous: stored with them.
        counts: returns whether a client's connection counts without a login (rule I1); None: none does.

    """

    def __init__(
        self,
        ambiguous: AmbiguousEnds,
        counts: Callable[[ReportedConnection, ClientId], object] | None = None,
    ) -> None:
        self._ambiguous = ambiguous
        self._counts = counts
        self.added: list[tuple[ClientId, ReportedConnection]] = []
        """Connections that count without a login, since the reader has emptied this list."""
        self.uncommitted: dict[int, tuple[UncommittedReport, ...]] = {}
        """The reports that are read, by the identity of the message, in the order of arrival."""
        self._not_logged_in: NotLoggedIn = {}
        """Committed connections that no record names yet."""
        self._saving = 0
        """The number of ambiguous client ids in the current transaction."""

    def restore(self, tx: Transaction) -> Iterable[tuple[ClientId, ReportedConnection]]:
        """Read and return the connections that the last run stored."""
        stored = tx.read_value(_NEW)
        if stored is not None:
            self._not_logged_in = msgspec.json.decode(stored, type=NotLoggedIn)
            self._note_added({})
        return self._not_logged_in.items()

    def save_batch(self, tx: Transaction, batch: Batch) -> None:
        """See `BatchRecorder`."""
        for name in self._ambiguous.unsaved:
            tx.write_value(name, "")
        self._saving = len(self._ambiguous.unsaved)
        waiting = self._not_logged_in_after(batch.messages, batch.events)
        if waiting != self._not_logged_in:
            _write(tx, waiting)

    def batch_committed(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """See `BatchRecorder`."""
        del outcomes
        del self._ambiguous.unsaved[: self._saving]
        self._saving = 0
        before = self._not_logged_in
        self._not_logged_in = self._not_logged_in_after(batch.messages, batch.events)
        self._note_added(before)
        for message in batch.messages:
            self.uncommitted.pop(id(message), None)

    def batch_given_up(self, message: Incoming) -> None:
        """See `BatchRecorder`."""
        self.uncommitted.pop(id(message), None)

    def _not_logged_in_after(
        self, messages: Iterable[Incoming], events: Mapping[UserId, Iterable[Event]]
    ) -> NotLoggedIn:
        """Return the connections that no record names once this batch is committed."""
        if not self.uncommitted and not self._not_logged_in:
            return self._not_logged_in
        waiting = dict(self._not_logged_in)
        if self.uncommitted:
            for message in messages:
                for report in self.uncommitted.get(id(message), ()):
                    if report.new is not None:
                        waiting.pop(report.client_id, None)
                        waiting[report.client_id] = report.new
        if waiting:
            for of_user in events.values():
                for event in of_user:
                    if isinstance(event, Login | Activity | NetworkClosed | NetworkClaimed):
                        connection = waiting.get(event.client_id)
                        if connection is not None and connection.network_id == event.network_id:
                            del waiting[event.client_id]  # a record names it now, or it has ended
        return waiting if len(waiting) <= MAX_NEW else self._limited(waiting)

    def _limited(self, waiting: NotLoggedIn) -> NotLoggedIn:
        counts = self._counts
        if counts is None:
            return _latest(waiting, MAX_NEW)
        counting = {c: connection for c, connection in waiting.items() if counts(connection, c)}
        others = {c: connection for c, connection in waiting.items() if c not in counting}
        return _latest(others, MAX_NEW) | _latest(counting, MAX_WAITING)

    # Connections that count without a login (rule I1).

    def is_waiting(self, client_id: ClientId, connection: ReportedConnection) -> bool:
        """Return whether no record names a client's connection yet."""
        return self._not_logged_in.get(client_id) is connection

    def add(self, client_id: ClientId, connection: ReportedConnection) -> None:
        """Add a connection that no message has reported."""
        before = self._not_logged_in
        self._not_logged_in = self._limited({**before, client_id: connection})
        self._note_added(before)

    def save_named(self, tx: Transaction, client_ids: Iterable[ClientId]) -> None:
        """Store that records name the connections of these clients; once it is committed, `named` follows."""
        _write(tx, self._without(client_ids))

    def named(self, client_ids: Iterable[ClientId]) -> None:
        """Record that records name the connections of these clients."""
        self._not_logged_in = self._without(client_ids)

    def _without(self, client_ids: Iterable[ClientId]) -> NotLoggedIn:
        gone = frozenset(client_ids)
        return {c: connection for c, connection in self._not_logged_in.items() if c not in gone}

    def _note_added(self, before: NotLoggedIn) -> None:
        counts = self._counts
        if counts is not None and self._not_logged_in is not before:
            for client_id, connection in self._not_logged_in.items():
                if before.get(client_id) is not connection and counts(connection, client_id):
                    self.added.append((client_id, connection))


def _write(tx: Transaction, waiting: NotLoggedIn) -> None:
    tx.write_value(_NEW, msgspec.json.encode(waiting).decode() if waiting else None)


def _latest(waiting: NotLoggedIn, most: int) -> NotLoggedIn:
    return waiting if len(waiting) <= most else dict(list(waiting.items())[-most:])
