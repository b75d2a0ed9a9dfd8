"""Reports of connected clients, for a bridge that counts those without presence messages (rule I1)."""

import time
from collections.abc import Callable

from mqtt_presence.embedded.deliveries import Delivery, Message, new_message
from mqtt_presence.embedded.sessions import EndCause, Session
from mqtt_presence.protocol.client_reports import ReportedClient, encode_connected, encode_ended, encode_list
from mqtt_presence.protocol.topics import CLIENT_REPORTS
from mqtt_presence.rules import model

_CAUSES = {
    EndCause.DISCONNECT: model.Cause.DISCONNECT,
    EndCause.LOST: model.Cause.CLOSED,
    EndCause.KEEP_ALIVE: model.Cause.KEEP_ALIVE,
    EndCause.TAKEOVER: model.Cause.TAKEOVER,
    EndCause.SHUTDOWN: model.Cause.CLOSED,
    EndCause.SLOW: model.Cause.ERROR,
}


class ClientReports:
    """Publishes a report of each connect and end, once a bridge has subscribed to them.

    Args:
        route: delivers a message to the sessions that subscribed to its topic.

    """

    def __init__(self, route: Callable[[Message], bool]) -> None:
        self._route = route
        self._number = 0
        self._network_id = time.time_ns() // 1000  # greater than those before a restart
        self._clients: dict[int, ReportedClient] = {}
        self._is_wanted = False

    def connected(self, session: Session, address: str) -> int:
        """Report a client's new network connection; return its number."""
        self._network_id += 1
        client = ReportedClient(session.client_id, session.user, address, self._network_id)
        if not session.bridge:
            self._clients[client.id] = client
            self._report(lambda number: encode_connected(number, client))
        return client.id

    def ended(self, network_id: int, cause: EndCause) -> None:
        """Report the end of a network connection."""
        client = self._clients.pop(network_id, None)
        if client is not None:
            self._report(lambda number: encode_ended(number, client, _CAUSES[cause]))

    def send_list(self, session: Session, topic_filter: str, qos: int) -> None:
        """Send the list of connected clients to a bridge that has subscribed to the reports."""
        if not session.bridge or topic_filter != CLIENT_REPORTS:
            return
        self._is_wanted = True
        for payload in encode_list(self._number, [*self._clients.values()]):
            session.enqueue(Delivery(new_message(CLIENT_REPORTS, payload, 1), qos))

    def _report(self, encode: Callable[[int], bytes]) -> None:
        if self._is_wanted:
            self._number += 1
            self._route(new_message(CLIENT_REPORTS, encode(self._number), 1))
