"""Who is in which state, from the retained messages on ``status/+``. Pure: versions decide, not arrival."""

from collections import Counter
from typing import NamedTuple

from mqtt_presence.errors import PayloadError
from mqtt_presence.protocol import client_messages
from mqtt_presence.protocol.client_messages import UserStatus


class Change(NamedTuple):
    """One user's status before and after; None: not there."""

    old: UserStatus | None
    new: UserStatus | None

    @property
    def user_id(self) -> str:
        """Whose it is."""
        status = self.new or self.old
        return "" if status is None else status.user_id


class StatusTable:
    """The users of whom the broker has a status."""

    def __init__(self) -> None:
        self.users: dict[str, UserStatus] = {}
        self.ignored: Counter[str] = Counter()
        """How many messages had no effect, by reason."""
        self._forgotten: dict[str, int] = {}
        """The last version of users that were forgotten: what comes after is newer."""
        self._unconfirmed: set[str] = set()

    def apply(self, user_id: str, payload: bytes) -> Change | None:
        """Take a message; None: nothing has changed.

        Args:
            user_id: of the topic.
            payload: a status; empty: the user was forgotten (contract section 4).

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
        known = self._forgotten.get(user_id, -1) if old is None else old.version
        if new.version <= known:
            if new.version < known or old is None:
                self.ignored["stale"] += 1
            return None
        self.users[user_id] = new
        self._forgotten.pop(user_id, None)
        return Change(old, new)

    @property
    def is_confirmed(self) -> bool:
        """Everybody has been named since `reconnected`; False: some may have changed or been forgotten."""
        return not self._unconfirmed

    def reconnected(self) -> None:
        """The broker will now send everything again: whom it does not name was forgotten meanwhile."""
        self._unconfirmed = set(self.users)

    def prune(self) -> list[Change]:
        """The broker has sent everything: remove whom it did not name since `reconnected`."""
        gone, self._unconfirmed = self._unconfirmed, set()
        changes = [self._remove(user_id, keep_version=False) for user_id in gone]
        return [change for change in changes if change is not None]

    def _remove(self, user_id: str, *, keep_version: bool) -> Change | None:
        old = self.users.pop(user_id, None)
        if old is None:
            return None
        if keep_version:
            self._forgotten[user_id] = old.version
        return Change(old, None)
