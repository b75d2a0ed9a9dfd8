"""Probes of delivery: rights of bridge and client, names, retained messages."""

from collections.abc import Sequence

from mqtt_presence.protocol.outgoing import encode_status
from mqtt_presence.protocol.topics import VERBS
from mqtt_presence.rules.model import Status
from mqtt_presence.tools.check.findings import Finding, failed, note, passed, warned
from mqtt_presence.tools.check.probe_client import ClosedError, RefusedError
from mqtt_presence.tools.check.prober import Prober

_LIST_S = 10.0


def own_topics(prober: Prober) -> Finding:
    """Do a client's messages reach the bridge, at QoS 1, verb by verb?"""
    if not prober.may_read_inputs:
        return failed(
            "own-topics",
            f"the bridge's user may not subscribe to {prober.topics.inputs}",
            "the bridge sees no clients",
            f"let only the bridge's user read {prober.topics.inputs}",
        )
    client = prober.connections.client()
    payloads = {verb: prober.names.unique_payload() for verb in sorted(VERBS)}
    sent = [
        client.publish(prober.names.own_topic(client.client_id, verb), payload)
        for verb, payload in payloads.items()
    ]
    prober.wait_for_all([(prober.observer, payload) for payload in payloads.values()])
    acknowledged = prober.wait_for_answers(sent)
    client.disconnect()
    qos = {
        verb: [m.qos for m in prober.observer.inbox.with_payload(payload)]
        for verb, payload in payloads.items()
    }
    prober.receives_inputs = any(qos.values())
    return judge_own_topics(qos, acknowledged=acknowledged)


def judge_own_topics(qos: dict[str, list[int]], *, acknowledged: bool) -> Finding:
    """Judge the arrival of a client's messages on its own topics.

    Args:
        qos: the QoS of each arrival, by verb.
        acknowledged: whether the broker has acknowledged all messages.

    """
    name = "own-topics"
    missing = [verb for verb, arrivals in qos.items() if not arrivals]
    if missing:
        how = "none of them arrives" if len(missing) == len(qos) else f"{', '.join(missing)} does not arrive"
        return failed(name, how, "the bridge misses clients, or their logins, ends or signs of life")
    if any(0 in arrivals for arrivals in qos.values()):
        return failed(
            name,
            "published at QoS 1, they arrive at QoS 0",
            "messages that the bridge has not committed are lost",
        )
    if not acknowledged:
        return failed(name, "they arrive, and are not acknowledged", "clients send again and again")
    return passed(name, f"{', '.join(qos)} arrive at QoS 1")


def names(prober: Prober) -> Finding:
    """Do names with a dot, a space and an accent arrive as they are?"""
    name = "names"
    client_id = f"{prober.names.client_id('names')} é.x"
    payload = prober.names.unique_payload()
    topic = prober.names.own_topic(client_id)
    try:
        client = prober.connections.client(client_id)
    except (RefusedError, ClosedError) as error:
        return warned(name, f"client id {client_id!r}: {error}", "clients with such names cannot connect")
    client.publish(topic, payload)
    received = prober.wait_for_observer(payload)
    client.disconnect()
    if received is None:
        return warned(
            name,
            f"{topic} does not arrive, or on another topic",
            "the bridge does not see clients with such names",
        )
    if received.topic != topic:
        return warned(name, f"{topic} arrives as {received.topic}", "such clients appear under another name")
    return passed(name, "a dot, a space and an accent arrive as they are")


def bridge_rights(prober: Prober) -> Finding:
    """May the bridge write status, bridge, events and replies?"""
    name = "bridge-rights"
    client = prober.connections.bridge()
    topics = prober.topics
    asked = [
        topics.status(prober.names.invented_user),
        prober.names.bridge_topic,
        topics.event(prober.names.invented_user, "check"),
        topics.reply(prober.config.user, prober.names.client_id()),
    ]
    denied = []
    for topic in asked:
        if client.is_over:
            client = prober.connections.bridge()
        sent = client.publish(topic, b"" if topic == asked[0] else prober.names.unique_payload())
        prober.wait_for_answer(sent, client)
        if not sent.is_acknowledged:
            denied.append(topic)
    client.disconnect()
    if denied:
        return failed(name, f"refused: {', '.join(denied)}", "subscribers miss the messages of the bridge")
    if not prober.connections.mqtt5:  # 3.1.1 acknowledges denied messages too
        unreadable = [topic for topic in asked[:3] if not _has_reader(prober, topic)]
        if unreadable:
            return note(name, f"inconclusive: none of the users given may read {', '.join(unreadable)}")
    return passed(name, "status, bridge, events and reply may be written")


def _has_reader(prober: Prober, topic: str) -> bool:
    reader = prober.find_reader(topic)
    if reader is not None:
        reader.disconnect()
    return reader is not None


def client_rights(prober: Prober) -> Finding:
    """Does a client receive status, bridge and its replies?"""
    name = "client-rights"
    topics = prober.topics
    client_id = prober.names.client_id("listener")
    status, reply = topics.status(prober.names.invented_user), topics.reply(prober.config.user, client_id)
    own = prober.connections.client(client_id)
    asked = [
        (own, reply, reply, prober.names.unique_payload()),
        (prober.connections.client(), topics.statuses, status, encoded_status(prober, 1)),
        (
            prober.connections.client(),
            prober.names.bridge_topic,
            prober.names.bridge_topic,
            prober.names.unique_payload(),
        ),
    ]
    for listener, topic_filter, *_ in asked:  # one connection each: a refusal may end it
        prober.subscribe(listener, topic_filter)
    writer = prober.connections.bridge()
    for _, _, topic, payload in asked:
        writer.publish(topic, payload)
    prober.wait_for_all([(listener, payload) for listener, _, _, payload in asked])
    missing = [
        topic_filter
        for listener, topic_filter, _, payload in asked
        if not listener.inbox.with_payload(payload)
    ]
    for listener, *_ in asked:
        listener.disconnect()
    writer.disconnect()
    if missing:
        return failed(
            name,
            f"not delivered to the client: {', '.join(missing)}",
            "clients miss statuses, requests to log in again, or the time",
        )
    return passed(name, "status, bridge and its own reply are delivered")


def retained(prober: Prober) -> Finding:
    """Does a new subscriber get the statuses of all users?"""
    writer = prober.connections.bridge()
    topic = prober.topics.status(prober.names.invented_user)
    prober.wait_for_answers([prober.cleanup.retain(writer, topic, encoded_status(prober, 1))])
    writer.publish(topic, encoded_status(prober, 2), retain=True)
    prober.wait_for_answers([prober.cleanup.retain(writer, topic, encoded_status(prober, 3))])
    newest = encoded_status(prober, 3)
    deep = prober.topics.statuses.removesuffix("+") + "#"
    got = _replayed(prober, (topic, prober.topics.statuses, deep), topic, newest)
    prober.wait_for_answers([writer.publish(topic, b"", retain=True)])
    remains = _replayed(prober, (topic,), topic, newest, timeout_s=prober.quiet_s)[topic]
    writer.disconnect()
    return judge_retained(got, exact=topic, deep=deep, remains=remains)


def judge_retained(got: dict[str, bool], *, exact: str, deep: str, remains: bool) -> Finding:
    """Judge the replay of a retained status.

    Args:
        got: by topic filter, whether the newest status arrived.
        exact: the filter without a wildcard.
        deep: the filter that ends in ``#``, which no client needs.
        remains: whether the status survived an empty payload.

    """
    name = "retained"
    if not got[exact]:
        return failed(
            name, "not kept, not the newest, or not delivered", "new subscribers receive only changes"
        )
    if remains:
        return failed(name, "an empty message does not clear it", "forgotten users stay visible")
    missing = [f for f, has_newest in got.items() if not has_newest]
    if missing == [deep]:
        return warned(name, f"replayed, but not for {deep}", f"subscribe to {deep.removesuffix('#')}+")
    if missing:
        return failed(
            name,
            f"replayed for the exact topic, not for {', '.join(missing)}",
            "subscribers to all users see only users whose status changes later",
        )
    return passed(name, f"the newest is replayed for {', '.join(got)}, and cleared by an empty one")


def _replayed(
    prober: Prober, filters: Sequence[str], topic: str, payload: bytes, timeout_s: float = _LIST_S
) -> dict[str, bool]:
    """Subscribe to each filter on its own connection; return by filter whether the message arrived."""
    clients = {topic_filter: prober.connections.client() for topic_filter in filters}
    granted = {f: client for f, client in clients.items() if prober.subscribe(client, f)}
    prober.loop.until(lambda: all(p.inbox.on_topic(topic) or p.is_over for p in granted.values()), timeout_s)
    for client in clients.values():
        client.disconnect()
    return {
        f: any(m.payload == payload and m.retain for m in client.inbox.on_topic(topic))
        for f, client in clients.items()
    }


def encoded_status(prober: Prober, version: int) -> bytes:
    """Return the status of the invented user, offline and without a login."""
    return encode_status(prober.names.invented_user, Status(), version=version, last_seen=None)
