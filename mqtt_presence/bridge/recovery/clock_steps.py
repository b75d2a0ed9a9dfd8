"""A clock that is set forward: open connections are moved by it, so that silence does not count it.

What is still to be moved, and how far that has come, is kept in the database with each page: a restart
goes on. Whoever is moved twice, after a commit in doubt, was at most seen just now.
"""

from msgspec import Struct, json

from mqtt_presence.rules.model import ClientId, UserId
from mqtt_presence.store import Store, Transaction

_NAME = "set_forward"
_PAGE = 1000  # connections


class _Left(Struct):
    by: list[int]
    """Milliseconds: for the round through all open connections that is under way, and for one after it."""
    after: tuple[UserId, ClientId, int] | None = None
    """Where the first round is; None: at its beginning."""


class ClockSteps:
    """Moves when open connections were last seen, by what the clock was set by."""

    def __init__(self) -> None:
        self._new: list[int] = []

    def restore(self, tx: Transaction) -> bool:
        """Tell whether something was left to move when the bridge was last running."""
        return tx.recall(_NAME) is not None

    def add(self, by: int) -> None:
        """Take note that the clock was set forward, milliseconds."""
        self._new.append(by)

    def step(self, store: Store, now: int) -> bool:
        """Move a page of connections; tell whether that was the last.

        Args:
            store: has them.
            now: nobody was seen later than this, epoch milliseconds.

        Raises:
            StoreError: to be done again.

        """
        with store.transaction() as tx:
            kept = tx.recall(_NAME)
            left = _Left([]) if kept is None else json.decode(kept, type=_Left)
            begun = 0 if left.after is None else 1
            waiting = sum(left.by[begun:]) + sum(self._new)
            left.by[begun:] = [waiting] if waiting else []
            if left.by:
                left.after = tx.move_last_seen(left.after, left.by[0], now, _PAGE)
                if left.after is None:
                    del left.by[0]
                tx.remember(_NAME, json.encode(left).decode() if left.by else None)
        self._new.clear()
        return not left.by
