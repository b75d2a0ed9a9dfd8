"""Presence of the bridge, from the messages on `bridge/state`. Pure."""

from mqtt_presence.protocol import client_messages
from mqtt_presence.protocol.client_messages import BridgeState, BridgeStateName


class BridgePresence:
    """The state of the bridge as known on the current connection: offline until a message arrives."""

    def __init__(self) -> None:
        self._last: BridgeState | None = None

    @property
    def online(self) -> bool:
        """Whether the bridge is online."""
        return self._last is not None and self._last.state is BridgeStateName.ONLINE

    def reset(self) -> None:
        """Forget the state: the connection to the broker was lost."""
        self._last = None

    def receive(self, payload: bytes) -> bool:
        """Process a message; return True if the bridge has just come online.

        Messages older than the last one are dropped: they are late wills of a bridge that was replaced.

        Raises:
            PayloadError: the payload is not a bridge state.

        """
        if not payload:
            self.reset()
            return False
        state = client_messages.decode_bridge_state(payload)
        before = self.online
        if (
            self._last is not None
            and state.version < self._last.version
            and not _started_later(state, self._last)
        ):
            return False
        self._last = state
        return self.online and not before


def _started_later(state: BridgeState, than: BridgeState) -> bool:
    return state.started_at is not None and than.started_at is not None and state.started_at > than.started_at
