"""Kept values: short texts that must survive a restart, each stored under a name when it has changed.

A value that belongs to the effect of a batch is stored with the batch instead (`Transaction.write_value`).
"""

from collections.abc import Callable

from mqtt_presence.store import Store, Transaction


class KeptValue:
    """A text in the database.

    Args:
        name: the name in the database; later versions must not change it.
        current: returns the text to store; None: no text.
        of_seat: whether each seat has its own text.

    """

    def __init__(self, name: str, current: Callable[[], str | None], *, of_seat: bool = False) -> None:
        self.name = self._name = name
        self._of_seat = of_seat
        self.current = current
        self.stored: str | None = None
        """The text in the database."""

    def restore(self, tx: Transaction) -> str | None:
        """Return the text of the last run; None: no text."""
        self.name = tx.seat_name(self._name) if self._of_seat else self._name
        self.stored = tx.read_value(self.name)
        return self.stored

    @property
    def has_changed(self) -> bool:
        """Whether the database has another text."""
        return self.current() != self.stored


def save_changed(store: Store, *values: KeptValue) -> None:
    """Store the changed values, if there are any, in one transaction.

    Raises:
        StoreError: no value is stored; each stays changed.

    """
    changed = [(value, value.current()) for value in values if value.has_changed]
    if not changed:
        return
    with store.transaction() as tx:
        for value, text in changed:
            tx.write_value(value.name, text)
    for value, text in changed:
        value.stored = text
