"""A commit in doubt: its answer was lost, so it may be done or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mqtt_presence.bridge.commit_result import Committed
from mqtt_presence.errors import StoreError
from mqtt_presence.store import Store


@dataclass(slots=True)
class CommitAttempt:
    """A transaction on its way."""

    done: Committed | None = None
    """The result, if the transaction is or may be committed."""


class CommitDoubt:
    """Remembers the result of a commit in doubt until a later transaction decides.

    Args:
        store: knows which of its transactions were committed.

    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._uncertain: Committed | None = None

    @contextmanager
    def attempt(self) -> Iterator[CommitAttempt]:
        """Remember a result whose commit may be done although its answer was lost."""
        attempt = CommitAttempt()
        try:
            yield attempt
        except StoreError as error:
            # Without publications, the same may be done twice.
            if error.transient and attempt.done is not None and attempt.done.number is not None:
                self._uncertain = attempt.done
            raise

    def resolve(self) -> Committed | None:
        """Return the result of a commit in doubt if it was done; else its events are decided again.

        Raises:
            StoreError: it is still in doubt.

        """
        uncertain = self._uncertain
        if uncertain is None or uncertain.number is None:
            return None
        with self._store.transaction() as tx:
            is_done = self._store.was_committed(tx, uncertain.attempt, uncertain.number)
        self._uncertain = None
        return uncertain if is_done else None
