"""The nodes of a cluster, as bridge and client reach them, and which of them accept both."""

from mqtt_presence.errors import BrokerError
from mqtt_presence.tools.check.config import Cluster, Node
from mqtt_presence.tools.check.findings import Finding, failed, note, passed
from mqtt_presence.tools.check.prober import Prober

_ONE = "broker names one node"


def cluster_of(prober: Prober) -> Cluster:
    """Return the nodes that accept bridge and client; only the first call connects to them."""
    if prober.cluster is None:
        nodes, refusals = [], []
        for node in prober.config.nodes:
            refusal = _refusal(prober, node)
            if refusal:
                refusals.append(refusal)
            else:
                nodes.append(node)
        prober.cluster = Cluster(tuple(nodes), tuple(refusals))
    return prober.cluster


def _refusal(prober: Prober, node: Node) -> str:
    """Connect as bridge and client; return the reason why one of them cannot, empty if both can."""
    try:
        bridge = prober.connections.bridge(credentials=node.bridge)
        is_granted = prober.subscribe(bridge, prober.topics.inputs)
        bridge.disconnect()
        if not is_granted:
            return f"{node.name} denies the bridge {prober.topics.inputs}"
        prober.connections.client(credentials=node.client).disconnect()
    except BrokerError as error:
        return str(error)
    return ""


def nodes(prober: Prober) -> Finding:
    """Does each node of a cluster accept the bridge and the client?"""
    name = "nodes"
    if len(prober.config.nodes) < 2:
        return note(name, f"not tried: {_ONE}; only clusters have more")
    found = cluster_of(prober)
    if found.refusals:
        return failed(name, "; ".join(found.refusals), "a bridge or a client cannot go on at that node")
    return passed(
        name, f"{len(found.nodes)} accept bridge and client: {', '.join(n.name for n in found.nodes)}"
    )


def why_not_tried(prober: Prober, name: str) -> Finding | None:
    """Return the finding on a cluster of which fewer than two nodes can be compared; None for others."""
    if len(prober.config.nodes) < 2:
        return note(name, f"not tried: {_ONE}")
    if len(cluster_of(prober).nodes) < 2:
        return note(name, "not tried: see nodes")
    return None
