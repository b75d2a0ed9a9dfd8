"""Redeliveries of a bridge, with the journal entries that a database would have."""

from collections.abc import Sequence

from mqtt_presence.bridge.link.config import RECEIVE_MAXIMUM
from mqtt_presence.bridge.packet_id_journal import PacketIdJournal
from mqtt_presence.bridge.redeliveries import Redeliveries
from mqtt_presence.mqtt.messages import Incoming


class RedeliveryJournal:
    """Redeliveries, and their entries by number.

    Args:
        window: how many messages a broker leaves unacknowledged.

    """

    def __init__(self, window: int = RECEIVE_MAXIMUM) -> None:
        self._window = window
        self.redeliveries = Redeliveries()
        self.journal = PacketIdJournal(self.redeliveries, window)
        self.entries: dict[int, bytes] = {}

    def commit(self, batch: Sequence[tuple[Incoming, bool]]) -> None:
        """Commit a batch as the bridge does; see `PacketIdJournal.journal_entry`."""
        entry = self.journal.journal_entry(batch)
        if entry is not None:
            self.entries[entry.number] = entry.body
            self.entries = {n: body for n, body in self.entries.items() if n > entry.obsolete}
            self.journal.batch_done(entry)

    def lose_session(self) -> None:
        """Forget all messages of a session that the broker has lost."""
        self.journal.forget_session()
        lost = self.journal.lost_up_to
        self.entries = {n: body for n, body in self.entries.items() if n > lost}

    def restart(self) -> None:
        """Start a bridge that reads the entries."""
        self.redeliveries = Redeliveries()
        self.journal = PacketIdJournal(self.redeliveries, self._window)
        self.journal.read_journal(sorted(self.entries.items()))
