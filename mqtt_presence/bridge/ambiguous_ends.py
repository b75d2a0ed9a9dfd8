"""Ambiguous ends: mosquitto 2.0's line "closed its connection" after a takeover.

mosquitto 2.0 logs the client id of a closed connection, and not which of its connections was closed. If a
WebSocket was taken over, the line appears only when its socket ends, and the old client decides when. So for
a client id that was ever taken over the line may mean an old connection, and is ignored.
"""

import logging

from mqtt_presence.adapters.port import Ended
from mqtt_presence.rules.model import Cause, ClientId
from mqtt_presence.store import Transaction

log = logging.getLogger(__name__)
MAX_TAKEN_OVER = 200_000
"""Client ids: after a crash of the broker, all of its clients seem to be taken over."""
_TAKEN_OVER = "taken_over "
_COUNTED = "source_late "  # rows of version 0.1.0: a count of lines for each client id or checksum


class AmbiguousEnds:
    """The client ids that were taken over, in the database.

    Beyond `most` of them, the line is ignored for every client id.

    Args:
        most: the largest number of client ids.

    """

    def __init__(self, most: int = MAX_TAKEN_OVER) -> None:
        self._most = most
        self._taken_over: set[str] = set()
        self.unsaved: list[str] = []
        """The names of the values to store with the next batch; they have no text."""

    def restore(self, tx: Transaction) -> None:
        """Read the client ids, also those that version 0.1.0 stored."""
        self._taken_over = set(tx.read_values(_TAKEN_OVER))
        for name in tx.read_values(_COUNTED):
            tx.write_value(_COUNTED + name, None)
            if name not in self._taken_over:
                self._taken_over.add(name)
                tx.write_value(_TAKEN_OVER + name, "")

    def add(self, client_id: ClientId) -> None:
        """Record a takeover. An addition that the broker delivers again changes nothing."""
        if client_id in self._taken_over or len(self._taken_over) >= self._most:
            return
        self._taken_over.add(client_id)
        self.unsaved.append(_TAKEN_OVER + client_id)
        if len(self._taken_over) == self._most:
            log.warning(
                "%d client ids were taken over: mosquitto's line 'closed its connection' is ignored from now "
                "on; mosquitto 2.1 reports which connection was closed",
                self._most,
            )

    def is_ambiguous(self, report: Ended) -> bool:
        """Return whether an end may be of another connection than the current one."""
        is_full = len(self._taken_over) >= self._most
        return report.cause is Cause.CLOSED and (is_full or report.client_id in self._taken_over)
