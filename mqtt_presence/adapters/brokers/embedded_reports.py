"""The embedded broker's reports of its clients (`protocol/client_reports.py`)."""

import math
from collections.abc import Sequence

from mqtt_presence.adapters.port import Connected, Ended, ListedClients
from mqtt_presence.protocol.client_reports import ReportedClient, decode_client_report
from mqtt_presence.protocol.topics import CLIENT_REPORTS
from mqtt_presence.rules.model import ClientId, UserId


class EmbeddedReports:
    """Reads the reports."""

    keeps = True
    keeps_s = math.inf
    lists = True
    names_ends = True
    filters: Sequence[str] = (CLIENT_REPORTS,)
    dialect: str | None = None

    def __init__(self) -> None:
        self._number: int | None = None
        self.has_gap = False

    def is_gone_at_takeover(self, network_id: int) -> bool:
        """See `Source`."""
        del network_id
        return True

    def read(self, topic: str, payload: bytes) -> Connected | Ended | ListedClients | None:
        """See `Source`."""
        if topic != CLIENT_REPORTS:
            return None
        message = decode_client_report(payload)
        if message.clients is not None:
            self._number, self.has_gap = message.number, False
            return ListedClients(tuple(map(_connected, message.clients)), message.first, message.last)
        if self._number is not None and message.number > self._number + 1:
            self.has_gap = True
        self._number = message.number
        if message.connected is not None:
            return _connected(message.connected)
        end = message.ended
        if end is None:
            return None
        return Ended(
            client_id=ClientId(end.client), user_id=UserId(end.user), cause=end.cause, network_id=end.id
        )


def _connected(client: ReportedClient) -> Connected:
    return Connected(ClientId(client.client), UserId(client.user), client.address, client.id)
