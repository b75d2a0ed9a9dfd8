"""Limits of wrong passwords, by network and user. Pure: the caller passes the time."""

from mqtt_presence.access.buckets import Buckets
from mqtt_presence.mqtt.addresses import network_of

FAILURES_PER_USER = (10, 0.2)
"""Wrong passwords for one user from one network: ten at once, then one in five seconds."""
FAILURES_PER_NETWORK = (100, 2.0)
"""Wrong passwords for all users from one network: a hundred at once, then two a second."""


class PasswordAttempts:
    """Counts wrong passwords; every method takes the current time in seconds, which never decreases."""

    def __init__(self) -> None:
        self._per_user = Buckets(*FAILURES_PER_USER)
        self._per_network = Buckets(*FAILURES_PER_NETWORK)

    def is_allowed(self, user: str, address: str, moment: float) -> bool:
        """Return whether the next password is to be verified."""
        network = network_of(address)
        return bool(
            self._per_network.left(network, moment) and self._per_user.left(f"{network} {user}", moment)
        )

    def begin(self, user: str, address: str, moment: float) -> None:
        """Count a password as wrong during its verification, so that parallel attempts gain no advantage."""
        self._per_user.spend(f"{network_of(address)} {user}", 1, moment)

    def record_success(self, user: str, address: str, moment: float) -> None:
        """Take back the count of `begin`."""
        self._per_user.spend(f"{network_of(address)} {user}", -1, moment)

    def record_failure(self, address: str, moment: float) -> None:
        """Count a wrong password for the network."""
        self._per_network.spend(network_of(address), 1, moment)
