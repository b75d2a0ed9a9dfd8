"""Network connections as the broker reports them: the address of a client, and the end of its connection.

Identity always comes from the topic, which the broker's access rules tie to the login. An address belongs
only to the user and client that the broker named together. A reported end closes only the record that logged
in over that network connection.

The changes that a report causes are stored with the batch of the report. So a bridge that restarts or
reconnects goes on from the committed reports, and the broker delivers the others again.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from mqtt_presence.adapters.port import Connected, Ended
from mqtt_presence.adapters.registry import AUTO, SOURCES
from mqtt_presence.bridge.ambiguous_ends import AmbiguousEnds
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.new_connections import NewConnections, ReportedConnection, UncommittedReport
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.kept_values import KeptValue, save_changed
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.model import (
    BrokerReport,
    Cause,
    ClientId,
    NetworkClosed,
    NetworkReplaced,
    Reason,
    UserId,
)
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 200_000
"""Open connections that are remembered."""
MAX_ENDED = 20_000
_SETTING = "source"
_REASONS = {Cause.DISCONNECT: Reason.LOGOUT, Cause.TAKEOVER: None}


class BrokerConnections(OnCheck):
    """Remembers the broker's reports of network connections, in bounded memory.

    An entry goes when its connection ends. So to displace others, a client has to hold `MAX_CONNECTIONS` of
    them open at once; a displaced connection is treated as if the broker reported none.

    Args:
        store: keeps the dialect of the reports.
        setting: one of `SOURCES`; ``auto`` is mosquitto's log, if the broker grants it.
        ambiguous: decides which ends are believed.

    """

    def __init__(self, store: Store, setting: str = AUTO, ambiguous: AmbiguousEnds | None = None) -> None:
        super().__init__()
        self._store = store
        self._setting = setting
        self._source = SOURCES[setting]()
        self._ambiguous = AmbiguousEnds() if ambiguous is None else ambiguous
        self._era = 0
        self._current: OrderedDict[ClientId, ReportedConnection] = OrderedDict()
        self._previous: OrderedDict[ClientId, ReportedConnection] = OrderedDict()
        self.new = NewConnections(self._ambiguous)
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
        if self._source is not None:
            self._source.dialect = self.dialect.restore(tx)
        for user_id, client_id, network_id, address in tx.network_connections(MAX_CONNECTIONS):
            self._current.pop(client_id, None)
            self._current[client_id] = ReportedConnection(user_id, address, network_id, self._era)
        for client_id, connection in self.new.restore(tx):  # later than those with an open record
            self._current.pop(client_id, None)
            self._current[client_id] = msgspec.structs.replace(connection, era=self._era)
        self._ambiguous.restore(tx)

    def check(self, link: Link) -> bool:
        """Save the dialect of the reports, if it has changed."""
        del link
        save_changed(self._store, self.dialect)
        return True

    # Reading reports.

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Subscribe to the reports; return to the committed state if the broker delivers the rest again."""
        del contested
        for topic_filter in self._unwanted if session_present else ():
            link.unsubscribe(topic_filter)
        if self._source is None:
            return
        if not session_present or not self._source.keeps:
            self._era += 1  # a client may have reconnected meanwhile
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
        client_id = report.client_id
        current, previous = self._current.get(client_id), self._previous.get(client_id)
        uncommitted = UncommittedReport(message, client_id, current, previous)
        match report:
            case Connected():
                event = self._begin(report, now, is_repeated=message.dup)
                new = self._current.get(client_id)
                uncommitted.new = None if new is current else new
            case Ended():
                event = self._end(report, now)
        if message.qos:
            self.uncommitted[id(message)] = uncommitted
        return () if event is None else (event,)

    def _undo_uncommitted(self) -> None:
        """Return to the committed state: the broker delivers the rest again, with the messages in between."""
        for report in reversed(self.uncommitted.values()):
            for connections, before in ((self._current, report.current), (self._previous, report.previous)):
                connections.pop(report.client_id, None)
                if before is not None:
                    connections[report.client_id] = before
        self.uncommitted.clear()

    def connection_of(self, user_id: str, client_id: str) -> ReportedConnection | None:
        """Return the network connection of a user's client, if the broker has reported it."""
        found = self._current.get(ClientId(client_id))
        return found if found is not None and found.user_id == user_id and found.era == self._era else None

    def network_of(self, user_id: UserId, client_id: ClientId) -> tuple[str | None, int | None]:
        """Return the address and the network id of a client; None where unknown."""
        found = self.connection_of(user_id, client_id)
        return (None, None) if found is None else (found.address, found.network_id)

    # Meaning of the reports.

    def _begin(self, report: Connected, now: int, *, is_repeated: bool) -> BrokerReport | None:
        client_id = report.client_id
        new = ReportedConnection(report.user_id, report.address, report.network_id, self._era)
        old = self._current.get(client_id)
        if old is not None and is_repeated and new.network_id >> 32 < old.network_id >> 32:
            return None  # a redelivered report of the past
        self._current[client_id] = new
        self._current.move_to_end(client_id)
        if len(self._current) > MAX_CONNECTIONS:
            self._current.popitem(last=False)
        if old is None or old.network_id == new.network_id:
            return None
        self._taken_over(client_id)
        self._remember_previous(client_id, old)
        if old.user_id == new.user_id:  # the new login will end the old record without a gap
            return NetworkReplaced(
                user_id=old.user_id,
                client_id=client_id,
                now=now,
                network_id=old.network_id,
                new_network_id=new.network_id,
            )
        return NetworkClosed(
            user_id=old.user_id,
            client_id=client_id,
            now=now,
            network_id=old.network_id,
            cause=Cause.TAKEOVER,
            reason=Reason.LOST,
        )

    def _end(self, report: Ended, now: int) -> NetworkClosed | None:
        client_id = report.client_id
        if report.cause is Cause.TAKEOVER and report.user_id is None and report.endpoint is None:
            self._taken_over(client_id)  # the connection itself may be unknown here
        ended = self._find(report)
        if ended is None:
            return None
        if report.cause is not Cause.TAKEOVER and self._current.get(client_id) is ended:
            # A connection that is taken over goes when the new one begins, perhaps of another user.
            del self._current[client_id]
            self._remember_previous(client_id, ended)
        return NetworkClosed(
            user_id=ended.user_id,
            client_id=client_id,
            now=now,
            network_id=ended.network_id,
            cause=report.cause,
            reason=_REASONS.get(report.cause, Reason.LOST),
        )

    def _find(self, report: Ended) -> ReportedConnection | None:
        """Return the connection that has ended; None: unknown or ambiguous."""
        client_id = report.client_id
        known = [c for c in (self._current.get(client_id), self._previous.get(client_id)) if c is not None]
        if report.user_id is not None:
            known = [c for c in known if c.user_id == report.user_id]
            if report.network_id is not None:
                unknown = ReportedConnection(report.user_id, None, report.network_id, self._era)
                return next((c for c in known if c.network_id == report.network_id), unknown)
        if report.endpoint is not None:
            return next((c for c in known if c.network_id & 0xFFFF_FFFF == report.endpoint), None)
        if not known or self._ambiguous.is_ambiguous(report):
            return None
        began = known[0].network_id >> 32
        if began and report.second is not None and report.second < began:
            return None  # the end of an earlier connection
        return known[0]

    def _taken_over(self, client_id: ClientId) -> None:
        if self._source is not None and not self._source.names_ends:
            self._ambiguous.add(client_id)

    def _remember_previous(self, client_id: ClientId, connection: ReportedConnection) -> None:
        self._previous.pop(client_id, None)
        self._previous[client_id] = connection
        if len(self._previous) > MAX_ENDED:
            self._previous.popitem(last=False)
