"""What the bridge knows from the broker's own word: who is connected from where, whose connection has ended.

Never who somebody is: that says the topic, which the broker's access rules tie to the login. An address goes
only to the user and client that the broker named together, and an end ends only what came by that connection.

What a line changes here is kept with the batch that it is in: a bridge that starts goes on from what is
committed, and so does one that has lost its connection with the broker, for that delivers the rest again.
"""

import logging
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from mqtt_presence.adapters.port import Connected, Ended
from mqtt_presence.adapters.registry import AUTO, SOURCES
from mqtt_presence.bridge.batch import Batch
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.kept_values import KeptValue, save_changed
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.model import (
    Activity,
    BrokerReport,
    Cause,
    ClientId,
    Event,
    Login,
    NetworkClosed,
    NetworkReplaced,
    Outcome,
    Reason,
    UserId,
)
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 200_000
"""Connections at a time."""
MAX_ENDED = 20_000
MAX_LATE = MAX_CONNECTIONS  # all of them come again, and take over themselves, when a broker was killed
MAX_NEW = 1_000  # of those who connect at the same time, more than come between a connect and its login
_SLOT = "#"  # no client id that is heard of has it
_SETTING, _NEW, _LATE = "source", "source_new", "source_late "
_REASONS = {Cause.DISCONNECT: Reason.LOGOUT, Cause.TAKEOVER: None}


class Peer(Struct, frozen=True, gc=False):
    """A client's connection with the broker, as the broker told of it."""

    user_id: UserId
    address: str | None
    number: int
    """See `Connected.peer`."""
    era: int
    """A number that changes whenever something may have been missed."""


class _Late(Struct, frozen=True, gc=False):
    """How many lines "closed its connection" of a client id are not to be believed."""

    expected: int = 0
    """Of connections before the one that is here."""
    seen: int = 0
    """Since that one is here: all of those before, or its own and all but one of those."""

    def of_next(self, *, with_own: bool) -> "_Late":
        """Tell how many there are for the next connection; `with_own`: the line of this one may come, too."""
        return _Late(self.expected - self.seen + with_own)


_NONE_LATE = _Late()


class _Heard(Struct, gc=False):
    """A line that is not committed yet: what it has changed, and what was there before."""

    payload: bytes
    client_id: ClientId
    here: Peer | None
    over: Peer | None
    late: _Late
    begun: Peer | None = None
    """Who has connected."""
    changed: dict[str, _Late] = {}
    """What it has made of `BrokerConnections._late`."""


class BrokerConnections(OnCheck):
    """Keeps what the broker tells of its connections, in a bounded memory.

    An entry goes when its connection ends. So to push others out, somebody has to have `MAX_CONNECTIONS` of
    them open at once; and who is pushed out is as without a source.

    Args:
        store: keeps the dialect of the reports.
        setting: one of `SOURCES`; ``auto`` is mosquitto's log, where it can be had.

    """

    def __init__(self, store: Store, setting: str = AUTO) -> None:
        super().__init__()
        self._store = store
        self._setting = setting
        self._source = SOURCES[setting]()
        self._era = 0
        self._here: OrderedDict[ClientId, Peer] = OrderedDict()
        self._over: OrderedDict[ClientId, Peer] = OrderedDict()
        # By client id; and, by checksum, those of which no more is known than that there may be some.
        self._late: OrderedDict[str, _Late] = OrderedDict()
        self._doubted: set[str] = set()
        # What is heard and not committed, by packet id; and of that, what was of a session that is lost.
        self._heard: OrderedDict[int, _Heard] = OrderedDict()
        self._orphaned: list[_Heard] = []
        self._changed: dict[str, _Late] = {}
        # What is committed: who has connected while no record tells of it yet.
        self._new: dict[ClientId, Peer] = {}
        self._committing: tuple[dict[ClientId, Peer], list[int]] = self._new, []
        self._unwanted: tuple[str, ...] = ()
        # How to read the broker's word: what has waited for us comes before it tells that again.
        self.memory = KeptValue(
            "source_dialect", lambda: None if self._source is None else self._source.dialect
        )

    # What must survive a restart.

    def restore(self, tx: Transaction) -> None:
        """Read what was known when the bridge was last running: most of it is in the open records."""
        before = SOURCES.get(tx.recall(_SETTING) or "none", SOURCES["none"])()
        wanted = () if self._source is None else self._source.filters
        self._unwanted = () if before is None else tuple(f for f in before.filters if f not in wanted)
        tx.remember(_SETTING, self._setting)
        if self._source is not None:
            self._source.dialect = self.memory.restore(tx)
        for user_id, client_id, number, address in tx.told_connections(MAX_CONNECTIONS):
            self._here.pop(client_id, None)
            self._here[client_id] = Peer(user_id, address, number, self._era)
        kept = tx.recall(_NEW)
        if kept is not None:  # they came later than who has a record that is open
            self._new = msgspec.json.decode(kept, type=dict[ClientId, Peer])
            for client_id, peer in self._new.items():
                self._here.pop(client_id, None)
                self._here[client_id] = msgspec.structs.replace(peer, era=self._era)
        for name, late in tx.recall_all(_LATE).items():
            if name.startswith(_SLOT):
                self._doubted.add(name)
            else:
                self._late[name] = _Late(*map(int, late.split()))

    def has_read(self, message: Incoming) -> bool:
        """Tell whether it says something of a connection, and is not committed yet."""
        return message.mid in self._heard and self._known_again(message) is not None

    def save_batch(self, tx: Transaction, batch: Batch) -> None:
        """See `BatchRecorder`."""
        events = [event for of_user in batch.events.values() for event in of_user]
        self.remember_batch(tx, filter(self.has_read, batch.messages), events)

    def batch_committed(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """See `BatchRecorder`."""
        del batch, outcomes
        self.committed()

    def batch_given_up(self, message: Incoming) -> None:
        """See `BatchRecorder`."""
        self.give_up(message)

    def check(self, link: Link) -> bool:
        """Save the dialect of the reports, if it has changed."""
        del link
        save_changed(self._store, self.memory)
        return True

    def handle(self, link: Link, message: Incoming) -> bool:
        """Ignore what the broker reports beside connections, from subscriptions of before."""
        del link
        return self.is_about(message)

    def remember_batch(self, tx: Transaction, messages: Iterable[Incoming], events: Iterable[Event]) -> None:
        """Keep what the lines of a batch have changed here; `committed` says that it is done.

        Args:
            tx: of the batch.
            messages: all of it, in order.
            events: what was made of it.

        """
        new, late, mids = dict(self._new), dict[str, _Late](), list[int]()
        heard = [*self._orphaned]
        for message in messages:
            line = self._known_again(message)
            if line is not None:
                heard.append(line)
                mids.append(message.mid)
        for line in heard:
            late |= line.changed
            if line.begun is not None:
                new.pop(line.client_id, None)
                new[line.client_id] = line.begun
        for event in events:
            if isinstance(event, Login | Activity | NetworkClosed):
                known = new.get(event.client_id)
                if known is not None and known.number == event.network_id:
                    del new[event.client_id]  # its record tells of it from now on; or it is gone
        for client_id in list(new)[: max(0, len(new) - MAX_NEW)]:
            del new[client_id]
        for name, count in late.items():
            tx.remember(_LATE + name, f"{count.expected} {count.seen}" if count.expected else None)
        if new != self._new:
            tx.remember(_NEW, msgspec.json.encode(new).decode() if new else None)
        self._committing = new, mids

    def committed(self) -> None:
        """Take note that the last `remember_batch` is in the database."""
        self._new, mids = self._committing
        self._orphaned.clear()
        for mid in mids:
            self._heard.pop(mid, None)

    def give_up(self, message: Incoming) -> None:
        """Take note that the database refuses what came of this one: it will not come again."""
        if self.has_read(message):
            self._orphaned.append(self._heard.pop(message.mid))

    # Listening.

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Listen to the broker on a new connection, if we may."""
        del contested
        for topic_filter in self._unwanted if session_present else ():
            link.unsubscribe(topic_filter)
        if self._source is None:
            return
        if not session_present or not self._source.keeps:
            self._era += 1  # who was here may have come again by another connection meanwhile
        if session_present:
            self._forget_heard()
        else:  # packet ids begin anew
            self._orphaned += self._heard.values()
            self._heard.clear()
        # mosquitto speaks MQTT 5. On a broker that does not, who asks for $SYS may get less of the rest.
        if link.is_mqtt5 or self._setting != AUTO:
            for topic_filter in self._source.filters:
                link.subscribe(topic_filter, required=False)

    @staticmethod
    def is_about(message: Incoming) -> bool:
        """Tell whether the broker itself has said it (MQTT 3.1.1 §4.7.2)."""
        return message.topic.startswith("$SYS/")

    @property
    def filters(self) -> Sequence[str]:
        """See `Adapter`."""
        return () if self._source is None else self._source.filters

    def read(self, message: Incoming, now: int) -> Iterable[BrokerReport]:
        """See `Adapter`."""
        report = self.hear(message, now)
        return () if report is None else (report,)

    def hear(self, message: Incoming, now: int) -> BrokerReport | None:
        """Take what the broker says.

        Args:
            message: one that `is_about` what is here, and is not committed yet.
            now: the bridge's clock on receipt, epoch milliseconds.

        Returns:
            What it means for somebody's records, if it does.

        """
        said = None if self._source is None else self._source.read(message.topic, message.payload)
        if said is None:
            return None
        client_id = said.client_id
        here, over = self._here.get(client_id), self._over.get(client_id)
        heard = _Heard(message.payload, client_id, here, over, self._late.get(client_id, _NONE_LATE))
        self._changed = heard.changed
        match said:
            case Connected():
                told = self._begun(said, now, is_repeated=message.dup)
                now_here = self._here.get(client_id)
                heard.begun = None if now_here is here else now_here
            case Ended():
                told = self._ended(said, now)
        if message.qos:
            self._heard.pop(message.mid, None)
            self._heard[message.mid] = heard
        return told

    def _forget_heard(self) -> None:
        """Go back to what is committed: the rest comes again, with the messages between its lines."""
        for heard in reversed(self._heard.values()):
            for peers, peer in ((self._here, heard.here), (self._over, heard.over)):
                peers.pop(heard.client_id, None)
                if peer is not None:
                    peers[heard.client_id] = peer
            self._set_late(heard.client_id, heard.late)
        self._heard.clear()

    def _known_again(self, message: Incoming) -> _Heard | None:
        heard = self._heard.get(message.mid)
        is_same = heard is not None and heard.payload == message.payload and self.is_about(message)
        return heard if is_same and message.qos else None

    def peer(self, user_id: str, client_id: str) -> Peer | None:
        """Return by which connection this user's client is here, if the broker has said so."""
        peer = self._here.get(ClientId(client_id))
        return peer if peer is not None and peer.user_id == user_id and peer.era == self._era else None

    def network_of(self, user_id: UserId, client_id: ClientId) -> tuple[str | None, int | None]:
        """Return a client's address and the number of its network connection; None where unknown."""
        peer = self.peer(user_id, client_id)
        return (None, None) if peer is None else (peer.address, peer.number)

    # What it means.

    def _begun(self, said: Connected, now: int, *, is_repeated: bool) -> BrokerReport | None:
        client_id = said.client_id
        new = Peer(said.user_id, said.address, said.peer, self._era)
        old = self._here.get(client_id)
        if old is not None and is_repeated and new.number >> 32 < old.number >> 32:
            return None  # of the past; it should not come
        self._here[client_id] = new
        self._here.move_to_end(client_id)
        if len(self._here) > MAX_CONNECTIONS:
            self._here.popitem(last=False)
        if old is None:
            # Who was here, if somebody was, is gone, but not by a line that was believed.
            late = self._late.get(client_id, _NONE_LATE)
            self._expect_late(client_id, late.of_next(with_own=late.seen > 0))
        if old is None or old.number == new.number:
            return None
        self._expect_late(client_id, self._late.get(client_id, _NONE_LATE).of_next(with_own=True))
        self._bury(client_id, old)
        if old.user_id == new.user_id:  # its login will end the old record, and nobody sees a gap
            return NetworkReplaced(
                user_id=old.user_id,
                client_id=client_id,
                now=now,
                network_id=old.number,
                new_network_id=new.number,
            )
        return NetworkClosed(
            user_id=old.user_id,
            client_id=client_id,
            now=now,
            network_id=old.number,
            cause=Cause.TAKEOVER,
            reason=Reason.LOST,
        )

    def _ended(self, said: Ended, now: int) -> NetworkClosed | None:
        is_nameless = said.user_id is None and said.endpoint is None
        if is_nameless and said.cause is Cause.TAKEOVER and said.client_id not in self._here:
            # Whoever has it was forgotten, so the next line will not count.
            late = self._late.get(said.client_id, _NONE_LATE)
            self._expect_late(said.client_id, _Late(late.of_next(with_own=late.seen > 0).expected + 1))
        peer = self._which(said)
        if peer is None:
            return None
        if said.cause is not Cause.TAKEOVER and self._here.get(said.client_id) is peer:
            # One that is taken over goes when the new one comes, which may be another user's.
            del self._here[said.client_id]
            self._bury(said.client_id, peer)
            late = self._late.get(said.client_id, _NONE_LATE)
            self._expect_late(said.client_id, late.of_next(with_own=False))
        return NetworkClosed(
            user_id=peer.user_id,
            client_id=said.client_id,
            now=now,
            network_id=peer.number,
            cause=said.cause,
            reason=_REASONS.get(said.cause, Reason.LOST),
        )

    def _which(self, said: Ended) -> Peer | None:
        """Find the connection that is meant; None: none that is known without doubt."""
        known = [p for p in (self._here.get(said.client_id), self._over.get(said.client_id)) if p is not None]
        if said.user_id is not None:
            known = [p for p in known if p.user_id == said.user_id]
            if said.peer is not None:
                told = Peer(said.user_id, None, said.peer, self._era)
                return next((p for p in known if p.number == said.peer), told)
        if said.endpoint is not None:
            return next((p for p in known if p.number & 0xFFFF_FFFF == said.endpoint), None)
        if not known or self._is_late(said):
            return None
        began = known[0].number >> 32
        if began and said.second is not None and said.second < began:
            return None  # it is of the one before
        return known[0]

    def _bury(self, client_id: ClientId, peer: Peer) -> None:
        self._over.pop(client_id, None)
        self._over[client_id] = peer
        if len(self._over) > MAX_ENDED:
            self._over.popitem(last=False)

    # mosquitto 2.0 says only whose connection was closed; of a WebSocket that was taken over it says so when
    # its socket is gone at last, which its client can put off. So after a takeover one line is left out.

    def _expect_late(self, client_id: str, late: _Late) -> None:
        if late == self._late.get(client_id, _NONE_LATE) or (self._source and self._source.names_ends):
            return
        self._set_late(client_id, late)
        if len(self._late) > MAX_LATE:
            # Rather believe too little: of the one that has waited longest, and of the few others with its
            # checksum, no such line is believed any more.
            oldest = next(iter(self._late))
            self._set_late(oldest, _NONE_LATE)
            if not self._doubted:
                log.warning(
                    "more than %d client ids were taken over: for some of them mosquitto's line 'closed its "
                    "connection' will end nothing any more; mosquitto 2.1 tells whose it is",
                    MAX_LATE,
                )
            self._doubted.add(_slot(oldest))
            self._changed[_slot(oldest)] = _Late(1)

    def _is_late(self, said: Ended) -> bool:
        if said.cause is not Cause.CLOSED:
            return False
        late = self._late.get(said.client_id, _NONE_LATE)
        if late.seen >= late.expected:
            return _slot(said.client_id) in self._doubted
        is_here = said.client_id in self._here
        self._set_late(
            said.client_id, _Late(late.expected, late.seen + 1) if is_here else _Late(late.expected - 1)
        )
        return True

    def _set_late(self, client_id: str, late: _Late) -> None:
        self._changed[client_id] = late
        if late.expected:
            self._late[client_id] = late
        else:
            self._late.pop(client_id, None)


def _slot(client_id: str) -> str:
    return f"{_SLOT}{zlib.crc32(client_id.encode()) & 0xFFFF:04x}"
