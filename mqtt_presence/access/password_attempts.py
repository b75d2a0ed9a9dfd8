"""Who waits at the embedded broker's door, and who has guessed passwords too often. Pure: told the time."""

from mqtt_presence.access.buckets import Buckets
from mqtt_presence.mqtt.addresses import network_of

WRONG_FOR_ONE = (10, 0.2)
"""Wrong passwords for one user from one network: ten at once, then one in five seconds."""
WRONG_IN_ALL = (100, 2.0)
"""The same whoever the user is."""


class PasswordAttempts:
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
