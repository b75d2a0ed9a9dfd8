"""Network connections as the broker reports them: the address of a client, and the end of its connection.

Identity always comes from the topic, which the broker's access rules tie to the login. An address belongs
only to the user and client that the broker named together. A reported end closes only the record that logged
in over that network connection.

The changes that a report causes are stored with the batch of the report. So a bridge that restarts or
reconnects goes on from the committed reports, and the broker delivers the others again.
"""

import logging
from collections.abc import Iterable, Sequence

import msgspec

from mqtt_presence.adapters.port import ENDPOINT, Connected, Ended, ListedClients
from mqtt_presence.adapters.registry import AUTO, SOURCES
from mqtt_presence.bridge.ambiguous_ends import AmbiguousEnds
from mqtt_presence.bridge.clock import Clock, SystemClock
from mqtt_presence.bridge.connection_table import ConnectionTable
from mqtt_presence.bridge.implicit_identity import CLIENT_ID, ImplicitIdentity
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.new_connections import NewConnections, ReportedConnection, UncommittedReport
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.kept_values import KeptValue, save_changed
from mqtt_presence.bridge.recovery.report_absence import ReportAbsence
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.events import (
    Activity,
    BrokerReport,
    Login,
    Message,
    NetworkClaimed,
    NetworkClosed,
    NetworkReplaced,
)
from mqtt_presence.rules.model import Cause, ClientId, Reason, UserId
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 200_000
"""Open connections that are remembered."""
MAX_ENDED = 20_000
_SETTING = "source"
_REASONS = {Cause.DISCONNECT: Reason.LOGOUT, Cause.TAKEOVER: None}


class BrokerConnections(OnCheck):
    """Turns the broker's reports into events, and remembers the connections, in bounded memory.

    An entry goes when its connection ends. So to displace others, a client has to hold `MAX_CONNECTIONS` of
    them open at once; a displaced connection is treated as if the broker reported none.

    Args:
        store: keeps the dialect of the reports.
        setting: one of `SOURCES`; ``auto`` is mosquitto's log, if the broker grants it.
        ambiguous: decides which ends are believed.
        identity: names the users of implicit connections (rule I1); None: there are none.
        clock: the bridge's; None: the machine's.

    """

    is_of_all = False

    def __init__(
        self,
        store: Store,
        setting: str = AUTO,
        ambiguous: AmbiguousEnds | None = None,
        identity: ImplicitIdentity | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self.identity = identity
        self._clock = clock or SystemClock()
        self._absence = ReportAbsence()
        self._listed: set[ClientId] = set()
        self.lists_read = 0
        """The number of complete lists of connected clients."""
        self.losses = 0
        """The number of times that reports were lost."""
        self.lost_at: int | None = None
        """Until when reports may be missing, epoch milliseconds."""
        self._store = store
        self._setting = setting
        self._source = SOURCES[setting]()
        self._ambiguous = AmbiguousEnds() if ambiguous is None else ambiguous
        self._table = ConnectionTable()
        counts = None if identity is None else identity.user_of
        self.new = NewConnections(self._ambiguous, counts)
        self.uncommitted = self.new.uncommitted
        """The reports that are read and not committed yet, by the identity of the message."""
        self._unwanted: tuple[str, ...] = ()
        """Topic filters of the source that the setting named before."""
        # Reports that waited for the bridge arrive before the broker publishes its version again.
        self.dialect = KeptValue(
            "source_dialect", lambda: None if self._source is None else self._source.dialect
        )

    # State that survives a restart.

    def restore(self, tx: Transaction) -> None:
        """Read the state of the last run; most of it is in the open records."""
        before = SOURCES.get(tx.read_value(_SETTING) or "none", SOURCES["none"])()
        wanted = () if self._source is None else self._source.filters
        self._unwanted = () if before is None else tuple(f for f in before.filters if f not in wanted)
        tx.write_value(_SETTING, self._setting)
        self._absence.restore(tx)
        if self._source is not None:
            self._source.dialect = self.dialect.restore(tx)
        for user_id, client_id, network_id, address in tx.network_connections(MAX_CONNECTIONS):
            self._table.restore(client_id, ReportedConnection(user_id, address, network_id, self._table.era))
        for client_id, connection in self.new.restore(tx):  # later than those with an open record
            self._table.restore(client_id, connection)
        self._ambiguous.restore(tx)

    # Implicit connections.

    def current(self, client_id: ClientId) -> ReportedConnection | None:
        """Return the connection of a client, as far as reported."""
        return self._table.current.get(client_id)

    def claim(self, message: Message) -> NetworkClaimed | None:
        """Return the event of a client that logs in under another name than its implicit record has."""
        if self.identity is None or self.identity.mode != CLIENT_ID:
            return None
        if str(message.user_id) == str(message.client_id):
            return None
        found = self._table.current.get(message.client_id)
        if found is None or found.user_id not in (None, message.user_id):
            return None
        if not isinstance(message, Login | Activity):
            return None
        return NetworkClaimed(
            user_id=UserId(message.client_id),
            client_id=message.client_id,
            now=message.now,
            network_id=found.network_id,
        )

    @property
    def keeps_reports(self) -> bool:
        """Whether reports wait for an absent bridge, in their order among the clients' messages."""
        return self._source is not None and self._source.keeps

    @property
    def lists(self) -> bool:
        """Whether the broker sends its list of connected clients by itself."""
        return self._source is not None and self._source.lists

    def check(self, link: Link) -> bool:
        """Save the dialect of the reports, and until when they were read; ask for a list that is needed."""
        if self._source is not None and self._source.has_gap and link.is_connected:
            for topic_filter in self._source.filters:
                link.subscribe(topic_filter, required=False)
        if self._source is not None and self._source.keeps and self._source.dialect is not None:
            save_changed(self._store, self.dialect, self._absence.kept)
        else:
            save_changed(self._store, self.dialect)
        return True

    def finish(self, tx: Transaction) -> None:
        """See `Part`."""
        self._absence.finish(tx)

    def caught_up(self, until: int, until_s: float) -> None:
        """Look for a pause in which the broker has dropped reports."""
        source = self._source
        if source is not None and source.keeps and self._absence.is_longer(source.keeps_s, until, until_s):
            self._lose(until)
        self._absence.read_until(until, until_s)

    def _lose(self, until: int) -> None:
        """Treat all connections as before a loss of reports: a client may have reconnected meanwhile."""
        self._table.era += 1
        self.losses += 1
        self.lost_at = until

    # Reading reports.

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Subscribe to the reports; return to the committed state if the broker delivers the rest again."""
        del contested
        for topic_filter in self._unwanted if session_present else ():
            link.unsubscribe(topic_filter)
        if self._source is None:
            return
        now, now_s = self._clock.now(), self._clock.monotonic()
        is_late = self._absence.is_longer(self._source.keeps_s, now, now_s)
        if not session_present or not self._source.keeps or is_late:
            self._lose(now)
        if is_late:
            log.info("reports of the broker are missing: it drops those that wait for long")
            self._absence.read_until(now, now_s)
        if session_present:
            self._undo_uncommitted()
        # mosquitto supports MQTT 5. A broker without it may close the connection on a subscription to $SYS.
        if link.is_mqtt5 or self._setting != AUTO:
            for topic_filter in self._source.filters:
                link.subscribe(topic_filter, required=False)

    def handle(self, link: Link, message: Incoming) -> bool:
        """Ignore the broker's own messages that no adapter reads, from subscriptions of an earlier run."""
        del link
        return message.topic.startswith("$SYS/")  # MQTT 3.1.1 §4.7.2

    @property
    def filters(self) -> Sequence[str]:
        """See `Adapter`."""
        return () if self._source is None else self._source.filters

    def read(self, message: Incoming, now: int) -> Iterable[BrokerReport]:
        """See `Adapter`."""
        report = None if self._source is None else self._source.read(message.topic, message.payload)
        if report is None:
            return ()
        reports: Sequence[Connected | Ended]
        if isinstance(report, ListedClients):
            reports = report.clients
            if report.is_first:
                self._listed.clear()
            self._listed.update(client.client_id for client in reports)
        else:
            reports = (report,)
        events: list[BrokerReport] = []
        uncommitted: list[UncommittedReport] = []
        for one in reports:
            client_id = one.client_id
            current = self._table.current.get(client_id)
            undo = UncommittedReport(client_id, current, self._table.previous.get(client_id))
            if isinstance(one, Connected):
                events += self._begin(one, now, is_repeated=message.dup)
                new = self._table.current.get(client_id)
                undo.new = None if new is current else new
            else:
                events += self._end(one, now)
            uncommitted.append(undo)
        if message.qos:
            self.uncommitted[id(message)] = tuple(uncommitted)
        if isinstance(report, ListedClients) and report.is_last:
            self._complete_list()
        return events

    def apply_list(self, clients: Iterable[Connected], asked_at: int, now: int) -> None:
        """Take over a list of connected clients that the broker was asked for.

        Args:
            clients: the list.
            asked_at: when it was asked for; later reports are newer, epoch milliseconds.
            now: epoch milliseconds.

        """
        listed = {client.client_id: client for client in clients}
        self._table.keep_listed(listed.keys(), asked_at)
        for client_id, client in listed.items():
            new = self._table.add_listed(client, asked_at, now)
            if new is not None:
                self.new.add(client_id, new)
        self.lists_read += 1

    def _complete_list(self) -> None:
        """Forget the connections that the broker's list does not have."""
        self._table.keep_listed(self._listed)
        self._listed.clear()
        self.lists_read += 1

    def _undo_uncommitted(self) -> None:
        """Return to the committed state: the broker delivers the rest again, with the messages in between."""
        self._table.undo(one for reports in reversed(self.uncommitted.values()) for one in reversed(reports))
        self.uncommitted.clear()

    def connection_of(self, user_id: str, client_id: str) -> ReportedConnection | None:
        """Return the network connection of a user's client, if the broker has reported it."""
        found = self._table.current.get(ClientId(client_id))
        if found is None or found.era != self._table.era:
            return None
        return found if user_id in self._users(found, ClientId(client_id)) else None

    def _users(self, connection: ReportedConnection, client_id: ClientId) -> tuple[UserId, ...]:
        """Return the users whose records a connection can have: the broker's, and that of rule I1."""
        implicit = None if self.identity is None else self.identity.user_of(connection, client_id)
        names = (connection.user_id, None if implicit == connection.user_id else implicit)
        return tuple(name for name in names if name is not None)

    def network_of(self, user_id: UserId, client_id: ClientId) -> tuple[str | None, int | None]:
        """Return the address and the network id of a client; None where unknown."""
        found = self.connection_of(user_id, client_id)
        return (None, None) if found is None else (found.address, found.network_id)

    # Meaning of the reports.

    def _begin(self, report: Connected, now: int, *, is_repeated: bool) -> Iterable[BrokerReport]:
        client_id = report.client_id
        new = ReportedConnection(report.user_id, report.address, report.network_id, self._table.era, now)
        old = self._table.current.get(client_id)
        if old is not None and is_repeated and new.network_id >> 32 < old.network_id >> 32:
            return  # a redelivered report of the past
        if old is not None and old.network_id == new.network_id:
            new = msgspec.structs.replace(new, reported_at=old.reported_at)
        self._table.current[client_id] = new
        self._table.current.move_to_end(client_id)
        if len(self._table.current) > MAX_CONNECTIONS:
            self._table.current.popitem(last=False)
        if old is None or old.network_id == new.network_id:
            return
        self._taken_over(client_id, old)
        self._remember_previous(client_id, old)
        users = self._users(new, client_id)
        for user_id in self._users(old, client_id):
            if user_id in users:  # the new login will end the old record without a gap
                yield NetworkReplaced(
                    user_id=user_id,
                    client_id=client_id,
                    now=now,
                    network_id=old.network_id,
                    new_network_id=new.network_id,
                )
            else:
                yield NetworkClosed(
                    user_id=user_id,
                    client_id=client_id,
                    now=now,
                    network_id=old.network_id,
                    cause=Cause.TAKEOVER,
                    reason=Reason.LOST,
                )

    def _end(self, report: Ended, now: int) -> Iterable[BrokerReport]:
        client_id = report.client_id
        if report.cause is Cause.TAKEOVER and report.user_id is None and report.endpoint is None:
            # The connection itself may be unknown here.
            self._taken_over(client_id, self._table.current.get(client_id))
        ended = self._find(report)
        if ended is None:
            return
        if report.cause is not Cause.TAKEOVER and self._table.current.get(client_id) is ended:
            # A connection that is taken over goes when the new one begins, perhaps of another user.
            del self._table.current[client_id]
            self._remember_previous(client_id, ended)
        for user_id in self._users(ended, client_id):
            yield NetworkClosed(
                user_id=user_id,
                client_id=client_id,
                now=now,
                network_id=ended.network_id,
                cause=report.cause,
                reason=_REASONS.get(report.cause, Reason.LOST),
            )

    def _find(self, report: Ended) -> ReportedConnection | None:
        """Return the connection that has ended; None: unknown or ambiguous."""
        client_id = report.client_id
        current = self._table.current.get(client_id)
        known = [c for c in (current, self._table.previous.get(client_id)) if c is not None]
        if report.user_id is not None:
            known = [c for c in known if c.user_id == report.user_id]
        if report.network_id is not None or report.endpoint is not None:
            exact = next((c for c in known if _is_of(report, c)), None)
            if exact is not None:
                return exact
            if current is not None and known[:1] == [current] and current.era != self._table.era:
                # The end of its successor, whose report is lost. Strangers can cause an error for any id.
                return None if report.cause in {Cause.TAKEOVER, Cause.ERROR} else current
            if report.user_id is not None and report.network_id is not None:
                return ReportedConnection(report.user_id, None, report.network_id, self._table.era)
            return None
        if not known or self._ambiguous.is_ambiguous(report):
            return None
        began = known[0].network_id >> 32
        if began and report.second is not None and report.second < began:
            return None  # the end of an earlier connection
        return known[0]

    def _taken_over(self, client_id: ClientId, old: ReportedConnection | None) -> None:
        if self._source is None or self._source.names_ends:
            return
        if old is None or old.era != self._table.era or not self._source.is_gone_at_takeover(old.network_id):
            self._ambiguous.add(client_id)

    def _remember_previous(self, client_id: ClientId, connection: ReportedConnection) -> None:
        self._table.previous.pop(client_id, None)
        self._table.previous[client_id] = connection
        if len(self._table.previous) > MAX_ENDED:
            self._table.previous.popitem(last=False)


def _is_of(report: Ended, connection: ReportedConnection) -> bool:
    """Return whether a report of an end names this connection."""
    if report.network_id is not None:
        return connection.network_id == report.network_id
    return report.endpoint is not None and connection.network_id & ENDPOINT == report.endpoint & ENDPOINT
