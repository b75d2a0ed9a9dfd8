"""What the bridge knows from the broker's own word: who is connected from where, whose connection has ended.

Never who somebody is: that says the topic, which the broker's access rules tie to the login. An address goes
only to the user and client that the broker named together, and an end ends only what came by that connection.
"""

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from mqtt_presence.link import Incoming, Link
from mqtt_presence.model import Cause, ClientId, Gone, Moved, Reason, Told, UserId
from mqtt_presence.sources import Connected, Ended, Source
from mqtt_presence.sources.json_events import EmqxEvents, NanomqEvents
from mqtt_presence.sources.mosquitto import MosquittoLog
from mqtt_presence.store import Transaction

AUTO = "auto"
MOSQUITTO = "mosquitto"
SOURCES: dict[str, Callable[[], Source | None]] = {
    AUTO: MosquittoLog,
    "none": lambda: None,
    MOSQUITTO: MosquittoLog,
    "emqx": EmqxEvents,
    "nanomq": NanomqEvents,
}
"""The values of the setting `source`."""

MAX_CONNECTIONS = 200_000
"""Connections at a time."""
MAX_ENDED = 20_000  # as many as may be on the way to the bridge, and so may be delivered again
_SETTING, _DIALECT = "source", "source_dialect"
_REASONS = {Cause.DISCONNECT: Reason.LOGOUT, Cause.TAKEOVER: None}


class Peer(Struct, frozen=True, gc=False):
    """A client's connection with the broker, as the broker told of it."""

    user_id: UserId
    address: str | None
    number: int
    """See `Connected.peer`."""
    era: int
    """A number that changes whenever something may have been missed."""


class Witness:
    """Keeps what the broker tells of its connections, in a bounded memory.

    An entry goes when its connection ends. So to push others out, somebody has to have `MAX_CONNECTIONS` of
    them open at once; and who is pushed out is as without a source.

    Args:
        setting: one of `SOURCES`; ``auto`` is mosquitto's log, where it can be had.

    """

    def __init__(self, setting: str = AUTO) -> None:
        self._setting = setting
        self._source = SOURCES[setting]()
        self._era = 0
        self._here: OrderedDict[ClientId, Peer] = OrderedDict()
        self._over: OrderedDict[ClientId, Peer] = OrderedDict()
        # By client id, how many lines "closed its connection" are not to be believed (`_is_late`).
        self._late: dict[ClientId, int] = {}
        self._all_late = False
        self._unwanted: tuple[str, ...] = ()
        self._kept_dialect: str | None = None

    # What must survive a restart.

    def restore(self, tx: Transaction) -> None:
        """Read what was known when the bridge was last running: most of it is in the open records."""
        before = SOURCES.get(tx.recall(_SETTING) or "none", SOURCES["none"])()
        wanted = () if self._source is None else self._source.filters
        self._unwanted = () if before is None else tuple(f for f in before.filters if f not in wanted)
        tx.remember(_SETTING, self._setting)
        if self._source is not None:
            self._kept_dialect = self._source.dialect = tx.recall(_DIALECT)
        for user_id, client_id, number, address in tx.told_connections(MAX_CONNECTIONS):
            self._here.pop(client_id, None)
            self._here[client_id] = Peer(user_id, address, number, self._era)

    @property
    def is_news(self) -> bool:
        """There is something to `remember`."""
        return self._source is not None and self._source.dialect != self._kept_dialect

    def remember(self, tx: Transaction) -> None:
        """Keep how to read the broker's word: what has waited for us comes before it tells that again."""
        if self._source is not None:
            tx.remember(_DIALECT, self._source.dialect)
            self._kept_dialect = self._source.dialect

    # Listening.

    def connected(self, link: Link, *, session_present: bool) -> None:
        """Listen to the broker on a new connection, if we may."""
        for topic_filter in self._unwanted if session_present else ():
            link.unsubscribe(topic_filter)
        if self._source is None:
            return
        if not session_present or not self._source.keeps:
            self._era += 1  # who was here may have come again by another connection meanwhile
        # mosquitto speaks MQTT 5. On a broker that does not, who asks for $SYS may get less of the rest.
        if link.is_mqtt5 or self._setting != AUTO:
            for topic_filter in self._source.filters:
                link.subscribe(topic_filter, required=False)

    @staticmethod
    def is_about(message: Incoming) -> bool:
        """Tell whether the broker itself has said it (MQTT 3.1.1 §4.7.2)."""
        return message.topic.startswith("$SYS/")

    def hear(self, message: Incoming, now: int) -> Told | None:
        """Take what the broker says.

        Args:
            message: one that `is_about` what is here.
            now: the bridge's clock on receipt, epoch milliseconds.

        Returns:
            What it means for somebody's records, if it does.

        """
        said = None if self._source is None else self._source.read(message.topic, message.payload)
        match said:
            case Connected():
                return self._begun(said, now, is_repeated=message.dup)
            case Ended():
                return self._ended(said, now, is_repeated=message.dup)
        return None

    def peer(self, user_id: str, client_id: str) -> Peer | None:
        """Return by which connection this user's client is here, if the broker has said so."""
        peer = self._here.get(ClientId(client_id))
        return peer if peer is not None and peer.user_id == user_id and peer.era == self._era else None

    # What it means.

    def _begun(self, said: Connected, now: int, *, is_repeated: bool) -> Told | None:
        client_id = said.client_id
        new = Peer(said.user_id, said.address, said.peer, self._era)
        old = self._here.get(client_id)
        if old is not None and is_repeated and new.number >> 32 <= old.number >> 32 and old != new:
            return None  # an older one that is delivered again; in the same second nobody can tell
        self._here[client_id] = new
        self._here.move_to_end(client_id)
        if len(self._here) > MAX_CONNECTIONS:
            self._here.popitem(last=False)
        if old is None or old.number == new.number:
            return None
        if not is_repeated:
            self._expect_late(client_id)
        self._bury(client_id, old)
        if old.user_id == new.user_id:  # its login will end the old record, and nobody sees a gap
            return Moved(user_id=old.user_id, client_id=client_id, now=now, peer=old.number, heir=new.number)
        return Gone(
            user_id=old.user_id,
            client_id=client_id,
            now=now,
            peer=old.number,
            cause=Cause.TAKEOVER,
            reason=Reason.LOST,
        )

    def _ended(self, said: Ended, now: int, *, is_repeated: bool) -> Gone | None:
        peer = self._which(said, is_repeated=is_repeated)
        if peer is None:
            return None
        if said.cause is not Cause.TAKEOVER and self._here.get(said.client_id) is peer:
            # One that is taken over goes when the new one comes, which may be another user's.
            del self._here[said.client_id]
            self._bury(said.client_id, peer)
        return Gone(
            user_id=peer.user_id,
            client_id=said.client_id,
            now=now,
            peer=peer.number,
            cause=said.cause,
            reason=_REASONS.get(said.cause, Reason.LOST),
        )

    def _which(self, said: Ended, *, is_repeated: bool) -> Peer | None:
        """Find the connection that is meant; None: none that is known without doubt."""
        # What is delivered again, because we had not acknowledged it, may be about the one before.
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
        if began and said.second is not None:
            is_older = said.second < began or (is_repeated and said.second == began)
        else:
            is_older = is_repeated
        return None if is_older else known[0]

    # mosquitto 2.0 says only whose connection was closed; of a WebSocket that was taken over it says so when
    # its socket is gone at last, which its client can put off. So after a takeover one line is left out.

    def _expect_late(self, client_id: ClientId) -> None:
        if len(self._late) >= MAX_ENDED and client_id not in self._late:
            self._all_late = True  # rather believe none than one too many
            return
        self._late[client_id] = self._late.get(client_id, 0) + 1

    def _is_late(self, said: Ended) -> bool:
        if said.cause is not Cause.CLOSED:
            return False
        if self._all_late:
            return True
        count = self._late.pop(said.client_id, 0)
        if count > 1:
            self._late[said.client_id] = count - 1
        return count > 0

    def _bury(self, client_id: ClientId, peer: Peer) -> None:
        self._over.pop(client_id, None)
        self._over[client_id] = peer
        if len(self._over) > MAX_ENDED:
            self._over.popitem(last=False)
