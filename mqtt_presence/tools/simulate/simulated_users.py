"""Deletion of the simulated users from the bridge's database, if this machine has it."""

import time
from collections.abc import Sequence

from mqtt_presence.errors import PresenceError
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store
from mqtt_presence.store.reader import Reader

_QUIET_S = 1.0
"""Time for the last messages to arrive after the clients have disconnected."""
_PATIENCE_S = 5.0
"""Time for the bridge to clear the statuses."""
_LOOK_EVERY_S = 0.1


class SimulatedUsers:
    """The simulated users in the bridge's database.

    Users that the database had before the simulation stay.

    Args:
        database: the URL of the bridge's database.
        user_ids: the names of the simulated users.
        pattern: a pattern for `mqtt-presence forget --match` that matches all of them.

    """

    def __init__(self, database: str, user_ids: Sequence[str], pattern: str) -> None:
        self._database = database
        self._pattern = pattern
        self._before: set[UserId] = set()
        self._user_ids = [UserId(user_id) for user_id in user_ids]
        self._obstacle = self._look()

    def delete(self, *, broker_is_there: bool) -> str:
        """Delete the records and the statuses; return a sentence about the result.

        A broker's user cannot delete records, and a bridge publishes each cleared status again. So without
        the database all of them stay, and the sentence says how to delete them elsewhere.

        Args:
            broker_is_there: the bridge can be expected to clear the statuses now.

        """
        ours = [user_id for user_id in self._user_ids if user_id not in self._before]
        if self._obstacle is None:
            try:
                return self._delete(ours, _PATIENCE_S if broker_is_there else 0.0)
            except PresenceError as error:
                self._obstacle = str(error)
        return f"the records of the users stay: {self._obstacle}. {self._advice()}"

    def _look(self) -> str | None:
        try:
            with Reader(self._database) as reader:
                self._before = reader.known_users(self._user_ids)
        except PresenceError as error:
            return str(error)
        return None

    def _advice(self) -> str:
        return f"Beside the bridge's database: mqtt-presence forget --match '{self._pattern}'"

    def _delete(self, ours: list[UserId], patience_s: float) -> str:
        deleted: set[UserId] = set()
        store = Store(self._database)
        try:
            with Reader(self._database) as reader:
                deadline = time.monotonic() + _QUIET_S
                while time.monotonic() < deadline:
                    known = reader.known_users(ours)
                    for user_id in sorted(known):  # late messages bring a deleted user back
                        store.forget(user_id)
                    deleted |= known
                    if known:
                        deadline = time.monotonic() + _QUIET_S
                    time.sleep(_LOOK_EVERY_S)
                uncleared = _wait_for_bridge(reader, ours, patience_s)
        finally:
            store.close()
        return self._describe(len(deleted), len(uncleared))

    def _describe(self, deleted: int, uncleared: int) -> str:
        if not deleted and len(self._before) < len(self._user_ids):
            return f"the database has no records of the users: is it the bridge's? {self._advice()}"
        parts = [f"the records of {deleted} users are deleted"]
        if self._before:
            parts.append(f"{len(self._before)} were known before and stay")
        if uncleared:
            parts.append(f"the bridge will clear the statuses of {uncleared} later")
        return "; ".join(parts)


def _wait_for_bridge(reader: Reader, user_ids: list[UserId], patience_s: float) -> set[UserId]:
    """Return the users whose status the bridge has not cleared, once it makes no more progress."""
    deadline = time.monotonic() + patience_s
    left = reader.uncleared(user_ids)
    while left and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
        before, left = left, reader.uncleared(user_ids)
        if len(left) < len(before):
            deadline = time.monotonic() + patience_s
    return left
