"""The first node of a broker that accepts a network connection, for commands that connect once."""

import socket
from collections.abc import Sequence

from mqtt_presence.mqtt.url import BrokerUrl

_TIMEOUT_S = 3.0


def first_reachable(nodes: Sequence[BrokerUrl]) -> BrokerUrl:
    """Return the first node that accepts a TCP connection within three seconds.

    Returns:
        The first node of all, if none accepts: the caller's own attempt has the better error.

    """
    if len(nodes) == 1:
        return nodes[0]
    return next((node for node in nodes if _accepts(node)), nodes[0])


def _accepts(node: BrokerUrl) -> bool:
    try:
        # A host with an empty label or one that is too long is a UnicodeError, of IDNA.
        with socket.create_connection((node.host, node.port), _TIMEOUT_S):
            return True
    except (OSError, UnicodeError):
        return False
