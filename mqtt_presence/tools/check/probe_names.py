"""The names of a check: users, client ids, topics and payloads that do not collide with real ones."""

import secrets

from mqtt_presence.protocol.topics import TIME
from mqtt_presence.tools.check.config import CheckConfig

_LONGEST_USER = 40


class ProbeNames:
    """Makes the names of one check.

    Args:
        config: of the check.

    """

    def __init__(self, config: CheckConfig) -> None:
        self._config = config
        self._topics = config.topics
        self.run = secrets.token_hex(4)
        """A random part of every name and payload of this check."""
        self.invented_user = f"mqtt-presence-check-{self.run}"
        """A user that does not exist."""
        self.other_user = self.invented_user
        """Another user than the client's: the second one of the configuration, or the invented one."""
        if config.second is not None and config.second.url.username is not None:
            self.other_user = config.second.url.username
        self._ids = 0
        self._payloads = 0

    def client_id(self, label: str = "client", *, bridge: bool = False, user: str | None = None) -> str:
        """Make a client id; it begins with the user, as some brokers' rights require."""
        self._ids += 1
        name = user or (self._config.bridge.url.username if bridge else self._config.user) or "anonymous"
        return f"{name[:_LONGEST_USER]}-check-{label}-{self.run}-{self._ids}"

    def unused_client_id(self) -> str:
        """Make a client id that appears in topics only."""
        self._ids += 1
        return f"check-{self.run}-{self._ids}"

    def unique_payload(self) -> bytes:
        """Make a payload: a JSON string, which every bridge refuses without an effect."""
        self._payloads += 1
        return f'"mqtt-presence check {self.run} {self._payloads}"'.encode()

    def own_topic(self, client_id: str, verb: str = TIME, user: str | None = None) -> str:
        """Return a topic that a client may publish to."""
        return self._topics.input(user or self._config.user, client_id, verb)

    @property
    def bridge_topic(self) -> str:
        """A topic beside the bridge's state, without subscribers."""
        return f"{self._topics.bridge_state.removesuffix('state')}check-{self.run}"

    def is_of_check(self, topic: str, payload: bytes) -> bool:
        """Return whether a message belongs to this check, or reports on the broker or a bridge."""
        is_ours = self.run in topic or self.run.encode() in payload
        return is_ours or topic == self._topics.bridge_state or topic.startswith("$SYS/")
