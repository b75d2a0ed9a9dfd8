"""A batch of messages that are committed together, and the port of the parts that store something with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mqtt_presence.bridge.packet_id_journal import JournalEntry
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.events import Event
from mqtt_presence.rules.model import Outcome, UserId
from mqtt_presence.store import Transaction


@dataclass(slots=True)
class Batch:
    """Messages that are committed together."""

    messages: list[Incoming] = field(default_factory=list)
    events: dict[UserId, list[Event]] = field(default_factory=dict)
    has_reports: bool = False
    """Whether a message is a report of the broker: even without an event it changes a stored state."""
    journal_entry: JournalEntry | None = None
    """The packet ids by which the messages are recognised if the broker sends them again."""


class BatchRecorder(Protocol):
    """A part that stores something of its own with each batch."""

    def save_batch(self, tx: Transaction, batch: Batch) -> None:
        """Store it, in the batch's transaction."""

    def batch_committed(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Record that the batch is committed."""

    def batch_given_up(self, message: Incoming) -> None:
        """Record that a message cannot be processed and will not come again."""
