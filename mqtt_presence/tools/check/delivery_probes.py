"""Probes of what the broker delivers, keeps and replays."""

import time
from collections.abc import Sequence

from mqtt_presence.errors import BrokerError
from mqtt_presence.protocol.outgoing import encode_status
from mqtt_presence.protocol.topics import VERBS
from mqtt_presence.rules.model import Status
from mqtt_presence.tools.check.findings import Finding, failed, note, passed, warned
from mqtt_presence.tools.check.probe_client import ClosedError, ConnectOptions, ProbeClient, RefusedError
from mqtt_presence.tools.check.prober import ANSWER_S, OtherBridge, Prober

WINDOW = 500
"""How many messages are sent to a bridge that does not acknowledge."""
_ROOMY = 100
_LIST_S = 10.0
_BULK_S = 30.0
_BULK_QUIET_S = 3.0
_AGAIN_S = 35.0  # NATS waits for 30
_LAST_MARK = "last"


def own_topics(lab: Prober) -> Finding:
    """Does what a client says reach the bridge, at QoS 1, verb by verb?"""
    if not lab.may_listen:
        return failed(
            "own-topics",
            f"the bridge's user may not subscribe to {lab.topics.inputs}",
            "the bridge sees nobody",
            f"let the bridge's user, and nobody else, read {lab.topics.inputs}",
        )
    peer = lab.client()
    payloads = {verb: lab.mark() for verb in sorted(VERBS)}
    sent = [peer.publish(lab.own(peer.client_id, verb), payload) for verb, payload in payloads.items()]
    lab.gather([(lab.observer, payload) for payload in payloads.values()])
    acknowledged = lab.delivered(sent)
    peer.disconnect()
    qos = {verb: [m.qos for m in lab.came(lab.observer, payload)] for verb, payload in payloads.items()}
    lab.is_deaf = not any(qos.values())
    return judge_own_topics(qos, acknowledged=acknowledged)


def judge_own_topics(qos: dict[str, list[int]], *, acknowledged: bool) -> Finding:
    """Judge what of a client's own topics has come.

    Args:
        qos: at which QoS, once for every time it came, by verb.
        acknowledged: the broker has acknowledged all of it.

    """
    name = "own-topics"
    missing = [verb for verb, came in qos.items() if not came]
    if missing:
        how = "none of them arrives" if len(missing) == len(qos) else f"{', '.join(missing)} does not arrive"
        return failed(name, how, "clients are not seen, or not seen to come, go or be alive")
    if any(0 in came for came in qos.values()):
        return failed(
            name, "published at QoS 1, they arrive at QoS 0", "what the bridge has not committed is lost"
        )
    if not acknowledged:
        return failed(name, "they arrive, and are not acknowledged", "clients send again and again")
    return passed(name, f"{', '.join(qos)} arrive at QoS 1")


def names(lab: Prober) -> Finding:
    """Do names with a dot, a space and an accent arrive as they are?"""
    name = "names"
    client_id = f"{lab.new_id('names')} é.x"
    payload = lab.mark()
    topic = lab.own(client_id)
    try:
        peer = lab.client(client_id)
    except (RefusedError, ClosedError) as error:
        return warned(name, f"client id {client_id!r}: {error}", "clients with such names stay outside")
    peer.publish(topic, payload)
    came = lab.heard(payload)
    peer.disconnect()
    if came is None:
        return warned(
            name, f"{topic} does not arrive, or on another topic", "clients with such names are not seen"
        )
    if came.topic != topic:
        return warned(name, f"{topic} arrives as {came.topic}", "such clients appear under another name")
    return passed(name, "a dot, a space and an accent arrive as they are")


def bridge_rights(lab: Prober) -> Finding:
    """May the bridge write status, bridge, events and replies?"""
    name = "bridge-rights"
    peer = lab.bridge()
    topics = lab.topics
    asked = [
        topics.status(lab.stand_in),
        lab.bridge_topic(),
        topics.event(lab.stand_in, "check"),
        topics.reply(lab.config.user, lab.new_id()),
    ]
    denied = []
    for topic in asked:
        if peer.is_over:
            peer = lab.bridge()
        sent = peer.publish(topic, b"" if topic == asked[0] else lab.mark())
        lab.answered(sent, peer)
        if not sent.is_acknowledged:
            denied.append(topic)
    peer.disconnect()
    if denied:
        return failed(
            name, f"refused: {', '.join(denied)}", "subscribers do not hear what the bridge has to say"
        )
    if not lab.mqtt5:  # it acknowledges what it denies, too; client_rights looks at the replies
        unheard = [topic for topic in asked[:3] if not _is_heard(lab, topic)]
        if unheard:
            return note(name, f"cannot tell: nobody of the users given hears {', '.join(unheard)}")
    return passed(name, "status, bridge, events and reply may be written")


def _is_heard(lab: Prober, topic: str) -> bool:
    witness = lab.witness(topic)
    if witness is not None:
        witness.disconnect()
    return witness is not None


def client_rights(lab: Prober) -> Finding:
    """Does a client hear status, bridge and the replies to it?"""
    name = "client-rights"
    topics = lab.topics
    client_id = lab.new_id("listener")
    status, reply = topics.status(lab.stand_in), topics.reply(lab.config.user, client_id)
    own = lab.client(client_id)
    asked = [
        (own, reply, reply, lab.mark()),
        (lab.client(), topics.statuses, status, _status(lab, 1)),
        (lab.client(), lab.bridge_topic(), lab.bridge_topic(), lab.mark()),
    ]
    for listener, topic_filter, *_ in asked:  # each on its own: being denied may end the connection
        lab.subscribe(listener, topic_filter)
    writer = lab.bridge()
    for _, _, topic, payload in asked:
        writer.publish(topic, payload)
    lab.gather([(listener, payload) for listener, _, _, payload in asked])
    missing = [
        topic_filter for listener, topic_filter, _, payload in asked if not lab.came(listener, payload)
    ]
    for listener, *_ in asked:
        listener.disconnect()
    writer.disconnect()
    if missing:
        return failed(
            name,
            f"not delivered to the client: {', '.join(missing)}",
            "clients do not see who is there, or when to log in again, or what time it is",
        )
    return passed(name, "status, bridge and its own reply are delivered")


def retained(lab: Prober) -> Finding:
    """Does who subscribes get the states of all users?"""
    writer = lab.bridge()
    topic = lab.topics.status(lab.stand_in)
    lab.delivered([lab.retain(writer, topic, _status(lab, 1))])
    writer.publish(topic, _status(lab, 2), retain=True)
    lab.delivered([lab.retain(writer, topic, _status(lab, 3))])
    newest = _status(lab, 3)
    deep = lab.topics.statuses.removesuffix("+") + "#"
    got = _replayed(lab, (topic, lab.topics.statuses, deep), topic, newest)
    lab.delivered([writer.publish(topic, b"", retain=True)])
    remains = _replayed(lab, (topic,), topic, newest, timeout_s=lab.quiet_s)[topic]
    writer.disconnect()
    return judge_retained(got, exact=topic, deep=deep, remains=remains)


def judge_retained(got: dict[str, bool], *, exact: str, deep: str, remains: bool) -> Finding:
    """Judge which subscriptions bring a retained status.

    Args:
        got: by topic filter, whether the newest came.
        exact: the filter without a wildcard.
        deep: the filter that ends in ``#``: nobody needs it.
        remains: an empty payload has not cleared it.

    """
    name = "retained"
    if not got[exact]:
        return failed(
            name, "not kept, not the newest, or not delivered", "who subscribes learns only changes"
        )
    if remains:
        return failed(name, "an empty message does not clear it", "users who are forgotten stay visible")
    missing = [f for f, came in got.items() if not came]
    if missing == [deep]:
        return warned(name, f"replayed, but not for {deep}", f"subscribe to {deep.removesuffix('#')}+")
    if missing:
        return failed(
            name,
            f"replayed for the exact topic, not for {', '.join(missing)}",
            "who wants to see all users sees only those whose state changes from now on",
        )
    return passed(name, f"the newest is replayed for {', '.join(got)}, and cleared by an empty one")


def _replayed(
    lab: Prober, filters: Sequence[str], topic: str, payload: bytes, timeout_s: float = _LIST_S
) -> dict[str, bool]:
    """Subscribe to each filter on a connection of its own, and tell which bring the retained message."""
    peers = {topic_filter: lab.client() for topic_filter in filters}
    granted = {f: peer for f, peer in peers.items() if lab.subscribe(peer, f)}
    lab.until(lambda: all(lab.on_topic(p, topic) or p.is_over for p in granted.values()), timeout_s)
    for peer in peers.values():
        peer.disconnect()
    return {
        f: any(m.payload == payload and m.retain for m in lab.on_topic(peer, topic))
        for f, peer in peers.items()
    }


def _status(lab: Prober, version: int) -> bytes:
    """Make a status of somebody who is not there: a subscriber who sees it can make nothing of it."""
    return encode_status(lab.stand_in, Status(), version=version, last_seen=None)


_SPARED = {
    OtherBridge.AT_WORK: "a bridge is at work here; if messages are dropped, it asks all clients to log in",
    OtherBridge.AWAY: "a bridge lives here and is away; these messages could push real ones out of its queue",
    OtherBridge.NONE: None,
    OtherBridge.UNKNOWN: "a bridge may live here whose queue would be filled, too: the users given hear "
    "nothing of what is said on bridge/",
}
"""Why the broker's queues are not filled."""


def queue(lab: Prober) -> Finding:
    """Do messages wait for a bridge that is away, and how many?"""
    name = "queue"
    wanted = lab.config.queue
    why_not = None if lab.config.may_overflow else _SPARED[lab.other_bridge]
    if why_not is not None:
        return note(name, f"not tried: {why_not}", remedy=f"--queue {wanted} tries it all the same")
    client_id = lab.new_id("queue", bridge=True)
    bridge = lab.bridge(client_id, clean=False)
    lab.subscribe(bridge, lab.topics.inputs)
    bridge.disconnect()
    peer = lab.client()
    payloads = [lab.mark() for _ in range(wanted)]
    topic = lab.own(peer.client_id)
    sent = [peer.publish(topic, payload) for payload in payloads]
    # The embedded broker acknowledges when the bridge has, so not all of it can be waited for.
    if lab.until(lambda: peer.answers, lab.patient_s):
        lab.until_quiet(lambda: peer.answers, wanted, _BULK_QUIET_S, _BULK_S)
    early = sum(s.is_acknowledged for s in sent)
    try:
        bridge = lab.bridge(client_id, clean=False)
    except BrokerError as error:
        return failed(name, f"the bridge cannot come back: {error}", "nothing reaches it")
    present = bridge.session_present
    lab.until_quiet(lambda: len(bridge.received), wanted, _BULK_QUIET_S, _BULK_S)
    lab.rest(lab.quiet_s)
    published = set(payloads)
    came = [m.payload for m in bridge.received if m.payload in published]
    bridge.disconnect()
    peer.disconnect()
    lost = len({p for p, s in zip(payloads, sent, strict=True) if s.is_acknowledged} - set(came))
    return judge_queue(
        wanted,
        early=early,
        came=len(set(came)),
        lost=lost,
        present=present,
        in_order=_in_order(came, payloads),
    )


def judge_queue(sent: int, *, early: int, came: int, lost: int, present: bool, in_order: bool) -> Finding:
    """Judge what waited for a bridge that was away.

    Args:
        sent: how many messages were published meanwhile.
        early: how many of them the broker acknowledged meanwhile.
        came: how many it delivered when the bridge was back.
        lost: how many it acknowledged, then or later, and did not deliver.
        present: it said that the session was still there.
        in_order: what came, came as it was published.

    """
    name = "queue"
    if came == 0:
        session = "the session was there" if present else "no session was kept"
        return failed(
            name,
            f"0 of {sent} messages came after an absence ({session}); {early} had been acknowledged",
            "whoever comes or goes while the bridge restarts is missed",
        )
    if came < sent:
        return failed(
            name,
            f"{came} of {sent} messages came after an absence, {lost} were acknowledged and dropped",
            "with more clients than that, logins and wills are lost while the bridge is away, or slow",
        )
    if not in_order:
        return warned(
            name,
            f"{came} of {sent} messages came, in another order",
            "clients without a connectionId may be seen to leave when they have come",
        )
    if not present:
        return warned(
            name,
            f"{came} of {sent} messages came, but session_present is 0",
            "the bridge believes that it missed something and asks all clients to log in again",
        )
    later = " (acknowledged to the client only when the bridge had them)" if early == 0 else ""
    return passed(name, f"{came} of {sent} messages came after an absence, in order{later}")


def _in_order(came: Sequence[bytes], sent: Sequence[bytes]) -> bool:
    place = {payload: number for number, payload in enumerate(sent)}
    places = [place[payload] for payload in dict.fromkeys(came) if payload in place]
    return places == sorted(places)


def redelivery(lab: Prober) -> Finding:
    """Does what the bridge has not acknowledged come again?"""
    client_id = lab.new_id("again", bridge=True)
    bridge = lab.bridge(client_id, clean=False, acknowledge=False)
    lab.subscribe(bridge, lab.topics.inputs)
    peer = lab.client()
    payload = lab.mark()
    peer.publish(lab.own(peer.client_id), payload)
    first = lab.arrived(bridge, payload)
    bridge.cut()
    again = lab.bridge(client_id, clean=False)
    began = time.monotonic()
    came = first and lab.arrived(again, payload, _AGAIN_S)
    after_s = time.monotonic() - began
    lab.rest(lab.quiet_s)
    again.disconnect()
    peer.disconnect()
    return judge_redelivery(after_s if came else None)


def judge_redelivery(after_s: float | None) -> Finding:
    """Judge how long after the bridge was back an unacknowledged message came again; None: it did not."""
    name = "redelivery"
    if after_s is None:
        return failed(
            name,
            "an unacknowledged message does not come again",
            "what the bridge was about to commit when it was killed is lost",
        )
    if after_s > ANSWER_S:
        return warned(
            name,
            f"an unacknowledged message comes again only after {after_s:.0f} s",
            "what the bridge was about to commit when it was killed is seen that late",
        )
    return passed(name, "an unacknowledged message comes again on the next connection")


def window(lab: Prober) -> Finding:
    """How many messages are on the way to a bridge that has not acknowledged yet?"""
    if lab.other_bridge is OtherBridge.AWAY and not lab.config.may_overflow:
        return note(
            "window",
            f"not tried: {_SPARED[OtherBridge.AWAY]}",
            remedy=f"try it while that bridge is at work; --queue {lab.config.queue} tries it all the same",
        )
    bridge = lab.bridge(acknowledge=False)
    lab.subscribe(bridge, lab.topics.inputs)
    peer = lab.client()
    topic = lab.own(peer.client_id)
    for _ in range(WINDOW):
        peer.publish(topic, lab.mark())
    # All messages count: on a live broker there are others on the way, too.
    lab.until(lambda: bridge.count)
    seen = lab.until_quiet(lambda: bridge.count, WINDOW, lab.patient_s, _BULK_S)
    bridge.disconnect()
    lab.rest(lab.quiet_s)
    peer.disconnect()
    return judge_window(seen, mqtt5=lab.mqtt5)


def judge_window(seen: int, *, mqtt5: bool) -> Finding:
    """Judge how many messages come unacknowledged.

    Args:
        seen: how many came, of `WINDOW`.
        mqtt5: they came by MQTT 5, where the bridge says how many it takes.

    """
    name = "window"
    how = "MQTT 5" if mqtt5 else "MQTT 3.1.1"
    if seen >= _ROOMY:
        least = "at least " if seen >= WINDOW else ""
        return passed(name, f"{least}{min(seen, WINDOW)} on the way unacknowledged ({how})")
    return warned(
        name,
        f"{seen} on the way unacknowledged ({how})",
        f"one commit takes {seen} messages at most: with 10 ms each that is {seen * 100} a second, and what "
        "is more waits in the queue",
    )


def shared(lab: Prober) -> Finding:
    """Do shared subscriptions work?"""
    name = "shared"
    peer: ProbeClient = lab.connect(
        lab.config.bridge, lab.new_id("shared", bridge=True), ConnectOptions(mqtt5=lab.mqtt5)
    )
    payload = lab.mark()
    granted = lab.subscribe(peer, f"$share/check-{lab.run}/{lab.topics.inputs}")
    came = False
    if granted:
        speaker = lab.client()
        speaker.publish(lab.own(speaker.client_id), payload)
        came = lab.arrived(peer, payload, ANSWER_S if lab.mqtt5 else lab.quiet_s)
        speaker.disconnect()
    peer.disconnect()
    what = "work" if came else "are granted, and bring nothing" if granted else "are refused"
    return note(name, f"$share subscriptions {what}; the bridge does not use them")
