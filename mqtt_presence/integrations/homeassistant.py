"""Home Assistant: one retained discovery message for each user (docs/homeassistant.md).

The message describes a device with five entities, which read `status/<user>` and `bridge/state`. So it is
published when a user is new, and not when the user's state changes.
"""

import fnmatch
import re
from collections.abc import Iterable
from hashlib import sha256

import msgspec
from msgspec import Struct

from mqtt_presence.protocol.publications import Publication
from mqtt_presence.protocol.topics import Topics, is_name
from mqtt_presence.rules.model import Outcome, UserId, UserPresence

FORMAT = 1
"""Raised when the content of the messages changes: the bridge then publishes all of them again."""
_SLUG = re.compile(r"[^a-z0-9]+")
_SLUG_LENGTH = 32
_HASH_LENGTH = 16

_encode = msgspec.json.Encoder().encode


class Discovery(Struct, frozen=True):
    """The settings that decide on topics and contents of the discovery messages."""

    discovery_prefix: str
    match: str | None = None
    """A pattern of ``*``, ``?`` and ``[…]`` for the names of users; None: all users."""
    prefix: str = ""
    """The beginning of the topics of presence."""
    format: int = FORMAT


class HomeAssistantOutput:
    """Writes ``<discovery prefix>/device/<object id>/config``.

    Args:
        discovery: the settings.

    """

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._topics = Topics(discovery.prefix)
        self._matches = re.compile(fnmatch.translate(discovery.match or "*")).match

    def publications(self, outcome: Outcome) -> Iterable[Publication]:
        """Return the message of a new user."""
        return self.retained(outcome.user) if outcome.is_new else ()

    def retained(self, user: UserPresence) -> Iterable[Publication]:
        """Return the message of a user who matches."""
        for topic in self.topics(user.user_id):
            yield Publication(topic, self._message(user.user_id), retain=True)

    def topics(self, user_id: UserId) -> Iterable[str]:
        """Return the topic of the message, if the user matches."""
        # No status is published for a name that cannot be a level of a topic.
        if is_name(user_id) and self._matches(user_id):
            yield f"{self._discovery.discovery_prefix}/device/{self._object_id(user_id)}/config"

    def _object_id(self, user_id: str) -> str:
        """Return a name of letters, digits and ``_``, which no other user has, under any prefix."""
        slug = _SLUG.sub("_", user_id.lower()).strip("_")[:_SLUG_LENGTH]
        digest = sha256(f"{self._topics.prefix}\0{user_id}".encode()).hexdigest()[:_HASH_LENGTH]
        return f"presence_{slug}_{digest}" if slug else f"presence_{digest}"

    def _message(self, user_id: str) -> bytes:
        """Return the discovery message, with Home Assistant's abbreviations."""
        name = self._object_id(user_id)
        status = self._topics.status(user_id)
        return _encode(
            {
                "dev": {"ids": [name], "name": user_id, "mf": "mqtt-presence", "mdl": "User"},
                "o": {"name": "mqtt-presence"},
                "avty": [{"t": self._topics.bridge_state, "val_tpl": "{{ value_json.state }}"}],
                "stat_t": status,
                "cmps": {
                    key: {**component, "uniq_id": f"{name}_{key}", "qos": 1}
                    | ({"json_attr_t": status} if key == "connected" else {})
                    for key, component in _COMPONENTS.items()
                },
            }
        )


_COMPONENTS: dict[str, dict[str, object]] = {
    "connected": {
        "p": "binary_sensor",
        "name": "Connected",
        "dev_cla": "connectivity",
        "val_tpl": "{{ 'ON' if value_json.online else 'OFF' }}",
    },
    "state": {
        "p": "sensor",
        "name": "State",
        "dev_cla": "enum",
        "ops": ["online", "idle", "offline"],
        "ic": "mdi:account-clock",
        "val_tpl": "{{ value_json.state }}",
    },
    "since": {
        "p": "sensor",
        "name": "Since",
        "dev_cla": "timestamp",
        "val_tpl": "{{ value_json.since }}",
    },
    "connections": {
        "p": "sensor",
        "name": "Connections",
        "stat_cla": "measurement",
        "ic": "mdi:lan-connect",
        "val_tpl": "{{ value_json.connections }}",
    },
    "tracker": {
        "p": "device_tracker",
        "name": "Presence",
        "src_type": "router",
        "val_tpl": "{{ 'home' if value_json.online else 'not_home' }}",
    },
}
"""The entities of a user, by the last part of their unique ids, which must never change."""


class RemovedDiscovery:
    """Removes the messages of earlier settings, as far as the present ones do not replace them.

    Args:
        former: the output under the earlier settings.
        present: the output under the present settings; None: Home Assistant is switched off.

    """

    def __init__(self, former: HomeAssistantOutput, present: HomeAssistantOutput | None) -> None:
        self._former = former
        self._present = present

    def publications(self, outcome: Outcome) -> Iterable[Publication]:
        """Return no message: new users never had one."""
        del outcome
        return ()

    def retained(self, user: UserPresence) -> Iterable[Publication]:
        """Return the empty message for each topic that is no longer in use."""
        kept = set(() if self._present is None else self._present.topics(user.user_id))
        for topic in self._former.topics(user.user_id):
            if topic not in kept:
                yield Publication(topic, b"", retain=True)

    def topics(self, user_id: UserId) -> Iterable[str]:
        """Return the topics under the earlier settings."""
        return self._former.topics(user_id)
