"""The nodes of a broker: one URL, or several separated by commas, for a cluster. Pure."""

import re
from collections.abc import Sequence
from dataclasses import replace

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.url import DEFAULT_PORTS, BrokerUrl

MOST_NODES = 32
"""The largest number of nodes: the bridge keeps a connection to each."""
# A password may have a comma; only one before a scheme separates.
_SEPARATOR = re.compile(rf"\s*,\s*(?=(?:{'|'.join(DEFAULT_PORTS)})://)")


def parse_nodes(text: str) -> tuple[BrokerUrl, ...]:
    """Read the URLs of a broker's nodes; user and password stand in the first and count for all.

    Args:
        text: e.g. ``mqtt://bridge:secret@one.example,mqtt://two.example``.

    Raises:
        ConfigError: a URL is malformed, or they do not belong together; the message shows no password.

    """
    first, *others = (BrokerUrl.parse(part) for part in _SEPARATOR.split(text))
    nodes = [first, *(_completed(node, first) for node in others)]
    for number, node in enumerate(nodes):
        if "," in node.host:
            raise ConfigError(
                "the host of the broker URL has a comma: write each node as a URL, mqtt://one,mqtt://two"
            )
        if (node.host, node.port) in {(other.host, other.port) for other in nodes[:number]}:
            raise ConfigError(f"the broker URLs name {node.host}:{node.port} twice")
    if len(nodes) > MOST_NODES:
        raise ConfigError(f"the broker URLs name {len(nodes)} nodes: {MOST_NODES} at most")
    return tuple(nodes)


def _completed(node: BrokerUrl, first: BrokerUrl) -> BrokerUrl:
    if node.scheme != first.scheme:
        raise ConfigError(
            f"the broker URLs must all begin with {first.scheme}://, as the first: one cluster, one transport"
        )
    if node.username is None:
        return replace(node, username=first.username, password=first.password)
    if (node.username, node.password) != (first.username, first.password):
        raise ConfigError(
            "the broker URLs name different users or passwords: write them in the first URL only, a session "
            "belongs to one user"
        )
    return node


def beginning_at(nodes: Sequence[BrokerUrl], seat: int) -> tuple[BrokerUrl, ...]:
    """Return the nodes in the order in which a seat tries them: each seat begins with another one."""
    at = seat % len(nodes)
    return (*nodes[at:], *nodes[:at])
