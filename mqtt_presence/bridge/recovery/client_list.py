"""The list of connected clients after lost reports, from a broker that answers questions (EMQX).

The question runs in a thread of its own, because the answer may take a while. A failed question is repeated.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from mqtt_presence.adapters.port import Connected
from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.errors import BrokerError

log = logging.getLogger(__name__)
_AGAIN_S = 30.0


class ClientList(OnCheck):
    """Asks for the list after each loss of reports.

    Args:
        connections: gets the list.
        read: asks the broker, and waits for the answer.
        clock: the bridge's.

    """

    is_of_all = False

    def __init__(
        self, connections: BrokerConnections, read: Callable[[], Sequence[Connected]], clock: Clock
    ) -> None:
        super().__init__()
        self._connections = connections
        self._read = read
        self._clock = clock
        self._losses = 0
        self._asked_losses = 0
        self._asked_at = 0
        self._not_before_s = 0.0
        self._thread: threading.Thread | None = None
        self._answer: Sequence[Connected] | BrokerError | None = None

    def check(self, link: Link) -> bool:
        """Apply an answer, or ask."""
        if self._thread is not None:
            if not self._thread.is_alive():
                self._thread = None
                self._apply()
        elif (
            self._connections.losses != self._losses
            and link.is_connected
            and self._clock.monotonic() >= self._not_before_s
        ):
            self._asked_losses, self._asked_at = self._connections.losses, self._clock.now()
            self._thread = threading.Thread(target=self._ask, name="client-list", daemon=True)
            self._thread.start()
        return True

    def _ask(self) -> None:
        try:
            self._answer = self._read()
        except BrokerError as error:
            self._answer = error

    def _apply(self) -> None:
        answer, self._answer = self._answer, None
        if answer is None or isinstance(answer, BrokerError):
            log.warning("%s; next try in %.0f s", answer or "the list of clients is lost", _AGAIN_S)
            self._not_before_s = self._clock.monotonic() + _AGAIN_S
            return
        self._losses = self._asked_losses
        self._connections.apply_list(answer, self._asked_at, self._clock.now())
