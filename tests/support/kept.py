"""What the bridge knows of committed messages that may come again, and what a database would have of it."""

from collections.abc import Sequence

from mqtt_presence.bridge.link.config import RECEIVE_MAXIMUM
from mqtt_presence.bridge.redeliveries import Redeliveries
from mqtt_presence.mqtt.messages import Incoming


class Kept:
    """Redeliveries, and the lines that are kept of them."""

    def __init__(self, window: int = RECEIVE_MAXIMUM) -> None:
        self._window = window
        self.known = Redeliveries(window)
        self.lines: dict[int, bytes] = {}

    def commit(self, batch: Sequence[tuple[Incoming, bool]]) -> None:
        """Do what the bridge does with a batch."""
        line = self.known.journal_entry(batch)
        if line is not None:
            self.lines[line.number] = line.body
            self.lines = {n: body for n, body in self.lines.items() if n > line.obsolete}
            self.known.batch_done(line)

    def forget(self) -> None:
        """The broker's session is over."""
        self.known.forget_session()
        self.lines = {n: body for n, body in self.lines.items() if n > self.known.lost_up_to}

    def restart(self) -> None:
        """Know what was kept, and nothing else."""
        self.known = Redeliveries(self._window)
        self.known.read_journal(sorted(self.lines.items()))
