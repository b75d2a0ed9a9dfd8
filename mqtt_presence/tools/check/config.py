"""The configuration of a check: the broker, the users, and the limits."""

from dataclasses import dataclass, field

from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.tools.check.probe_client import Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """The configuration of a check.

    Args:
        bridge: credentials of the bridge.
        client: credentials of a client; the URL names a user.
        second: credentials of another user; None for an invented user, as whom no client connects.
        websocket: credentials of the client by WebSocket; None to skip that probe.
        topics: the topics under the prefix in use.
        queue: the number of messages that must wait for an absent bridge.
        may_overflow: fill that queue even if a bridge uses this broker, at work or away.
        profiles: the device profiles whose topics are tested.
        seats: the number of bridges that are to share the messages.
        database: the URL of the bridge's database; None to skip that probe.

    """

    bridge: Credentials
    client: Credentials
    second: Credentials | None = None
    websocket: Credentials | None = None
    topics: Topics = Topics()  # noqa: RUF009, immutable
    queue: int = 5000
    may_overflow: bool = False
    profiles: tuple[Profile, ...] = ()
    seats: int = 1
    database: str | None = field(default=None, repr=False)

    @property
    def user(self) -> str:
        """The client's user name."""
        return self.client.url.username or ""
