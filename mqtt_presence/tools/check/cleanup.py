"""Clearing up after a check: its sessions on the broker, and its retained messages."""

from collections.abc import Sequence
from contextlib import suppress

from mqtt_presence.errors import BrokerError
from mqtt_presence.tools.check.poll_loop import PollLoop
from mqtt_presence.tools.check.probe_client import (
    ConnectOptions,
    Credentials,
    ProbeClient,
    Sent,
    UnreachableError,
)
from mqtt_presence.tools.check.probe_connections import ProbeConnections
from mqtt_presence.tools.check.probe_names import ProbeNames

_CLOSING_S = 5.0
_EXPIRY_S = 120


class Cleanup:
    """Removes the traces of a check from the broker.

    Args:
        names: selects the messages of the check.
        connections: have the sessions to end.
        loop: serves the connections.

    """

    def __init__(self, names: ProbeNames, connections: ProbeConnections, loop: PollLoop) -> None:
        self._names = names
        self._connections = connections
        self._loop = loop
        self._retained: dict[tuple[str, Credentials], None] = {}
        self.leftovers: list[str] = []
        """Descriptions of everything that the broker did not remove."""

    def retain(self, client: ProbeClient, topic: str, payload: bytes) -> Sent:
        """Publish a retained message, to be cleared at the end of the check."""
        self._retained[topic, client.credentials] = None
        return client.publish(topic, payload, retain=True, expires_after_s=_EXPIRY_S)

    def run(self) -> None:
        """End all sessions and clear all retained messages, in a bounded time."""
        self._end_sessions()
        if self._retained:
            for credentials in dict.fromkeys(of for _, of in self._retained):
                self._clear_retained(
                    [topic for topic, of in self._retained if of == credentials], credentials
                )
        self._connections.sessions.clear()
        self._retained.clear()

    def _end_sessions(self) -> None:
        """Connect clean with each client id, which ends its session (MQTT 3.1.1 §3.1.2.4)."""
        left = sorted(self._connections.sessions, key=lambda session: session[0])
        for mqtt5 in dict.fromkeys((self._connections.mqtt5, False)):
            left = self._connect_clean(left, mqtt5=mqtt5)
        self.leftovers.extend(f"the session of client id {client_id}" for client_id, _ in left)

    def _connect_clean(
        self, sessions: list[tuple[str, Credentials]], *, mqtt5: bool
    ) -> list[tuple[str, Credentials]]:
        """Connect clean with all of them at once; return those that the broker refuses."""
        options = ConnectOptions(mqtt5=mqtt5)
        clients = [
            ProbeClient(credentials, client_id, options, self._names.is_of_check)
            for client_id, credentials in sessions
        ]
        with suppress(UnreachableError):  # each further attempt may take as long
            for client in clients:
                self._connections.open(client)
        self._loop.until(lambda: all(c.is_accepted or c.is_over for c in self._loop.clients), _CLOSING_S)
        for client in clients:
            client.disconnect()
        return [session for session, c in zip(sessions, clients, strict=True) if not c.is_accepted]

    def _clear_retained(self, topics: Sequence[str], credentials: Credentials) -> None:
        try:
            client = self._connections.bridge(credentials=credentials)
            cleared = [client.publish(topic, b"", retain=True) for topic in topics]
            self._loop.until(lambda: all(sent.reason is not None for sent in cleared), _CLOSING_S)
            is_done = all(sent.is_acknowledged for sent in cleared)
            client.disconnect()
        except BrokerError:
            is_done = False
        if not is_done:
            self.leftovers.extend(f"the retained message of {topic}" for topic in topics)
