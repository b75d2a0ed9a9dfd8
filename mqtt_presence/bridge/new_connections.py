"""New network connections: those that the broker has reported, and that no record names yet.

They are stored with each batch, so that a restarted bridge knows the connection of a later login.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct, field

from mqtt_presence.bridge.ambiguous_ends import AmbiguousEnds
from mqtt_presence.bridge.batch_recorder import Batch
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.model import Activity, ClientId, Event, Login, NetworkClosed, Outcome, UserId
from mqtt_presence.store import Transaction

MAX_NEW = 1_000
"""Stored connections without a login: more than connect between one client's connect and its login."""
_NEW = "source_new"


class ReportedConnection(Struct, frozen=True, gc=False):
    """A client's network connection, as the broker reported it."""

    user_id: UserId
    address: str | None
    network_id: int = field(name="number")
    """See `Connected.network_id`."""
    era: int
    """A number that changes whenever the bridge may have missed a report."""


NotLoggedIn = dict[ClientId, ReportedConnection]
"""Connections without a record, the latest last."""


class UncommittedReport(Struct, gc=False):
    """A report that is not committed yet, with the state of its client before it."""

    message: Incoming
    client_id: ClientId
    current: ReportedConnection | None
    previous: ReportedConnection | None
    new: ReportedConnection | None = None
    """The connection that the report is about, if it has begun."""


class NewConnections:
    """Stores the connections without a record, as a recorder of batches.

    Args:
        ambiguous: stored with them.

    """

    def __init__(self, ambiguous: AmbiguousEnds) -> None:
        self._ambiguous = ambiguous
        self.uncommitted: dict[int, UncommittedReport] = {}
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
        return self._not_logged_in.items()

    def save_batch(self, tx: Transaction, batch: Batch) -> None:
        """See `BatchRecorder`."""
        for name in self._ambiguous.unsaved:
            tx.write_value(name, "")
        self._saving = len(self._ambiguous.unsaved)
        waiting = self._not_logged_in_after(batch.messages, batch.events)
        if waiting != self._not_logged_in:
            tx.write_value(_NEW, msgspec.json.encode(waiting).decode() if waiting else None)

    def batch_committed(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """See `BatchRecorder`."""
        del outcomes
        del self._ambiguous.unsaved[: self._saving]
        self._saving = 0
        self._not_logged_in = self._not_logged_in_after(batch.messages, batch.events)
        for message in batch.messages:
            self.uncommitted.pop(id(message), None)

    def batch_given_up(self, message: Incoming) -> None:
        """See `BatchRecorder`."""
        self.uncommitted.pop(id(message), None)

    def _not_logged_in_after(
        self, messages: Iterable[Incoming], events: Mapping[UserId, Iterable[Event]]
    ) -> NotLoggedIn:
        """Return the connections that no record names once this batch is committed."""
        waiting = dict(self._not_logged_in)
        if self.uncommitted:
            for message in messages:
                report = self.uncommitted.get(id(message))
                if report is not None and report.new is not None:
                    waiting.pop(report.client_id, None)
                    waiting[report.client_id] = report.new
        if waiting:
            for of_user in events.values():
                for event in of_user:
                    if isinstance(event, Login | Activity | NetworkClosed):
                        connection = waiting.get(event.client_id)
                        if connection is not None and connection.network_id == event.network_id:
                            del waiting[event.client_id]  # a record names it now, or it has ended
            for client_id in list(waiting)[: max(0, len(waiting) - MAX_NEW)]:
                del waiting[client_id]
        return waiting
