"""The prober: the connections of a check, and the steps that probes have in common.

The messages of a check have no effect on a bridge that uses the same broker. Every payload under `presence/`
is a JSON string, which the protocol refuses: no record, status or event results. Client ids and users in
topics are random. `Prober.close` ends the sessions and clears the retained messages.
"""

import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from mqtt_presence.protocol.topics import LOGIN, WILL
from mqtt_presence.tools.check.cleanup import Cleanup
from mqtt_presence.tools.check.config import CheckConfig, Cluster
from mqtt_presence.tools.check.findings import Broker, OtherBridge
from mqtt_presence.tools.check.known_brokers import OTHER
from mqtt_presence.tools.check.poll_loop import ANSWER_S, PollLoop
from mqtt_presence.tools.check.probe_client import ProbeClient, Received, Sent
from mqtt_presence.tools.check.probe_connections import ProbeConnections
from mqtt_presence.tools.check.probe_names import ProbeNames

_QUIET_S = 0.3
_LONG_WAIT_S = 1.0
_QUIET_ROUND_TRIPS = 6
_GRACE_S = 0.05


class SilentClient(NamedTuple):
    """A client that stopped sending right after its login."""

    client: ProbeClient
    will: bytes
    """The payload of its will."""
    since: float
    """Monotonic seconds."""


class Prober:
    """Tries requests on a broker.

    Args:
        config: of the check.

    """

    def __init__(self, config: CheckConfig) -> None:
        self.config = config
        self.topics = config.topics
        self.names = ProbeNames(config)
        self.loop = PollLoop()
        self.connections = ProbeConnections(config, self.names, self.loop)
        self.cleanup = Cleanup(self.names, self.connections, self.loop)
        self.observer: ProbeClient
        """A connection as the bridge, which receives the clients' messages."""
        self.quiet_s = _QUIET_S
        """How long to wait for a message that should not come, seconds; more for a distant broker."""
        self.long_wait_s = _LONG_WAIT_S
        """How long to wait for a message that is optional, seconds."""
        self.broker = Broker(OTHER)
        self.other_bridge: OtherBridge | None = None
        """The state of another bridge; None before `find_other_bridge`."""
        self.cluster: Cluster | None = None
        """The nodes; None before `cluster_of`."""
        self.ties_client_ids: bool | None = None
        """Whether a client's rights end at its own client id; None before that probe."""
        self.may_read_inputs = False
        """Whether the broker grants the bridge its subscription to clients' messages."""
        self.receives_inputs = False
        """Whether clients' messages reach the bridge."""
        self.silent_client: SilentClient | None = None

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
        """End the check with `InterruptedCheckError`; callable in a signal handler."""
        self.loop.interrupt()

    @property
    def leftovers(self) -> list[str]:
        """Descriptions of everything that the broker did not remove."""
        return self.cleanup.leftovers

    def _begin(self) -> None:
        """Connect as bridge and client, so that wrong credentials end the check at once.

        Raises:
            BrokerError: the broker cannot be reached, or refuses one of the users.

        """
        self.observer = self.connections.first_of_bridge()
        self.connections.try_clients()
        began = time.monotonic()
        self.may_read_inputs = self.subscribe(self.observer, self.topics.inputs)
        self.receives_inputs = self.may_read_inputs
        self.quiet_s = max(_QUIET_S, _QUIET_ROUND_TRIPS * (time.monotonic() - began))
        self.long_wait_s = max(_LONG_WAIT_S, self.quiet_s)

    def close(self) -> None:
        """Remove the traces of the check in a bounded time, after any error."""
        self.loop.begin_closing()
        observer = getattr(self, "observer", None)
        for client in self.loop.clients:
            if client is not observer:
                client.disconnect()
        self.cleanup.run()
        if observer is not None:
            observer.disconnect()

    # The observer.

    def observe(self) -> None:
        """Connect the observer again.

        Raises:
            BrokerError: the broker is no longer reachable.

        """
        self.observer = self.connections.bridge()
        self.subscribe(self.observer, self.topics.inputs)

    def is_observing(self) -> bool:
        """Return whether the observer's connection has lasted, after reading a pending end of it."""
        self.loop.read_available()
        return not self.observer.is_over

    def wait_for_observer(self, payload: bytes, timeout_s: float = ANSWER_S) -> Received | None:
        """Wait until the observer has received a payload; return None after the timeout."""
        self.wait_for_payload(self.observer, payload, timeout_s)
        return next(iter(self.observer.inbox.with_payload(payload)), None)

    def sync(self, client: ProbeClient) -> bool:
        """Publish an allowed message; return whether the observer receives it.

        Earlier messages of the client have arrived by then, or never will.
        """
        if client.is_over:
            client = self.connections.client()
        payload = self.names.unique_payload()
        client.publish(
            self.names.own_topic(client.client_id, LOGIN, client.credentials.url.username), payload
        )
        has_arrived = self.wait_for_observer(payload) is not None
        self.loop.rest(_GRACE_S)
        return has_arrived

    # Requests and answers.

    def subscribe(self, client: ProbeClient, topic_filter: str, qos: int = 1) -> bool:
        """Subscribe, wait for the answer, and return whether the broker granted it."""
        asked = client.subscribe(topic_filter, qos)
        self.loop.until(lambda: asked.is_answered or client.is_over)
        return asked.is_granted

    def wait_for_answers(self, sent: Iterable[Sent], timeout_s: float = ANSWER_S) -> bool:
        """Wait until the broker has answered all publications; return False after the timeout."""
        all_sent = list(sent)
        return self.loop.until(lambda: all(s.reason is not None for s in all_sent), timeout_s)

    def wait_for_answer(self, sent: Sent, client: ProbeClient, timeout_s: float = ANSWER_S) -> None:
        """Wait until the broker has acknowledged, refused, or closed the connection."""
        self.loop.until(lambda: sent.reason is not None or client.is_over, timeout_s)

    def wait_for_payload(self, client: ProbeClient, payload: bytes, timeout_s: float = ANSWER_S) -> bool:
        """Wait until a client has received a payload; return False after the timeout."""
        return self.loop.until(lambda: client.inbox.with_payload(payload), timeout_s)

    def wait_for_all(self, wanted: Sequence[tuple[ProbeClient, bytes]]) -> None:
        """Wait for a payload at each client; after the first one, only as long as more arrive."""

        def count() -> int:
            return sum(bool(client.inbox.with_payload(payload)) for client, payload in wanted)

        if self.loop.until(count):
            self.loop.until_quiet(count, len(wanted), 2 * self.quiet_s, ANSWER_S)

    def find_reader(self, topic: str) -> ProbeClient | None:
        """Return a connection, as client or bridge, that receives the bridge's messages on a topic."""
        readers = [connect() for connect in (self.connections.client, self.connections.bridge)]
        for reader in readers:
            self.subscribe(reader, topic)
        control, writer = self.names.unique_payload(), self.connections.bridge()
        writer.publish(topic, control)
        self.loop.until(
            lambda: any(reader.inbox.with_payload(control) for reader in readers), self.long_wait_s
        )
        writer.disconnect()
        found = next((reader for reader in readers if reader.inbox.with_payload(control)), None)
        for reader in readers:
            if reader is not found:
                reader.disconnect()
        return found

    def begin_silence(self, keep_alive_s: int) -> None:
        """Open a connection that stops sending at once."""
        client_id, will = self.names.client_id("silent"), self.names.unique_payload()
        client = self.connections.client(
            client_id, keep_alive_s=keep_alive_s, will=(self.names.own_topic(client_id, WILL), will)
        )
        client.is_silent = True
        self.silent_client = SilentClient(client, will, time.monotonic())
