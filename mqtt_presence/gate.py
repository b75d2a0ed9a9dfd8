"""Who waits at the embedded broker's door, and who has guessed passwords too often. Pure: told the time."""

import ipaddress
from typing import Generic, TypeVar

from mqtt_presence.addresses import parse_address
from mqtt_presence.limits import Buckets

T = TypeVar("T")

WRONG_FOR_ONE = (10, 0.2)
"""Wrong passwords for one user from one network: ten at once, then one in five seconds."""
WRONG_IN_ALL = (100, 2.0)
"""The same whoever the user is."""


class Doorstep(Generic[T]):
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


class Guesses:
    """Wrong passwords, counted by where they come from and for whom; they are forgotten with time."""

    def __init__(self) -> None:
        self._for_one = Buckets(*WRONG_FOR_ONE)
        self._in_all = Buckets(*WRONG_IN_ALL)

    def may_try(self, user: str, address: str, moment: float) -> bool:
        """Tell whether a password from this address is worth looking at.

        Args:
            user: whom it is for.
            address: where it comes from.
            moment: now, seconds; never less than before.

        """
        network = network_of(address)
        return bool(self._in_all.left(network, moment) and self._for_one.left(f"{network} {user}", moment))

    def begin(self, user: str, address: str, moment: float) -> None:
        """Count it for a wrong one while it is looked at: who asks often at once gets no more by that."""
        self._for_one.spend(f"{network_of(address)} {user}", 1, moment)

    def right(self, user: str, address: str, moment: float) -> None:
        """Take note that it was the right one."""
        self._for_one.spend(f"{network_of(address)} {user}", -1, moment)

    def wrong(self, address: str, moment: float) -> None:
        """Take note that it was not."""
        self._in_all.spend(network_of(address), 1, moment)


def network_of(address: str) -> str:
    """Return whose address it is: who has one of IPv6 has the 2^64 beside it."""
    parsed = parse_address(address)
    if parsed is None:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
