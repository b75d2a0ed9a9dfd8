"""What a part of the bridge knows and must not forget: a text under a name, written when it has changed.

Not for what belongs to the effect of a batch: that is written with it (`Transaction.remember`).
"""

from collections.abc import Callable

from mqtt_presence.store import Store, Transaction


class KeptValue:
    """A text in the database.

    Args:
        name: where it is; the next version must find it there.
        dump: writes what is known now; None: nothing.

    """

    def __init__(self, name: str, dump: Callable[[], str | None]) -> None:
        self.name = name
        self.dump = dump
        self.kept: str | None = None
        """What the database has."""

    def restore(self, tx: Transaction) -> str | None:
        """Read what was known when the bridge was last running; None: nothing."""
        self.kept = tx.read_value(self.name)
        return self.kept

    @property
    def is_news(self) -> bool:
        """The database has something else."""
        return self.dump() != self.kept


def save_changed(store: Store, *memories: KeptValue) -> None:
    """Write what has changed, if anything has, in one transaction.

    Raises:
        StoreError: nothing is written, and it is still news.

    """
    news = [(memory, memory.dump()) for memory in memories if memory.is_news]
    if not news:
        return
    with store.transaction() as tx:
        for memory, text in news:
            tx.write_value(memory.name, text)
    for memory, text in news:
        memory.kept = text
