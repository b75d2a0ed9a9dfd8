"""embedded.pending_connections."""

from typing import Generic, TypeVar

T = TypeVar("T")


class PendingConnections(Generic[T]):
    """Connections that have not said yet who they are. When there are too many, the oldest has to go.

    Who connects says so at once, so the oldest is the one that will never do it.

    Args:
        most: how many may wait.
        most_each: how many of one address.

    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._address: dict[T, str] = {}
        self._at: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._address)

    def enter(self, visitor: T, address: str) -> T | None:
        """Take note of a new one; return the one that has to go for it."""
        self._address[visitor] = address
        of_address = self._at.setdefault(address, {})
        of_address[visitor] = None
        if len(of_address) > self._most_each:
            oldest = next(iter(of_address))
        elif len(self._address) > self._most:
            oldest = next(iter(self._address))
        else:
            return None
        self.leave(oldest)
        return oldest

    def leave(self, visitor: T) -> None:
        """It has said who it is, or is gone. Harmless when it has left already."""
        address = self._address.pop(visitor, None)
        if address is None:
            return
        of_address = self._at[address]
        del of_address[visitor]
        if not of_address:
            del self._at[address]
