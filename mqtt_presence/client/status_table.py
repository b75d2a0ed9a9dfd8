"""Table of all users' statuses, from the retained messages on ``status/+``. Pure.

The version of a status decides, not its order of arrival.
"""

from collections import Counter
from typing import NamedTuple

from mqtt_presence.errors import PayloadError
from mqtt_presence.protocol import client_messages
from mqtt_presence.protocol.client_messages import UserStatus


class Change(NamedTuple):
    """A user's status before and after a change; None if the user was or is unknown."""

    old: UserStatus | None
    new: UserStatus | None

    @property
    def user_id(self) -> str:
        """The user whose status has changed."""
        status = self.new or self.old
        return "" if status is None else status.user_id


class StatusTable:
    """The users that have a status on the broker."""

    def __init__(self) -> None:
        self.users: dict[str, UserStatus] = {}
        self.ignored: Counter[str] = Counter()
        """The number of messages without effect, by reason."""
        self._forgotten: dict[str, int] = {}
        """The last versions of forgotten users; later statuses of these users must be newer."""
        self._unconfirmed: set[str] = set()

    def apply(self, user_id: str, payload: bytes) -> Change | None:
        """Process a message; return the change, or None if the user's status stays the same.

        Args:
            user_id: the user named by the topic.
            payload: a status; empty for a forgotten user (docs/protocol.md, "Forgotten users").

        """
        if not payload:
            self._unconfirmed.discard(user_id)
            return self._remove(user_id, keep_version=True)
        try:
            new = client_messages.decode_status(user_id, payload)
        except PayloadError as error:
            self.ignored[error.reason] += 1
            return None
        self._unconfirmed.discard(user_id)
        old = self.users.get(user_id)
        last_version = self._forgotten.get(user_id, -1) if old is None else old.version
        if new.version <= last_version:
            if new.version < last_version or old is None:
                self.ignored["stale"] += 1
            return None
        self.users[user_id] = new
        self._forgotten.pop(user_id, None)
        return Change(old, new)

    @property
    def is_confirmed(self) -> bool:
        """Whether every user's status has arrived since `reconnected`; if not, some may be outdated."""
        return not self._unconfirmed

    def reconnected(self) -> None:
        """Wait for all statuses again: users without one were forgotten while the connection was lost."""
        self._unconfirmed = set(self.users)

    def prune(self) -> list[Change]:
        """Remove the users without a status since `reconnected`: the broker has sent all of them."""
        missing, self._unconfirmed = self._unconfirmed, set()
        changes = [self._remove(user_id, keep_version=False) for user_id in missing]
        return [change for change in changes if change is not None]

    def _remove(self, user_id: str, *, keep_version: bool) -> Change | None:
        old = self.users.pop(user_id, None)
        if old is None:
            return None
        if keep_version:
            self._forgotten[user_id] = old.version
        return Change(old, None)
