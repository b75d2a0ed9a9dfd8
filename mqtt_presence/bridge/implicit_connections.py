"""Implicit connections: clients that the broker reports, and that send no messages of their own (I1).

A client has `after_s` to log in. It is judged only when all messages that arrived within that time are
processed, so a bridge that is behind opens no record beside that of a waiting login.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence

from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import CHUNK, Committer
from mqtt_presence.bridge.implicit_identity import ImplicitIdentity
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.new_connections import ReportedConnection
from mqtt_presence.bridge.part import Part
from mqtt_presence.protocol.incoming import fresh_connection_id
from mqtt_presence.rules.events import Event, NetworkOpened
from mqtt_presence.rules.model import ClientId, UserId
from mqtt_presence.store import Transaction

_SHORTEST_S = 0.001


class ImplicitConnections(Part):
    """Opens the records of clients that did not log in.

    Args:
        connections: has the reports.
        identity: names the users.
        committer: opens the records.
        clock: the bridge's.
        after_s: how long a client has to log in, seconds.

    """

    is_of_all = False

    def __init__(
        self,
        connections: BrokerConnections,
        identity: ImplicitIdentity,
        committer: Committer,
        clock: Clock,
        after_s: float,
    ) -> None:
        self._connections = connections
        self._identity = identity
        self._committer = committer
        self._clock = clock
        self._after_s = after_s
        self._until_s = -math.inf
        self._due: deque[tuple[float, ClientId, ReportedConnection]] = deque()
        """By the monotonic clock, in the order of the reports."""

    def restore(self, tx: Transaction) -> None:
        """Learn the client ids of the bridges, which never count."""
        self._identity.own_clients.update(tx.seat_clients())

    def caught_up(self, until: int, until_s: float) -> None:
        """See `Part`."""
        del until
        self._until_s = until_s

    def wait_s(self) -> float:
        """See `Part`."""
        left_s = self._due[0][0] - self._clock.monotonic() if self._due else 0.0
        return max(_SHORTEST_S, left_s) if left_s > 0 else math.inf

    def step(self, link: Link) -> bool:
        """Open the records of the next clients whose time to log in is over."""
        self._queue_new()
        if not self._due or self._due[0][0] > self._until_s:
            return True
        ready: dict[ClientId, ReportedConnection] = {}
        count = 0
        for due_s, client_id, connection in self._due:
            if due_s > self._until_s or count == CHUNK:
                break
            count += 1
            if self._is_waiting(client_id, connection):
                ready[client_id] = connection
        if ready:
            self._open(link, ready)
        for _ in range(count):
            self._due.popleft()
        return not self._due or self._due[0][0] > self._until_s

    def _queue_new(self) -> None:
        new = self._connections.new.added
        if not new:
            return
        now, now_s = self._clock.now(), self._clock.monotonic()
        for client_id, connection in new:
            waited_s = min(self._after_s, max(0.0, (now - connection.reported_at) / 1000))
            self._due.append((now_s + self._after_s - waited_s, client_id, connection))
        new.clear()

    def _is_waiting(self, client_id: ClientId, connection: ReportedConnection) -> bool:
        """Return whether a client is still connected by this connection, and no record names it."""
        current = self._connections.current(client_id)
        is_current = current is not None and current.network_id == connection.network_id
        return is_current and self._connections.new.is_waiting(client_id, connection)

    def _open(self, link: Link, ready: Mapping[ClientId, ReportedConnection]) -> None:
        now = self._clock.now()
        # Reports without an order may arrive after the login.
        slack = 0 if self._connections.keeps_reports else round(self._after_s * 1000)
        events: dict[UserId, list[Event]] = {}
        for client_id, connection in ready.items():
            user_id = self._identity.user_of(connection, client_id)
            if user_id is not None:
                events.setdefault(user_id, []).append(
                    NetworkOpened(
                        user_id=user_id,
                        client_id=client_id,
                        now=now,
                        network_id=connection.network_id,
                        connected_at=min(now, connection.reported_at or now) - slack,
                        connection_id=fresh_connection_id(),
                        ip_addr=connection.address,
                        is_listed=not connection.reported_at,
                    )
                )

        def collect(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            self._connections.new.save_named(tx, ready)
            return events

        self._committer.run(link, collect, lambda _: self._connections.new.named(ready))
