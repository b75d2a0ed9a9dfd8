"""The output of the presence protocol: the retained status of a user, and its events."""

from collections.abc import Iterable

from mqtt_presence.protocol.publications import Publication, outcome_publications, status_publication
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import Outcome, UserId, UserPresence


class PresenceOutput:
    """Writes ``status/<user>`` and ``events/<user>/<event>``.

    Args:
        topics: the topics under the prefix in use.
        private: publish addresses and user agents too (setting `publish_private`).

    """

    def __init__(self, topics: Topics, private: bool) -> None:
        self._topics = topics
        self._private = private

    def publications(self, outcome: Outcome) -> Iterable[Publication]:
        """Return the status, if it changed, before the events."""
        return outcome_publications(outcome, self._topics, private=self._private)

    def retained(self, user: UserPresence) -> Iterable[Publication]:
        """Return the status."""
        if user.status is not None:
            yield status_publication(user, user.status, self._topics, private=self._private)

    def topics(self, user_id: UserId) -> Iterable[str]:
        """Return the topic of the status."""
        return (self._topics.status(user_id),)
