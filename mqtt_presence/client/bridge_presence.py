"""Whether the bridge is there, from `bridge/state`. Pure."""

from mqtt_presence.protocol import client_messages
from mqtt_presence.protocol.client_messages import BridgeState, BridgeStateName


class BridgePresence:
    """What is known of the bridge on the present connection: offline until it says otherwise."""

    def __init__(self) -> None:
        self._last: BridgeState | None = None

    @property
    def online(self) -> bool:
        """It is there."""
        return self._last is not None and self._last.state is BridgeStateName.ONLINE

    def reset(self) -> None:
        """The connection to the broker was lost: nothing is known."""
        self._last = None

    def receive(self, payload: bytes) -> bool:
        """Take a message; True: the bridge has just come.

        One older than what was heard (the late will of a bridge that another has replaced) is dropped.

        Raises:
            PayloadError: it is none.

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
