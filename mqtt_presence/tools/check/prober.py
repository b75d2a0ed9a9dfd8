"""Where probes work: connections as bridge and as client, served by one thread, and cleared away after.

Nothing that is published here means anything to a bridge that runs on the same broker: what goes to
`presence/` is a JSON string, which the protocol refuses, so there is no record, no status and no event of it.
Client ids and users that are written about are random. `close` ends sessions and clears what is retained.
"""

import secrets
import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self

from mqtt_presence.errors import BrokerError, PayloadError, PresenceError
from mqtt_presence.mqtt.return_codes import UNSUPPORTED_VERSION
from mqtt_presence.protocol.client_messages import BridgeStateName, decode_bridge_state
from mqtt_presence.protocol.topics import LOGIN, TIME, WILL, Topics
from mqtt_presence.tools.check.findings import Broker
from mqtt_presence.tools.check.probe_client import (
    OPEN_S,
    ClosedError,
    ConnectOptions,
    Credentials,
    ProbeClient,
    Received,
    RefusedError,
    Sent,
    UnreachableError,
)

ANSWER_S = 3.0
"""How long a message or an answer may take."""

_TICK_S = 0.05
_QUIET_S = 0.3
_PATIENT_S = 1.0
_QUIET_ROUND_TRIPS = 6
_GRACE_S = 0.05
_LONGEST_USER = 40
_CLOSING_S = 5.0
_MAX_READS = 200


class InterruptedCheckError(PresenceError):
    """Somebody wants it to end."""


class OtherBridge(Enum):
    """What `bridge/state` tells of a bridge that is no part of this."""

    AT_WORK = auto()
    AWAY = auto()
    """It has said so, and its session may wait for it."""
    NONE = auto()
    UNKNOWN = auto()
    """None of the users given hears what a bridge says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """What to check, with which credentials.

    Args:
        bridge: as the bridge.
        client: as a client; its URL names a user.
        second: as a client of another user; None: that user is made up, and nobody is behind it.
        websocket: the client by WebSocket; None: not tried.
        topics: the topics under the prefix in use.
        queue: how many messages must wait for a bridge that is away.
        may_overflow: try that even if a bridge lives on this broker, at work or away.

    """

    bridge: Credentials
    client: Credentials
    second: Credentials | None = None
    websocket: Credentials | None = None
    topics: Topics = Topics()  # noqa: RUF009, it does not change
    queue: int = 5000
    may_overflow: bool = False

    @property
    def user(self) -> str:
        """The client's user name."""
        return self.client.url.username or ""


class Prober:
    """Connections to try things with.

    Args:
        config: where, and as whom.

    """

    def __init__(self, config: CheckConfig) -> None:
        self.config = config
        self.topics = config.topics
        self.run = secrets.token_hex(4)
        """What is in everything we publish."""
        self.stand_in = f"mqtt-presence-check-{self.run}"
        """A user that nobody is."""
        self.victim = self.stand_in
        """Another user than the client's."""
        if config.second is not None and config.second.url.username is not None:
            self.victim = config.second.url.username
        self.mqtt5 = False
        """The broker speaks MQTT 5, with the bridge at least."""
        self.mqtt5_refusal: RefusedError | None = None
        self.facts: dict[str, Any] = {}
        """What the broker said of itself to the bridge."""
        self.leftovers: list[str] = []
        """What could not be cleared away."""
        self.observer: ProbeClient
        """The bridge as it is when it is there: it hears what clients say."""
        self.quiet_s = _QUIET_S
        """How long nothing must come until nothing more is expected; longer where the broker is far."""
        self.patient_s = _PATIENT_S
        """The same where something is expected that need not come."""
        self.broker = Broker("other")
        """Which one it is, once that is known."""
        self.ties_client_ids: bool | None = None
        """A client may speak for itself only, not for others of its user; None: not tried."""
        self.may_listen = False
        """The broker grants the bridge its subscription to what clients say."""
        self.is_deaf = False
        """Nothing of what clients say comes to the bridge."""
        self._peers: list[ProbeClient] = []
        self._sessions: set[tuple[str, Credentials]] = set()
        self._retained: list[str] = []
        self._ids = 0
        self._marks = 0
        self._is_interrupted = False
        self._is_closing = False
        self._client_mqtt5 = False
        self._silent: tuple[ProbeClient, bytes, float] | None = None
        self._real_bridge: OtherBridge | None = None

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def interrupt(self) -> None:
        """Make what waits raise `InterruptedCheckError`; from a signal handler too."""
        self._is_interrupted = True

    def _begin(self) -> None:
        """Connect as both, to tell at once what is wrong with the credentials.

        Raises:
            BrokerError: the broker cannot be reached, or refuses one of them.

        """
        self.observer = self._first_of_bridge()
        with _naming("client"):
            self._first_of_client().disconnect()
        if self.config.second is not None:
            with _naming("second_client"):
                self.client(access=self.config.second).disconnect()
        asked_at = time.monotonic()
        self.may_listen = self.subscribe(self.observer, self.topics.inputs)
        self.is_deaf = not self.may_listen
        self.quiet_s = max(_QUIET_S, _QUIET_ROUND_TRIPS * (time.monotonic() - asked_at))
        self.patient_s = max(_PATIENT_S, self.quiet_s)

    def observe(self) -> None:
        """Connect the observer again.

        Raises:
            BrokerError: the broker is not there any more.

        """
        self.observer = self.bridge()
        self.subscribe(self.observer, self.topics.inputs)

    @property
    def other_bridge(self) -> OtherBridge:
        """Whether a bridge lives on this broker: what is sent to fill a queue would fill that bridge's, too.

        Raises:
            BrokerError: the broker cannot be asked.

        """
        if self._real_bridge is None:
            self._real_bridge = self._look_for_bridge()
        return self._real_bridge

    def _look_for_bridge(self) -> OtherBridge:
        """Ask as both users, since either may lack the right; on own connections, since asking may end them.

        A broker may grant a subscription and deliver nothing. So something else is said beside the state: who
        hears that would have heard the state.
        """
        state, beside = self.topics.bridge_state, self.bridge_topic()
        ears = [self.client(), self.bridge()]
        for peer in ears:
            for topic in (state, beside):
                self.subscribe(peer, topic)
        control, writer = self.mark(), self.bridge()
        writer.publish(beside, control)
        told = self.until(lambda: any(self.came(peer, control) for peer in ears), self.patient_s)
        self.until(lambda: any(self.on_topic(peer, state) for peer in ears), self.quiet_s)
        for peer in (*ears, writer):
            peer.disconnect()
        said = [m.payload for peer in ears for m in self.on_topic(peer, state) if m.payload]
        if said:
            return OtherBridge.AT_WORK if any(map(_may_be_online, said)) else OtherBridge.AWAY
        return OtherBridge.NONE if told else OtherBridge.UNKNOWN

    def _first_of_bridge(self) -> ProbeClient:
        """Connect as the bridge does: with MQTT 5 if the broker speaks it."""

        def connect(mqtt5: bool) -> ProbeClient:
            return self.connect(
                self.config.bridge, self.new_id("observer", bridge=True), ConnectOptions(mqtt5=mqtt5)
            )

        with _naming("broker"):
            peer, refusal = _in_newest_version(connect)
        self.mqtt5 = peer.manner.mqtt5
        self.mqtt5_refusal = refusal if isinstance(refusal, RefusedError) else None
        if self.mqtt5:
            self.facts = peer.facts
        return peer

    def _first_of_client(self) -> ProbeClient:
        """Connect as the client: it may come another way than the bridge, where MQTT 5 is not spoken."""
        if not self.mqtt5:
            return self.client()
        peer, refusal = _in_newest_version(lambda mqtt5: self.client(mqtt5=mqtt5))
        if isinstance(refusal, RefusedError) and refusal.code != UNSUPPORTED_VERSION:
            raise refusal
        self._client_mqtt5 = peer.manner.mqtt5
        return peer

    # Names.

    def new_id(self, what: str = "client", *, bridge: bool = False, user: str | None = None) -> str:
        """Make up a client id. It begins with the user, as some brokers' rights want it."""
        self._ids += 1
        name = user or (self.config.bridge.url.username if bridge else self.config.user) or "anonymous"
        return f"{name[:_LONGEST_USER]}-check-{what}-{self.run}-{self._ids}"

    def nobodys_id(self) -> str:
        """Make up the id of a client that is only written about."""
        self._ids += 1
        return f"check-{self.run}-{self._ids}"

    def mark(self) -> bytes:
        """Make up a payload: a JSON string, which every bridge refuses without further ado."""
        self._marks += 1
        return f'"mqtt-presence check {self.run} {self._marks}"'.encode()

    def own(self, client_id: str, verb: str = TIME, user: str | None = None) -> str:
        """Name a topic that a client may publish to."""
        return self.topics.input(user or self.config.user, client_id, verb)

    def bridge_topic(self) -> str:
        """Name a topic beside the bridge's state that nobody listens to."""
        return f"{self.topics.bridge_state.removesuffix('state')}check-{self.run}"

    def _is_ours(self, topic: str, payload: bytes) -> bool:
        ours = self.run in topic or self.run.encode() in payload
        return ours or topic == self.topics.bridge_state or topic.startswith("$SYS/")

    # Connecting.

    def connect(self, access: Credentials, client_id: str, manner: ConnectOptions) -> ProbeClient:
        """Connect, and wait until the broker has accepted it.

        Raises:
            UnreachableError: nobody answers.
            RefusedError: the broker does not accept it.
            ClosedError: it closes the connection instead of an answer.

        """
        peer = ProbeClient(access, client_id, manner, self._is_ours)
        before = set(self._sessions)
        if not manner.clean:
            self._sessions.add((client_id, access))
        peer.open()
        self._peers.append(peer)
        self.until(lambda: peer.is_accepted or peer.is_over or peer.reason is not None, OPEN_S)
        if peer.is_accepted:
            return peer
        answered = peer.is_over or peer.reason is not None
        peer.cut()
        url = access.url
        if peer.reason is not None:
            self._sessions = before  # what is refused leaves no session
            raise RefusedError(
                f"{url} refuses us: {peer.answer}", peer.reason, in_mqtt5=peer.answered_in_mqtt5
            )
        if answered:
            raise ClosedError(f"{url} refuses us: {peer.answer}")
        raise UnreachableError(f"{url} does not answer to CONNECT in {OPEN_S:g} s")

    def client(
        self, client_id: str | None = None, *, access: Credentials | None = None, **manner: Any
    ) -> ProbeClient:
        """Connect as the client, in MQTT 5 where it is spoken, unless told otherwise."""
        access = access or self.config.client
        manner.setdefault("mqtt5", self._client_mqtt5)
        return self.connect(
            access, client_id or self.new_id(user=access.url.username), ConnectOptions(**manner)
        )

    def bridge(self, client_id: str | None = None, **manner: Any) -> ProbeClient:
        """Connect as the bridge's user, with an id that is not the bridge's."""
        manner.setdefault("mqtt5", self.mqtt5)
        return self.connect(
            self.config.bridge, client_id or self.new_id("bridge", bridge=True), ConnectOptions(**manner)
        )

    # Waiting.

    def until(self, condition: Callable[[], object], timeout_s: float = ANSWER_S) -> bool:
        """Serve all peers until the condition is true; False: it was not in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._serve(min(left, _TICK_S))
        return True

    def rest(self, seconds: float) -> None:
        """Serve all peers for this long."""
        self.until(lambda: False, seconds)

    def until_quiet(self, count: Callable[[], int], enough: int, quiet_s: float, timeout_s: float) -> int:
        """Serve all peers until a count is enough or grows no more; returns it."""
        deadline = time.monotonic() + timeout_s
        last, since = count(), time.monotonic()
        while last < enough and time.monotonic() < deadline and time.monotonic() - since < quiet_s:
            self._serve(_TICK_S)
            now = count()
            if now != last:
                last, since = now, time.monotonic()
        return last

    def _serve(self, timeout_s: float) -> None:
        if self._is_interrupted and not self._is_closing:
            raise InterruptedCheckError("interrupted")
        self._peers = [peer for peer in self._peers if not peer.is_over]
        by_fd = {peer.fileno(): peer for peer in self._peers if not peer.is_silent}
        by_fd.pop(-1, None)
        poll = select.poll()
        for fd, peer in by_fd.items():
            poll.register(fd, select.POLLIN | (select.POLLOUT if peer.wants_to_write else 0))
        buffered = [peer for peer in by_fd.values() if peer.has_buffered]
        for fd, events in poll.poll(0 if buffered else timeout_s * 1000):
            peer = by_fd[fd]
            if events & select.POLLOUT:
                peer.write()
            if events & ~select.POLLOUT and peer not in buffered:
                _read_all(peer)
        for peer in buffered:
            _read_all(peer)
        for peer in by_fd.values():
            peer.keep_alive()

    # What probes do again and again.

    def subscribe(self, peer: ProbeClient, topic_filter: str, qos: int = 1) -> bool:
        """Subscribe, wait for the answer, and tell whether it was granted."""
        asked = peer.subscribe(topic_filter, qos)
        self.until(lambda: asked.is_answered or peer.is_over)
        return asked.is_granted

    def delivered(self, sent: Iterable[Sent], timeout_s: float = ANSWER_S) -> bool:
        """Wait until the broker has answered all of them."""
        all_sent = list(sent)
        return self.until(lambda: all(s.reason is not None for s in all_sent), timeout_s)

    def came(self, peer: ProbeClient, payload: bytes) -> list[Received]:
        """Return what a peer has got with this payload."""
        return peer.by_payload.get(payload, [])

    def on_topic(self, peer: ProbeClient, topic: str) -> list[Received]:
        """Return what a peer has got on this topic."""
        return [message for message in peer.received if message.topic == topic]

    def arrived(self, peer: ProbeClient, payload: bytes, timeout_s: float = ANSWER_S) -> bool:
        """Wait until a peer has got it; False: it has not."""
        return self.until(lambda: self.came(peer, payload), timeout_s)

    def gather(self, wanted: Sequence[tuple[ProbeClient, bytes]]) -> None:
        """Wait until all have come; once some have, for the rest only until nothing more comes."""

        def count() -> int:
            return sum(bool(self.came(peer, payload)) for peer, payload in wanted)

        if self.until(count):
            self.until_quiet(count, len(wanted), 2 * self.quiet_s, ANSWER_S)

    def answered(self, sent: Sent, peer: ProbeClient, timeout_s: float = ANSWER_S) -> None:
        """Wait until the broker has acknowledged, refused, or closed the connection."""
        self.until(lambda: sent.reason is not None or peer.is_over, timeout_s)

    def heard(self, payload: bytes, timeout_s: float = ANSWER_S) -> Received | None:
        """Wait until the bridge has heard it; None: it has not."""
        self.arrived(self.observer, payload, timeout_s)
        return next(iter(self.came(self.observer, payload)), None)

    def witness(self, topic: str) -> ProbeClient | None:
        """Find who hears what the bridge writes to a topic: the client, or the bridge; None: neither."""
        ears = [connect() for connect in (self.client, self.bridge)]
        for peer in ears:
            self.subscribe(peer, topic)
        control, writer = self.mark(), self.bridge()
        writer.publish(topic, control)
        self.until(lambda: any(self.came(peer, control) for peer in ears), self.patient_s)
        writer.disconnect()
        hears = next((peer for peer in ears if self.came(peer, control)), None)
        for peer in ears:
            if peer is not hears:
                peer.disconnect()
        return hears

    def fence(self, peer: ProbeClient) -> bool:
        """Publish what is allowed, wait until the bridge has it, and tell whether it has.

        What was sent before has arrived then, or never will.
        """
        if peer.is_over:
            peer = self.client()
        payload = self.mark()
        peer.publish(self.own(peer.client_id, LOGIN, peer.access.url.username), payload)
        arrived = self.heard(payload) is not None
        self.rest(_GRACE_S)
        return arrived

    def retain(self, peer: ProbeClient, topic: str, payload: bytes) -> Sent:
        """Publish a retained message that will not outlive us."""
        self._retained.append(topic)
        return peer.publish(topic, payload, retain=True, expires_after_s=120)

    def begin_silence(self, keep_alive_s: int) -> None:
        """Open a connection that falls silent at once."""
        client_id, payload = self.new_id("silent"), self.mark()
        peer = self.client(client_id, keep_alive_s=keep_alive_s, will=(self.own(client_id, WILL), payload))
        peer.is_silent = True
        self._silent = peer, payload, time.monotonic()

    @property
    def silence(self) -> tuple[ProbeClient, bytes, float] | None:
        """The silent one, its will, and since when; None: it was not begun."""
        return self._silent

    def still_listens(self) -> bool:
        """Tell whether the observer's connection has lasted; its end may be there and not be read yet."""
        self._serve(0)
        return not self.observer.is_over

    # The end.

    def close(self) -> None:
        """Clear away what was made, in a bounded time, whatever has happened."""
        self._is_closing = True
        observer = getattr(self, "observer", None)
        for peer in self._peers:
            if peer is not observer:
                peer.disconnect()
        self._forget_sessions()
        if self._retained:
            self._clear_retained(self._retained)
        if observer is not None:
            observer.disconnect()
        self._peers.clear()
        self._sessions.clear()
        self._retained.clear()

    def _forget_sessions(self) -> None:
        """Connect clean with each id: it is how a session is ended (MQTT 3.1.1 §3.1.2.4)."""
        left = sorted(self._sessions, key=lambda session: session[0])
        for mqtt5 in dict.fromkeys((self.mqtt5, False)):
            left = self._connect_clean(left, mqtt5=mqtt5)
        self.leftovers.extend(f"the session of client id {client_id}" for client_id, _ in left)

    def _connect_clean(
        self, sessions: list[tuple[str, Credentials]], *, mqtt5: bool
    ) -> list[tuple[str, Credentials]]:
        """Connect clean with all of them at once; returns those that the broker does not let in."""
        manner = ConnectOptions(mqtt5=mqtt5)
        peers = [ProbeClient(access, client_id, manner, self._is_ours) for client_id, access in sessions]
        with suppress(UnreachableError):  # then the others need not be tried: each may take its time
            for peer in peers:
                peer.open()
                self._peers.append(peer)
        self.until(lambda: all(peer.is_accepted or peer.is_over for peer in self._peers), _CLOSING_S)
        for peer in peers:
            peer.disconnect()
        return [s for s, peer in zip(sessions, peers, strict=True) if not peer.is_accepted]

    def _clear_retained(self, topics: Sequence[str]) -> None:
        try:
            peer = self.bridge()
            cleared = [peer.publish(topic, b"", retain=True) for topic in dict.fromkeys(topics)]
            done = self.delivered(cleared, _CLOSING_S) and all(sent.is_acknowledged for sent in cleared)
            peer.disconnect()
        except BrokerError:
            done = False
        if not done:
            self.leftovers.extend(f"the retained message of {topic}" for topic in dict.fromkeys(topics))


def _in_newest_version(connect: Callable[[bool], ProbeClient]) -> tuple[ProbeClient, BrokerError | None]:
    """Connect in MQTT 5, or else in 3.1.1; return the connection and why it is not in MQTT 5.

    A port proxy closes connections while its broker is away. So where MQTT 5 was not refused in words, it is
    tried again once the broker has accepted MQTT 3.1.1.
    """
    try:
        return connect(True), None
    except RefusedError as error:
        return connect(False), error
    except ClosedError:
        older = connect(False)
    try:
        newer = connect(True)
    except (RefusedError, ClosedError) as error:
        return older, error
    older.disconnect()
    return newer, None


def _may_be_online(payload: bytes) -> bool:
    try:
        return decode_bridge_state(payload).state is BridgeStateName.ONLINE
    except PayloadError:
        return True  # somebody says something there: better be careful


def _read_all(peer: ProbeClient) -> None:
    peer.read()
    for _ in range(_MAX_READS):
        if not peer.has_buffered:
            return
        peer.read()


@contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Say which setting the broker does not like."""
    try:
        yield
    except BrokerError as error:
        raise BrokerError(f"{setting}: {error}") from error
