"""Probes of the broker's queue for an absent or slow bridge."""

import time
from collections.abc import Sequence

from mqtt_presence.errors import BrokerError
from mqtt_presence.tools.check.findings import Finding, OtherBridge, failed, note, passed, warned
from mqtt_presence.tools.check.other_bridge import REASONS, find_other_bridge
from mqtt_presence.tools.check.poll_loop import ANSWER_S
from mqtt_presence.tools.check.probe_client import Inbox, ProbeClient
from mqtt_presence.tools.check.prober import Prober

WINDOW = 500
"""The number of messages to a bridge that does not acknowledge."""
_ROOMY = 100
_FIRST = 2
_LEFT = 3
_BULK_S = 30.0
_BULK_QUIET_S = 3.0
AGAIN_S = 35.0  # NATS waits for 30 s
"""Time limit for the redelivery of an unacknowledged message, seconds."""
COUNTS_TWICE = (
    "a message without a connectionId that the bridge has committed and not acknowledged counts twice after "
    "a crash"
)
GIVE_IDS = "give every connection a connectionId: with one no message counts twice"


def queue(prober: Prober) -> Finding:
    """Do messages wait for a bridge that is away, and how many?"""
    name = "queue"
    wanted = prober.config.queue
    why_not = None if prober.config.may_overflow else REASONS[find_other_bridge(prober)]
    if why_not is not None:
        return note(name, f"not tried: {why_not}", remedy=f"--queue {wanted} tries it all the same")
    client_id = prober.names.client_id("queue", bridge=True)
    bridge = prober.connections.bridge(client_id, clean=False)
    prober.subscribe(bridge, prober.topics.inputs)
    bridge.disconnect()
    client = prober.connections.client()
    payloads = [prober.names.unique_payload() for _ in range(wanted)]
    topic = prober.names.own_topic(client.client_id)
    sent = [client.publish(topic, payload) for payload in payloads]
    # The embedded broker acknowledges after the bridge, so the acknowledgements may not arrive yet.
    if prober.loop.until(lambda: client.answers, prober.long_wait_s):
        prober.loop.until_quiet(lambda: client.answers, wanted, _BULK_QUIET_S, _BULK_S)
    early = sum(s.is_acknowledged for s in sent)
    try:
        bridge = prober.connections.bridge(client_id, clean=False)
    except BrokerError as error:
        return failed(name, f"the bridge cannot reconnect: {error}", "the bridge receives no messages")
    present = bridge.connack.session_present
    prober.loop.until_quiet(lambda: len(bridge.inbox.messages), wanted, _BULK_QUIET_S, _BULK_S)
    prober.loop.rest(prober.quiet_s)
    published = set(payloads)
    arrived = [m.payload for m in bridge.inbox.messages if m.payload in published]
    bridge.disconnect()
    client.disconnect()
    lost = len({p for p, s in zip(payloads, sent, strict=True) if s.is_acknowledged} - set(arrived))
    return judge_queue(
        wanted,
        early=early,
        arrived=len(set(arrived)),
        lost=lost,
        present=present,
        in_order=_in_order(arrived, payloads),
    )


def judge_queue(sent: int, *, early: int, arrived: int, lost: int, present: bool, in_order: bool) -> Finding:
    """Judge the messages that waited for an absent bridge.

    Args:
        sent: the number of messages published during the absence.
        early: the number of them that the broker acknowledged during the absence.
        arrived: the number that it delivered when the bridge was back.
        lost: the number that it acknowledged, then or later, and did not deliver.
        present: whether it reported that the session was present.
        in_order: whether the messages arrived in the order of publication.

    """
    name = "queue"
    if arrived == 0:
        session = "the session was present" if present else "no session was kept"
        return failed(
            name,
            f"0 of {sent} messages came after an absence ({session}); {early} had been acknowledged",
            "logins and logouts during a restart of the bridge are lost",
        )
    if arrived < sent:
        return failed(
            name,
            f"{arrived} of {sent} messages came after an absence, {lost} were acknowledged and dropped",
            "with more clients than that, logins and wills are lost while the bridge is away, or slow",
        )
    if not in_order:
        return warned(
            name,
            f"{arrived} of {sent} messages came, in another order",
            "clients without a connectionId may appear offline after a login",
        )
    if not present:
        return warned(
            name,
            f"{arrived} of {sent} messages came, but session_present is 0",
            "the bridge must assume that messages were lost, and asks all clients to log in again",
        )
    later = " (acknowledged to the client only when the bridge had them)" if early == 0 else ""
    return passed(name, f"{arrived} of {sent} messages came after an absence, in order{later}")


def _in_order(arrived: Sequence[bytes], sent: Sequence[bytes]) -> bool:
    """Compare the order of first arrivals with the order of publication."""
    place = {payload: index for index, payload in enumerate(sent)}
    places = [place[payload] for payload in dict.fromkeys(arrived) if payload in place]
    return places == sorted(places)


def redelivery(prober: Prober) -> Finding:
    """Does the broker redeliver messages that the bridge has not acknowledged, and can it recognise them?"""
    client_id = prober.names.client_id("again", bridge=True)
    bridge = prober.connections.bridge(client_id, clean=False, acknowledge=False)
    prober.subscribe(bridge, prober.topics.inputs)
    client = prober.connections.client()
    payloads = leave_unacknowledged(prober, bridge, client, _LEFT)
    open_ones = [payload for payload in payloads if bridge.inbox.with_payload(payload)]
    bridge.cut()
    again = prober.connections.bridge(client_id, clean=False)
    began = time.monotonic()
    is_redelivered = bool(open_ones) and prober.loop.until(
        lambda: all(again.inbox.with_payload(payload) for payload in open_ones), AGAIN_S
    )
    after_s = time.monotonic() - began
    prober.loop.rest(prober.quiet_s)
    again.disconnect()
    client.disconnect()
    if not is_redelivered:
        return judge_redelivery(None)
    return judge_redelivery(after_s, changes_of(bridge.inbox, again.inbox, open_ones))


def leave_unacknowledged(prober: Prober, bridge: ProbeClient, client: ProbeClient, count: int) -> list[bytes]:
    """Publish messages of which the bridge acknowledges the first ones only; return the payloads of the rest.

    So the packet ids of the rest are not the first ones, with which a broker may number them anew.

    Args:
        prober: of the check.
        bridge: subscribed to the clients' messages, without acknowledgements of its own.
        client: publishes them.
        count: the number of messages to leave.

    """
    payloads = [prober.names.unique_payload() for _ in range(_FIRST + count)]
    # Without a wait for acknowledgements: the embedded broker sends them after those of the bridge.
    for payload in payloads:
        client.publish(prober.names.own_topic(client.client_id), payload)
    for payload in payloads[:_FIRST]:
        if prober.wait_for_payload(bridge, payload):
            bridge.acknowledge(bridge.inbox.with_payload(payload)[0])
    rest = payloads[_FIRST:]
    prober.loop.until(lambda: all(bridge.inbox.with_payload(payload) for payload in rest))
    return rest


def changes_of(before: Inbox, after: Inbox, payloads: Sequence[bytes]) -> list[str]:
    """Return by which signs the bridge cannot recognise a repetition; empty: it can.

    Args:
        before: the messages as they first came.
        after: the messages as they came again.
        payloads: of the messages, which came both times.

    """
    pairs = [(before.with_payload(payload)[0], after.with_payload(payload)[0]) for payload in payloads]
    changes = []
    if any(first.packet_id != again.packet_id for first, again in pairs):
        changes.append("under another packet id")
    if not all(again.is_dup for _, again in pairs):
        changes.append("without the DUP flag")
    return changes


def judge_redelivery(after_s: float | None, changes: Sequence[str] = ()) -> Finding:
    """Judge the redelivery of an unacknowledged message.

    Args:
        after_s: the seconds until it came again; None if it did not.
        changes: see `changes_of`.

    """
    name = "redelivery"
    if after_s is None:
        return failed(
            name,
            "an unacknowledged message is not delivered again",
            "a killed bridge loses the messages that it has not committed",
        )
    how = f", {' and '.join(changes)}" if changes else ""
    if after_s > ANSWER_S:
        return warned(
            name,
            f"an unacknowledged message is delivered again only after {after_s:.0f} s{how}",
            "after a kill, the bridge sees uncommitted messages that late"
            + (f"; and {COUNTS_TWICE}" if changes else ""),
        )
    if changes:
        return warned(name, f"an unacknowledged message is delivered again{how}", COUNTS_TWICE, GIVE_IDS)
    return passed(
        name, "an unacknowledged message is delivered again on the next connection, with packet id and DUP"
    )


def window(prober: Prober) -> Finding:
    """How many messages does the broker send before the bridge acknowledges one?"""
    if find_other_bridge(prober) is OtherBridge.AWAY and not prober.config.may_overflow:
        return note(
            "window",
            f"not tried: {REASONS[OtherBridge.AWAY]}",
            remedy=f"try it while that bridge is at work; --queue {prober.config.queue} tries it "
            "all the same",
        )
    bridge = prober.connections.bridge(acknowledge=False)
    prober.subscribe(bridge, prober.topics.inputs)
    client = prober.connections.client()
    topic = prober.names.own_topic(client.client_id)
    for _ in range(WINDOW):
        client.publish(topic, prober.names.unique_payload())
    # Other clients' messages count as well: they share the window on a live broker.
    prober.loop.until(lambda: bridge.inbox.count)
    seen = prober.loop.until_quiet(lambda: bridge.inbox.count, WINDOW, prober.long_wait_s, _BULK_S)
    bridge.disconnect()
    prober.loop.rest(prober.quiet_s)
    client.disconnect()
    return judge_window(seen, mqtt5=prober.connections.mqtt5)


def judge_window(seen: int, *, mqtt5: bool) -> Finding:
    """Judge the number of unacknowledged messages.

    Args:
        seen: how many arrived, of `WINDOW`.
        mqtt5: whether MQTT 5 was used, in which the bridge sets the limit.

    """
    name = "window"
    how = "MQTT 5" if mqtt5 else "MQTT 3.1.1"
    if seen >= _ROOMY:
        least = "at least " if seen >= WINDOW else ""
        return passed(name, f"{least}{min(seen, WINDOW)} on the way unacknowledged ({how})")
    return warned(
        name,
        f"{seen} on the way unacknowledged ({how})",
        f"a commit has {seen} messages at most: at 10 ms each that is {seen * 100} a second, and further "
        "messages wait in the queue",
    )
