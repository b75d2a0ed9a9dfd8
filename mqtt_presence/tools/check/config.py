"""The configuration of a check: the broker and its nodes, the users, and the limits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.tools.check.probe_client import Credentials


class Node(NamedTuple):
    """One node of a cluster."""

    name: str
    """Host and port, as the bridge connects to it."""
    bridge: Credentials
    client: Credentials


class Cluster(NamedTuple):
    """The outcome of a connection to each node."""

    nodes: tuple[Node, ...]
    """Those that accept bridge and client."""
    refusals: tuple[str, ...]
    """The reasons of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """The configuration of a check.

    Args:
        bridge: credentials of the bridge.
        client: credentials of a client; the URL names a user.
        nodes: the nodes of a cluster; empty for a single broker.
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
    nodes: tuple[Node, ...] = ()
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


def client_at(node: BrokerUrl, client: BrokerUrl, nodes: Sequence[BrokerUrl]) -> BrokerUrl:
    """Return the URL by which the client reaches a node.

    Args:
        node: the URL of the bridge for that node.
        client: the one URL of the client.
        nodes: the URLs of the bridge for all nodes. If the client's is one of them, the client uses the same
            listeners; else its own scheme and port, at the host of the node.

    """
    at = {(each.scheme, each.host, each.port) for each in nodes}
    if (client.scheme, client.host, client.port) in at:
        return replace(node, username=client.username, password=client.password)
    return replace(client, host=node.host)
