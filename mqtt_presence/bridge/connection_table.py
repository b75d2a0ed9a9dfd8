"""The table of reported network connections: the current one of each client, and the one before it.

The methods are for events of many clients: a restart, a redelivery, a list of the connected clients.
`broker_connections` writes what a single report changes.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable

import msgspec

from mqtt_presence.adapters.port import Connected
from mqtt_presence.bridge.new_connections import ReportedConnection, UncommittedReport
from mqtt_presence.rules.model import ClientId


class ConnectionTable:
    """Remembers the connections of each client; the code that adds one bounds the memory."""

    def __init__(self) -> None:
        self.era = 0
        """See `ReportedConnection.era`."""
        self.current: OrderedDict[ClientId, ReportedConnection] = OrderedDict()
        self.previous: OrderedDict[ClientId, ReportedConnection] = OrderedDict()

    def restore(self, client_id: ClientId, connection: ReportedConnection) -> None:
        """Add a connection of the last run, as the latest."""
        self.current.pop(client_id, None)
        self.current[client_id] = msgspec.structs.replace(connection, era=self.era)

    def undo(self, reports: Iterable[UncommittedReport]) -> None:
        """Return to the state before these reports, the latest of them first."""
        for report in reports:
            for connections, before in ((self.current, report.current), (self.previous, report.previous)):
                connections.pop(report.client_id, None)
                if before is not None:
                    connections[report.client_id] = before

    def keep_listed(self, listed: Collection[ClientId], asked_at: int | None = None) -> None:
        """Forget the connections that a list does not have.

        Args:
            listed: the clients of the list.
            asked_at: connections that were reported since then stay, epoch milliseconds; None: none does.

        """
        for client_id, connection in [*self.current.items()]:
            if client_id not in listed and (asked_at is None or connection.reported_at < asked_at):
                del self.current[client_id]

    def add_listed(self, client: Connected, asked_at: int, now: int) -> ReportedConnection | None:
        """Take over a connection of a list that was asked for; return it if it is new."""
        client_id = client.client_id
        current, previous = self.current.get(client_id), self.previous.get(client_id)
        if current is not None and (
            current.network_id == client.network_id or current.reported_at >= asked_at
        ):
            self.current[client_id] = msgspec.structs.replace(current, era=self.era)
            return None
        if previous is not None and previous.network_id == client.network_id:
            return None  # it has ended since
        new = ReportedConnection(client.user_id, client.address, client.network_id, self.era, now)
        self.current[client_id] = new
        return new
