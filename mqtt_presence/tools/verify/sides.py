"""The two sides that verify compares: the database, and the retained statuses on the broker."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from mqtt_presence.bridge.recovery.discovery_settings import DISCOVERY, known_discovery
from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.client.retained_reader import RetainedReader
from mqtt_presence.errors import BrokerError
from mqtt_presence.integrations.outputs import Outputs
from mqtt_presence.protocol import publications
from mqtt_presence.protocol.topics import Topics, is_name
from mqtt_presence.rules.model import Status, UserId, UserPresence
from mqtt_presence.store import Store
from mqtt_presence.store.reader import Reader
from mqtt_presence.tools.verify.comparison import CHUNK, Shown, outcome_of, shown

_ANSWER_S = 10.0
_QUIET_ALL_S = 1.0
_QUIET_S = 0.1


class DatabaseSide:
    """Implements `comparison.Database`. Takes a lock only to write corrections, never to compare.

    Args:
        url: the URL of the database.

    """

    def __init__(self, url: str) -> None:
        self._reader = Reader(url)
        self._store = Store(url)

    def __enter__(self) -> Self:
        self._reader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()
        self._reader.__exit__(kind, error, trace)

    def discovery(self) -> Outputs:
        """Return the outputs for Home Assistant."""
        return known_discovery(self._reader.value(DISCOVERY))

    def odd(self, among: Sequence[UserId] | None = None) -> set[UserId]:
        """Return the users with an inconsistent row; None: of all users."""
        return self._reader.inconsistent_users(among)

    def page(self, after: str) -> list[UserPresence]:
        """Read a page of users with their live records, in the order of their names."""
        return self._reader.presences_page(after=after, limit=CHUNK)

    def read(self, user_ids: Iterable[UserId]) -> dict[UserId, UserPresence]:
        """Read some users in chunks, with their live records."""
        users: dict[UserId, UserPresence] = {}
        rest = list(user_ids)
        for start in range(0, len(rest), CHUNK):
            users |= self._reader.presences(rest[start : start + CHUNK])
        return users

    def correct(
        self, user_ids: Sequence[UserId], correct: Callable[[UserPresence], UserPresence]
    ) -> dict[UserId, UserPresence]:
        """Correct users' rows, in a transaction only if a row is wrong; return the users."""
        users = self.read(user_ids)
        wrong = [user_id for user_id, user in users.items() if correct(user) != user]
        return users | (self._write(wrong, correct) if wrong else {})

    def _write(
        self, user_ids: Sequence[UserId], correct: Callable[[UserPresence], UserPresence]
    ) -> dict[UserId, UserPresence]:
        with self._store.transaction() as tx:  # loads the users again: they may have changed since `read`
            before = tx.load(dict.fromkeys(user_ids, ()))
            users = {user_id: correct(user) for user_id, user in before.items()}
            changed = [user for user_id, user in users.items() if user != before[user_id]]
            tx.save(outcome_of(user if user.status else replace(user, status=Status())) for user in changed)
            for user in changed:
                if user.status is None:
                    tx.forget(user.user_id, was_known=False)  # raises the version from which new users start
        return users


class BrokerSide:
    """Implements `comparison.Broker`: reads and publishes retained statuses.

    Args:
        endpoint: the broker, and the user to connect as.
        topics: the topics under the prefix in use.
        private: publish addresses and user agents too.
        discovery: the outputs for Home Assistant, whose messages go with the statuses.

    Raises:
        BrokerError: by every method: the broker cannot be reached, refuses the user or does not answer.

    """

    def __init__(self, endpoint: Endpoint, topics: Topics, *, private: bool, discovery: Outputs) -> None:
        self._topics = topics
        self._private = private
        self._discovery = discovery
        self._url = endpoint.url
        self._reader = RetainedReader(endpoint, topics.bridge_state, _ANSWER_S)

    def __enter__(self) -> Self:
        self._reader.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()

    def look_all(self) -> dict[UserId, Shown]:
        """Read all retained statuses with a wildcard subscription."""
        return self._shown(self._reader.read([self._topics.statuses], quiet_s=_QUIET_ALL_S))

    def look(self, user_ids: Sequence[UserId]) -> dict[UserId, Shown]:
        """Read the retained statuses of some users; names that MQTT clients refuse have none."""
        topics = [self._topics.status(user_id) for user_id in user_ids if is_name(user_id)]
        if not topics:
            return {}
        return self._shown(self._reader.read(topics, quiet_s=_QUIET_S))

    def publish(self, users: Sequence[UserPresence]) -> None:
        """Publish users' statuses, an empty one for an unknown user, and wait for the acknowledgements."""
        named = (user for user in users if is_name(user.user_id))
        self._reader.publish(message for user in named for message in self._messages(user))

    def _messages(self, user: UserPresence) -> Iterator[tuple[str, bytes]]:
        if user.status is None:
            yield from ((topic, b"") for topic in self._discovery.topics(user.user_id))
            yield self._topics.status(user.user_id), b""
            return
        yield from ((each.topic, each.payload) for each in self._discovery.retained(user))
        publication = publications.status_publication(user, user.status, self._topics, private=self._private)
        yield publication.topic, publication.payload

    def _shown(self, payloads: Mapping[str, bytes]) -> dict[UserId, Shown]:
        if self._reader.denied:
            raise BrokerError(f"{self._url} does not let this user read {self._topics.statuses}")
        return {
            user_id: shown(user_id, payload)
            for topic, payload in payloads.items()
            if (user_id := self._topics.parse_status(topic)) is not None
        }
