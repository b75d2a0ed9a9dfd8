"""What the bridge says of itself on `bridge/state`; each of its words is newer than those before."""

from collections.abc import Callable

from mqtt_presence.protocol.outgoing import encode_bridge_state
from mqtt_presence.store import Transaction

_NAME = "state_version"


class StateTopic:
    """Counts the versions of `bridge/state`.

    By the clock, so that they are greater, too, than those of another bridge that was here meanwhile.

    Args:
        now: the bridge's clock, epoch milliseconds.

    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._started_at = 0
        self._version = 0

    def restore(self, tx: Transaction) -> None:
        """Begin, behind what was said when the bridge was last running."""
        self._started_at = self._now()
        self._version = max(int(tx.recall(_NAME) or 0), self._started_at)

    def remember(self, tx: Transaction) -> None:
        """Keep which version was said last."""
        tx.remember(_NAME, str(self._version))

    def will(self) -> bytes:
        """Write the will of the next connection: its birth comes before it, with the lesser version."""
        self._version = max(self._version + 2, self._now())
        return self._say("offline", self._version)

    def birth(self) -> bytes:
        """Write the birth of the connection whose will was made last."""
        return self._say("online", self._version - 1)

    def farewell(self) -> bytes:
        """Write what is said instead of the will: the same, should that go out behind it."""
        return self._say("offline", self._version)

    def _say(self, state: str, version: int) -> bytes:
        return encode_bridge_state(state, version, self._started_at)
