"""The retained messages of users as they should be now, by the database.

Several bridges may publish the messages of one user, so an older one may reach the broker last (`outbox`).
"""

from collections.abc import Iterable, Mapping

from mqtt_presence.integrations.outputs import Outputs
from mqtt_presence.protocol.publications import Publication, version_of
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Transaction


class PresentStatuses:
    """Reads users, and writes their retained messages.

    Args:
        topics: the topics under the prefix in use.
        outputs: write the messages.

    """

    def __init__(self, topics: Topics, outputs: Outputs) -> None:
        self._topics = topics
        self._outputs = outputs

    def of_users(self, tx: Transaction, user_ids: Iterable[UserId]) -> dict[str, bytes]:
        """Return the payloads of all retained messages of users by topic; empty for a forgotten user."""
        wanted = set(user_ids)
        users = tx.users_by_name(wanted) if wanted else {}
        present = {topic: b"" for user_id in wanted - users.keys() for topic in self._outputs.topics(user_id)}
        for user in users.values():
            present.update((p.topic, p.payload) for p in self._outputs.retained(user))
        return present

    def of_topics(self, tx: Transaction, topics: Iterable[str]) -> dict[str, bytes]:
        """Return the same of the users of these topics; topics other than those of statuses do not count."""
        return self.of_users(tx, {u for t in topics if (u := self._topics.parse_status(t)) is not None})

    def newer(self, tx: Transaction, acknowledged: Mapping[str, int]) -> list[Publication]:
        """Return the messages of the users who have another version than the broker has acknowledged.

        Args:
            tx: reads the users.
            acknowledged: versions by topic of the status; -1: the topic was cleared.

        """
        if not acknowledged:
            return []
        present = self.of_topics(tx, acknowledged)
        return [
            Publication(topic, present[topic], retain=True)
            for of_user, version in acknowledged.items()
            if version_of(present.get(of_user, b"")) != version
            and (user_id := self._topics.parse_status(of_user)) is not None
            for topic in self._outputs.topics(user_id)
            if topic in present
        ]
