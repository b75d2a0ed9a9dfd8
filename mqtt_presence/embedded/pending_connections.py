"""Network connections that have not sent their CONNECT yet, in bounded number."""

from typing import Generic, TypeVar

T = TypeVar("T")


class PendingConnections(Generic[T]):
    """Network connections without a CONNECT; beyond the limit the oldest is removed.

    A client sends its CONNECT at once, so the oldest pending connection is the least likely to do so.

    Args:
        limit: the number of pending connections.
        limit_per_address: the number from one address.

    """

    def __init__(self, limit: int, limit_per_address: int) -> None:
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._addresses: dict[T, str] = {}
        self._by_address: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, connection: T, address: str) -> T | None:
        """Add a connection; return the one that has to be closed for it, if any."""
        self._addresses[connection] = address
        of_address = self._by_address.setdefault(address, {})
        of_address[connection] = None
        if len(of_address) > self._limit_per_address:
            oldest = next(iter(of_address))
        elif len(self._addresses) > self._limit:
            oldest = next(iter(self._addresses))
        else:
            return None
        self.remove(oldest)
        return oldest

    def remove(self, connection: T) -> None:
        """Remove a connection that has sent its CONNECT or is closed. Harmless if it is not pending."""
        address = self._addresses.pop(connection, None)
        if address is None:
            return
        of_address = self._by_address[address]
        del of_address[connection]
        if not of_address:
            del self._by_address[address]
