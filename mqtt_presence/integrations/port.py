"""The port of an output: one committed outcome in, the messages to publish out."""

from collections.abc import Iterable
from typing import Protocol

from mqtt_presence.protocol.publications import Publication
from mqtt_presence.rules.model import Outcome, UserId, UserPresence


class Output(Protocol):
    """Writes messages about users in one format; all methods are pure and fast.

    The bridge commits the messages with the outcome and publishes them at least once, in order.
    """

    def publications(self, outcome: Outcome) -> Iterable[Publication]:
        """Return the messages for one user's outcome; called in every batch."""

    def retained(self, user: UserPresence) -> Iterable[Publication]:
        """Return the retained messages that the broker must have for a user.

        The bridge publishes them again when the broker may have lost some.
        """

    def topics(self, user_id: UserId) -> Iterable[str]:
        """Return the topics of a user's retained messages, which the bridge clears for a forgotten user."""
