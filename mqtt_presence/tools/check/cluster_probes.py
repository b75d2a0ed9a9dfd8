"""Probes of a cluster: whether messages, wills and retained messages of one node are those of all."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from mqtt_presence.protocol.topics import WILL
from mqtt_presence.tools.check.cluster_nodes import cluster_of, why_not_tried
from mqtt_presence.tools.check.config import Node
from mqtt_presence.tools.check.delivery_probes import encoded_status
from mqtt_presence.tools.check.findings import Finding, failed, passed
from mqtt_presence.tools.check.probe_client import ProbeClient
from mqtt_presence.tools.check.prober import Prober

WAIT_S = 5.0
"""Time limit until all nodes have a message, seconds."""
_RETAINED = "cluster-retained"


class Arrival(NamedTuple):
    """A message on its way from one node to a subscriber at another."""

    source: str
    target: str
    after_s: float | None
    """None: it did not arrive."""


def live(prober: Prober) -> Finding:
    """Does a message at one node reach a subscriber at another?"""
    name = "cluster-live"
    return why_not_tried(prober, name) or judge_arrivals(
        name,
        _publish_everywhere(prober, will=False),
        "message",
        "the bridge does not see the clients of other nodes",
    )


def will(prober: Prober) -> Finding:
    """Does the will of a client at one node reach a subscriber at another?"""
    name = "cluster-will"
    return why_not_tried(prober, name) or judge_arrivals(
        name,
        _publish_everywhere(prober, will=True),
        "will",
        "clients that lose their connection to another node stay online",
    )


def _publish_everywhere(prober: Prober, *, will: bool) -> list[Arrival]:
    """Publish at each node, or leave a will there, and wait for the messages at all nodes."""
    nodes = cluster_of(prober).nodes
    readers = [prober.connections.bridge(credentials=node.bridge) for node in nodes]
    for reader in readers:
        prober.subscribe(reader, prober.topics.inputs)
    writers: list[ProbeClient] = []
    payloads: list[bytes] = []
    began: list[float] = []
    for node in nodes:
        client_id, payload = prober.names.client_id("node"), prober.names.unique_payload()
        options = {"will": (prober.names.own_topic(client_id, WILL), payload)} if will else {}
        writer = prober.connections.client(client_id, credentials=node.client, **options)
        began.append(time.monotonic())
        if will:
            writer.cut()
        else:
            writer.publish(prober.names.own_topic(client_id), payload)
        writers.append(writer)
        payloads.append(payload)
    prober.loop.until(
        lambda: all(reader.inbox.with_payload(p) for reader in readers for p in payloads), WAIT_S
    )
    for each in (*readers, *writers):
        each.disconnect()
    return [
        Arrival(
            source.name,
            target.name,
            next((message.at - since for message in reader.inbox.with_payload(payload)), None),
        )
        for source, payload, since in zip(nodes, payloads, began, strict=True)
        for target, reader in zip(nodes, readers, strict=True)
    ]


def judge_arrivals(name: str, arrivals: Sequence[Arrival], what: str, consequence: str) -> Finding:
    """Judge the messages from each node to each node.

    Args:
        name: of the finding.
        arrivals: at least one.
        what: the kind of message, in the singular.
        consequence: of a message that does not arrive.

    """
    lost = [f"{a.source} to {a.target}" for a in arrivals if a.after_s is None]
    if lost:
        return failed(name, f"{what}s do not arrive from {', '.join(lost)}", consequence)
    longest_s = max(a.after_s for a in arrivals if a.after_s is not None)
    return passed(
        name, f"each {what} arrives at all nodes, the last one after {max(0, round(longest_s * 1000))} ms"
    )


class RetainedChange(NamedTuple):
    """A change of a retained status at one node, as new subscribers at all nodes see it."""

    action: str
    source: str
    wrong: tuple[str, ...]
    """The nodes that do not show it."""
    after_s: float
    """The seconds until all nodes showed it."""


def retained(prober: Prober) -> Finding:
    """Do all nodes have the same retained statuses?"""
    not_tried = why_not_tried(prober, _RETAINED)
    if not_tried is not None:
        return not_tried
    nodes = cluster_of(prober).nodes
    steps = []
    for action, node, payload in (
        ("published", nodes[0], encoded_status(prober, 1)),
        ("overwritten", nodes[1], encoded_status(prober, 2)),
        ("cleared", nodes[-1], b""),
    ):
        steps.append(_change(prober, action, node, payload))
        if steps[-1].wrong:
            break
    return judge_retained_everywhere(steps, len(nodes))


def _change(prober: Prober, action: str, node: Node, payload: bytes) -> RetainedChange:
    topic = prober.topics.status(prober.names.invented_user)
    writer = prober.connections.bridge(credentials=node.bridge)
    prober.wait_for_answers([prober.cleanup.retain(writer, topic, payload)])
    writer.disconnect()
    began, nodes = time.monotonic(), cluster_of(prober).nodes
    while True:
        wrong = _without(prober, nodes, topic, payload)
        after_s = time.monotonic() - began
        if not wrong or after_s > WAIT_S:
            return RetainedChange(action, node.name, tuple(each.name for each in wrong), after_s)
        nodes = wrong


def _without(prober: Prober, nodes: Sequence[Node], topic: str, payload: bytes) -> tuple[Node, ...]:
    """Return the nodes at which a new subscriber does not get this retained message; empty: any message."""
    readers = [prober.connections.bridge(credentials=node.bridge) for node in nodes]
    for reader in readers:
        prober.subscribe(reader, topic)
    prober.loop.until(lambda: all(reader.inbox.on_topic(topic) for reader in readers), prober.quiet_s)
    shown = [{message.payload for message in reader.inbox.on_topic(topic)} for reader in readers]
    for reader in readers:
        reader.disconnect()
    wanted = {payload} if payload else set()
    return tuple(node for node, payloads in zip(nodes, shown, strict=True) if payloads != wanted)


def judge_retained_everywhere(steps: Sequence[RetainedChange], count: int) -> Finding:
    """Judge the changes of a retained status.

    Args:
        steps: in their order; only the last one may be wrong.
        count: the number of nodes.

    """
    last = steps[-1]
    if last.wrong:
        return failed(
            _RETAINED,
            f"{last.action} at {last.source}, not so at {', '.join(last.wrong)} after {last.after_s:.0f} s",
            "new subscribers at some nodes see old statuses, or none",
        )
    longest_s = max(step.after_s for step in steps)
    return passed(
        _RETAINED,
        f"published, overwritten and cleared at one node each, {count} agree within {longest_s:.1f} s",
    )
