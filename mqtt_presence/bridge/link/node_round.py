"""The node of the next attempt to connect. Pure; `connecting.py` reports each failure."""

from collections.abc import Sequence

from mqtt_presence.mqtt.url import BrokerUrl


class NodeRound:
    """Goes through the nodes of a broker, in a circle.

    After the end of a connection the next node is tried first: the end is a sign that the node is gone. The
    session is the same on each node of a cluster.

    Args:
        nodes: in the order of the attempts.

    """

    def __init__(self, nodes: Sequence[BrokerUrl]) -> None:
        self._nodes = nodes
        self._at = 0
        self._failures = 0

    @property
    def node(self) -> BrokerUrl:
        """The node of the current connection, or of the next attempt."""
        return self._nodes[self._at]

    def connected(self) -> None:
        """Begin a new round: the node has accepted the connection."""
        self._failures = 0

    def next(self) -> bool:
        """Go on to the next node; return whether each node has failed since the last connection."""
        self._at = (self._at + 1) % len(self._nodes)
        self._failures += 1
        return self._failures % len(self._nodes) == 0
