"""The port of an output: one committed outcome in, the messages to publish out."""

from collections.abc import Iterable
from typing import Protocol

from mqtt_presence.protocol.publications import Publication
from mqtt_presence.rules.model import Outcome


class Output(Protocol):
    """Writes messages about users in one format.

    The bridge commits the messages with the outcome and publishes them at least once, in order.
    """

    def publications(self, outcome: Outcome) -> Iterable[Publication]:
        """Return the messages for one user's outcome; pure and fast: it runs for every batch."""
