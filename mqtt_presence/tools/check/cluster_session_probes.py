"""Probes of a cluster: whether the session of the bridge at one node is there at another.

Each node is compared with the next one of the list, and the last one with the first.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from mqtt_presence.tools.check.cluster_nodes import cluster_of, why_not_tried
from mqtt_presence.tools.check.findings import Finding, failed, passed, warned
from mqtt_presence.tools.check.poll_loop import ANSWER_S
from mqtt_presence.tools.check.probe_client import ProbeClient
from mqtt_presence.tools.check.prober import Prober
from mqtt_presence.tools.check.queue_probes import (
    AGAIN_S,
    COUNTS_TWICE,
    GIVE_IDS,
    changes_of,
    leave_unacknowledged,
)

_SESSION = "cluster-session"
_TAKEOVER = "cluster-takeover"
_MESSAGES = 3
_WAIT_S = 10.0
_LOST = (
    "when a node is gone the bridge goes on at another one without its session: waiting messages are lost, "
    "and all clients must log in again"
)


class Move(NamedTuple):
    """A session that began at one node and went on at another."""

    source: str
    target: str
    present: bool
    """Whether the other node reported that the session was present."""
    arrived: int
    """How many of `_MESSAGES` the other node delivered."""
    after_s: float = 0.0
    """The seconds until the last of them."""
    changes: tuple[str, ...] = ()
    """The changes of the messages, by which the bridge cannot recognise a repetition."""
    was_ended: bool = True
    """Whether the old connection has ended."""

    def __str__(self) -> str:
        return f"from {self.source} to {self.target}"


def session(prober: Prober) -> Finding:
    """Does another node know the session of the bridge, and have its messages?"""
    return why_not_tried(prober, _SESSION) or judge_session(_move(prober, takeover=False))


def takeover(prober: Prober) -> Finding:
    """Do unacknowledged messages come again at another node, and can the bridge recognise them?"""
    return why_not_tried(prober, _TAKEOVER) or judge_takeover_of_sessions(_move(prober, takeover=True))


def _move(prober: Prober, *, takeover: bool) -> list[Move]:
    """Move a session from each node to the next one.

    Args:
        prober: of the check.
        takeover: the old connection stays open, with unacknowledged messages; else it ends before these are
            published.

    """
    nodes, connections = cluster_of(prober).nodes, prober.connections
    ring = list(zip(nodes, [*nodes[1:], nodes[0]], strict=True))
    old: list[ProbeClient] = []
    payloads: list[list[bytes]] = []
    for source, _ in ring:
        bridge = connections.bridge(credentials=source.bridge, clean=False, acknowledge=False)
        prober.subscribe(bridge, prober.topics.inputs)
        old.append(bridge)
        client = connections.client(credentials=source.client)
        if takeover:
            payloads.append(leave_unacknowledged(prober, bridge, client, _MESSAGES))
        else:
            bridge.disconnect()
            payloads.append([prober.names.unique_payload() for _ in range(_MESSAGES)])
            topic = prober.names.own_topic(client.client_id)
            prober.wait_for_answers([client.publish(topic, payload) for payload in payloads[-1]])
        client.disconnect()
    began = time.monotonic()
    new = [
        connections.bridge(bridge.client_id, credentials=target.bridge, clean=False)
        for bridge, (_, target) in zip(old, ring, strict=True)
    ]
    # Without a session there is no message to wait for.
    waiting = [(bridge, own) for bridge, own in zip(new, payloads, strict=True) if _is_present(bridge)]
    prober.loop.until(
        lambda: all(_seen(bridge, own) == _MESSAGES for bridge, own in waiting),
        AGAIN_S if takeover else _WAIT_S,
    )
    taken = [before for before, after in zip(old, new, strict=True) if _is_present(after)]
    prober.loop.until(lambda: all(bridge.is_over for bridge in taken))
    moves = [
        _describe(source.name, target.name, before, after, own, began)
        for (source, target), before, after, own in zip(ring, old, new, payloads, strict=True)
    ]
    prober.loop.rest(prober.quiet_s)  # the acknowledgements must leave
    for each in (*old, *new):
        each.disconnect()
    return moves


def _is_present(bridge: ProbeClient) -> bool:
    return bridge.connack.session_present


def _seen(bridge: ProbeClient, payloads: Sequence[bytes]) -> int:
    return sum(bool(bridge.inbox.with_payload(payload)) for payload in payloads)


def _describe(
    source: str,
    target: str,
    before: ProbeClient,
    after: ProbeClient,
    payloads: Sequence[bytes],
    began: float,
) -> Move:
    arrivals = [message for payload in payloads for message in after.inbox.with_payload(payload)[:1]]
    both = [p for p in payloads if before.inbox.with_payload(p) and after.inbox.with_payload(p)]
    return Move(
        source,
        target,
        _is_present(after),
        len(arrivals),
        max((message.at - began for message in arrivals), default=0.0),
        tuple(changes_of(before.inbox, after.inbox, both)),
        before.is_over,
    )


def judge_session(moves: Sequence[Move]) -> Finding:
    """Judge sessions that ended at one node and went on at another, with messages that waited."""
    return _lost(_SESSION, moves) or passed(
        _SESSION, f"present at the next node, with the messages that waited ({len(moves)} moves)"
    )


def _lost(name: str, moves: Sequence[Move]) -> Finding | None:
    absent = [str(move) for move in moves if not move.present]
    if absent:
        return failed(name, f"the session is not present {', '.join(absent)}", _LOST)
    short = [
        f"{move.arrived} of {_MESSAGES} messages come {move}" for move in moves if move.arrived < _MESSAGES
    ]
    return failed(name, f"the session is present, and {', '.join(short)}", _LOST) if short else None


def judge_takeover_of_sessions(moves: Sequence[Move]) -> Finding:
    """Judge sessions that another node took over, with unacknowledged messages."""
    lost = _lost(_TAKEOVER, moves)
    if lost is not None:
        return lost
    after_s = max(move.after_s for move in moves)
    text = f"unacknowledged messages come again after {after_s:.1f} s"
    changes = list(dict.fromkeys(change for move in moves for change in move.changes))
    if changes:
        text += f", {' and '.join(changes)}"
    double = [str(move) for move in moves if not move.was_ended]
    if double:
        return warned(
            _TAKEOVER,
            f"{text}; the old connection stays open {', '.join(double)}",
            "a frozen bridge whose seat is taken over may still publish, and old statuses may be retained",
        )
    if changes:
        return warned(_TAKEOVER, text, COUNTS_TWICE, GIVE_IDS)
    if after_s > ANSWER_S:
        return warned(_TAKEOVER, text, "after a takeover, the bridge sees uncommitted messages that late")
    return passed(_TAKEOVER, f"{text}, with packet id and DUP; the old connection is ended")
