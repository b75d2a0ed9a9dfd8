"""Probes of forbidden requests: each makes, as the client, an attack that the broker must refuse.

A successful attack does no harm, see `prober`. An attack has failed only if the broker refuses it, or if a
later message on the same path arrives and the attack does not.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import LOGIN, WILL
from mqtt_presence.tools.check.findings import Finding, Verdict, failed, note, passed, warned
from mqtt_presence.tools.check.known_brokers import known_broker
from mqtt_presence.tools.check.probe_client import ClosedError, Credentials, ProbeClient, RefusedError
from mqtt_presence.tools.check.prober import Prober

_ANY_USER = "every user can show every other user as online, idle or offline"
_ANY_CLIENT = "one client of a user can publish for the others, and end their connections"


def other_user(prober: Prober) -> Finding:
    """May a client publish for another user?"""
    name = "other-user"
    topic = prober.topics.input(prober.names.other_user, prober.names.unused_client_id(), LOGIN)
    return _judge(name, _write(prober, topic, prober.observer), _ANY_USER)


def other_client(prober: Prober) -> Finding:
    """May a client publish for another client of its user?"""
    topic = prober.names.own_topic(prober.names.unused_client_id(), LOGIN)
    outcome = _write(prober, topic, prober.observer)
    prober.ties_client_ids = not outcome.arrived
    return _judge("other-client", outcome, _ANY_CLIENT)


def other_will(prober: Prober) -> Finding:
    """May a client leave a will for another user?"""
    topic = prober.topics.input(prober.names.other_user, prober.names.unused_client_id(), WILL)
    payload = prober.names.unique_payload()
    try:
        client = prober.connections.client(will=(topic, payload))
    except (RefusedError, ClosedError):
        return passed("other-will", "refused at CONNECT")
    client.cut()
    # The arrival of a later, allowed will shows that the forbidden one was not published.
    client_id, own = prober.names.client_id(), prober.names.unique_payload()
    prober.connections.client(client_id, will=(prober.names.own_topic(client_id, WILL), own)).cut()
    has_own = prober.wait_for_observer(own) is not None
    prober.wait_for_payload(prober.observer, payload, prober.quiet_s)
    if prober.observer.inbox.with_payload(payload):
        return failed("other-will", f"a will on {topic} is published", _ANY_USER)
    if not has_own:
        return note("other-will", "inconclusive: not even the client's own will is published")
    return passed("other-will", "not published")


def slash_client_id(prober: Prober) -> Finding:
    """May a client whose id has a slash publish for another client?"""
    name = "slash-client-id"
    device = prober.names.unused_client_id()
    return _as_client_id(prober, name, f"{device}/{LOGIN}", device)


def wildcard_client_id(prober: Prober) -> Finding:
    """May a client whose id is a pattern publish for others?"""
    name = "wildcard-client-id"
    # RabbitMQ before 4.3 accepts the last one.
    ids = ("+", "#", ".*", f"{prober.names.unused_client_id()}|.*")
    findings = [_as_client_id(prober, name, client_id, prober.names.unused_client_id()) for client_id in ids]
    worst = [f for f in findings if f.verdict is Verdict.FAIL] or [
        f for f in findings if f.verdict is not Verdict.PASS
    ]
    return worst[0] if worst else passed(name, "+, #, |.* and .* give no rights")


def _as_client_id(prober: Prober, name: str, client_id: str, device: str) -> Finding:
    try:
        client = prober.connections.client(client_id)
    except (RefusedError, ClosedError):
        return passed(name, f"client id {client_id} is refused")
    topics = [
        prober.names.own_topic(device, LOGIN),
        prober.topics.input(prober.names.other_user, device, LOGIN),
    ]
    payloads = [prober.names.unique_payload() for _ in topics]
    for topic, payload in zip(topics, payloads, strict=True):
        if client.is_over:
            client = prober.connections.client(client_id)
        prober.wait_for_answer(client.publish(topic, payload), client, prober.quiet_s)
    client.disconnect()
    # Such an id may have no topic of its own: another connection publishes the allowed message.
    is_synced = prober.sync(prober.connections.client())
    own, others = (bool(prober.observer.inbox.with_payload(payload)) for payload in payloads)
    if others:
        return failed(name, f"a client with the id {client_id} can write {topics[1]}", _ANY_USER)
    if own and prober.ties_client_ids is False:
        return note(
            name, "unimportant: here a client needs no such id to publish for another, see other-client"
        )
    if own:
        return failed(name, f"a client with the id {client_id} can write {topics[0]}", _ANY_CLIENT)
    if not is_synced:
        return note(name, "inconclusive: not even an allowed message arrives")
    return passed(name, f"client id {client_id} gives no rights to others' topics")


def slash_user(prober: Prober) -> Finding:
    """May a user whose name has a slash publish for another?"""
    name = "slash-user"
    if prober.config.client.has_certificate:
        return note(
            name, "inconclusive: the certificate may name the user. Issue none for a name with / + or #"
        )
    url = prober.config.client.url
    user, device = f"{prober.config.user}/{prober.names.unused_client_id()}", LOGIN
    credentials = Credentials(
        BrokerUrl(url.scheme, url.host, url.port, url.path, user, url.password), prober.config.client.tls
    )
    try:
        client = prober.connections.client(device, credentials=credentials)
    except (RefusedError, ClosedError):
        return passed(name, "there is no such user, and the broker refuses unknown ones")
    payload = prober.names.unique_payload()
    topic = f"{prober.topics.input(user, LOGIN, '')}".rstrip("/")
    sent = client.publish(topic, payload)
    prober.wait_for_answer(sent, client, prober.quiet_s)
    client.disconnect()
    is_synced = prober.sync(prober.connections.client())
    if prober.observer.inbox.with_payload(payload):
        return failed(name, f"the broker accepts a user called {user}, who can write {topic}", _ANY_USER)
    if not is_synced:
        return note(name, "inconclusive: not even an allowed message arrives")
    return warned(
        name,
        f"the broker accepts a user called {user}, without rights to others' topics",
        "clients can connect under any name that has the same password, or none",
    )


def write_status(prober: Prober) -> Finding:
    """May a client write a user's status?"""
    return _write_as_bridge(
        prober,
        "write-status",
        prober.topics.status(prober.names.invented_user),
        "every client can show every user as online or offline",
    )


def write_bridge(prober: Prober) -> Finding:
    """May a client write the bridge's state?"""
    return _write_as_bridge(
        prober,
        "write-bridge",
        prober.names.bridge_topic,
        "every client can show the bridge as offline, and make all clients log in again",
    )


def write_events(prober: Prober) -> Finding:
    """May a client write events?"""
    return _write_as_bridge(
        prober,
        "write-events",
        prober.topics.event(prober.names.invented_user, "check"),
        "operators receive false events",
    )


def write_replies(prober: Prober) -> Finding:
    """May a client write replies to clients?"""
    listener = prober.connections.client()
    topic = prober.topics.reply(prober.config.user, listener.client_id)
    may_read = prober.subscribe(listener, topic)
    outcome = _write(prober, topic, listener if may_read else None)
    listener.disconnect()
    return _judge("write-replies", outcome, "every client can set the clocks of other clients wrong")


def _write_as_bridge(prober: Prober, name: str, topic: str, consequence: str) -> Finding:
    """Publish to a topic of the bridge, with a reader that can receive messages there."""
    reader = prober.find_reader(topic)
    try:
        outcome = _write(prober, topic, reader)
    finally:
        if reader is not None:
            reader.disconnect()
    return _judge(name, outcome, consequence)


class _Outcome(NamedTuple):
    """The outcome of an attack by publishing."""

    topic: str
    arrived: bool
    """Whether a reader received the message."""
    denied: str
    """The broker's refusal; empty if there was none."""
    is_conclusive: bool
    """Whether a reader would have received the message."""


def _write(prober: Prober, topic: str, reader: ProbeClient | None) -> _Outcome:
    client = prober.connections.client()
    payload = prober.names.unique_payload()
    sent = client.publish(topic, payload)
    prober.wait_for_answer(sent, client, prober.quiet_s)
    is_synced = prober.sync(client)
    if reader is not None:
        prober.wait_for_payload(reader, payload, prober.quiet_s / 2)
    arrived = reader is not None and bool(reader.inbox.with_payload(payload))
    denied = (
        "it closes the connection" if client.is_over else f"reason {sent.reason:#x}" if sent.is_denied else ""
    )
    client.disconnect()
    return _Outcome(topic, arrived=arrived, denied=denied, is_conclusive=is_synced and reader is not None)


def _judge(name: str, outcome: _Outcome, consequence: str) -> Finding:
    if outcome.arrived:
        return failed(name, f"a client can write {outcome.topic}", consequence)
    if outcome.denied:
        return passed(name, f"not allowed ({outcome.denied})")
    if outcome.is_conclusive:
        return passed(name, "not delivered")
    return note(
        name, f"inconclusive: none of the users given may read {outcome.topic}", remedy="look at the rights"
    )


def read_presence(prober: Prober) -> Finding:
    """May a client read other clients' messages?"""
    everything = prober.topics.inputs.partition("+")[0] + "#"
    filters = (everything, prober.topics.inputs, "#", f"{prober.topics.prefix}+/+/+/+")

    def publish(payload: bytes) -> None:
        sender = prober.connections.client()
        sender.publish(prober.names.own_topic(sender.client_id, LOGIN), payload)
        prober.wait_for_observer(payload)
        sender.disconnect()

    return _read(
        prober,
        "read-presence",
        filters,
        publish,
        consequence="every client sees all client ids and connection ids, and can take them over",
    )


def read_events(prober: Prober) -> Finding:
    """May a client read events?"""
    everything = prober.topics.events.partition("+")[0] + "#"

    def publish(payload: bytes) -> None:
        writer = prober.connections.bridge()
        prober.wait_for_answers(
            [writer.publish(prober.topics.event(prober.names.invented_user, "check"), payload)]
        )
        writer.disconnect()

    return _read(
        prober,
        "read-events",
        (everything, prober.topics.events),
        publish,
        consequence="every client sees addresses and client ids, unless this user is an operator",
    )


def read_replies(prober: Prober) -> Finding:
    """May a client read the replies to another user?"""
    topic = prober.topics.reply(prober.names.other_user, prober.names.unused_client_id())
    everything = prober.topics.reply("+", "+", "+")

    def publish(payload: bytes) -> None:
        writer = prober.connections.bridge()
        prober.wait_for_answers([writer.publish(topic, payload)])
        writer.disconnect()

    return _read(
        prober,
        "read-replies",
        (everything, topic),
        publish,
        verdict=warned,
        consequence="every client sees which clients set their clocks, and their client ids",
    )


def _read(
    prober: Prober,
    name: str,
    filters: tuple[str, ...],
    publish: Callable[[bytes], None],
    *,
    consequence: str,
    verdict: Callable[[str, str, str], Finding] = failed,
) -> Finding:
    listeners = {topic_filter: prober.connections.client() for topic_filter in filters}
    granted = [f for f, listener in listeners.items() if prober.subscribe(listener, f)]
    payload = prober.names.unique_payload()
    publish(payload)
    prober.loop.until(lambda: all(listeners[f].inbox.with_payload(payload) for f in filters), prober.quiet_s)
    readable = [f for f, listener in listeners.items() if listener.inbox.with_payload(payload)]
    for listener in listeners.values():
        listener.disconnect()
    if readable:
        return verdict(name, f"a client can read {', '.join(readable)}", consequence)
    return passed(name, "granted, but without deliveries" if granted else "refused")


def client_id_theft(prober: Prober) -> Finding:
    """May another user connect with the bridge's client id?"""
    name = "client-id-theft"
    client_id = prober.names.client_id("bridge", bridge=True)
    bridge = prober.connections.bridge(client_id, clean=False)
    prober.subscribe(bridge, prober.topics.inputs)
    try:
        thief = prober.connections.client(client_id, clean=False)
    except (RefusedError, ClosedError):
        prober.loop.rest(prober.quiet_s)
        is_disconnected = bridge.is_over
        bridge.disconnect()
        if is_disconnected:
            return warned(name, "refused, but the other connection ends nevertheless", _DISCONNECTED)
        return passed(name, "refused: the client id belongs to another user")
    prober.loop.until(lambda: bridge.is_over, prober.quiet_s)
    payload = prober.names.unique_payload()
    sender = prober.connections.client()
    sender.publish(prober.names.own_topic(sender.client_id), payload)
    prober.wait_for_observer(payload)
    prober.wait_for_payload(thief, payload, prober.quiet_s)
    is_stolen, is_disconnected = bool(thief.inbox.with_payload(payload)), bridge.is_over
    for client in (thief, sender, bridge):
        client.disconnect()
    if is_stolen:
        return failed(
            name,
            "the other connection ends, and the other user receives its messages",
            "a user who knows the bridge's client id receives the clients' messages instead of the bridge",
        )
    if is_disconnected:
        return warned(name, "the other connection ends; its messages stay with its user", _DISCONNECTED)
    return passed(name, "each user has client ids of its own")


_DISCONNECTED = (
    "a user who knows a client id can disconnect that client, and its will is published; the bridge's own id "
    "is long, random and secret"
)


def passwords(prober: Prober) -> Finding:
    """Does the broker accept no password, or a wrong one?"""
    if prober.config.client.has_certificate:
        return note("passwords", "not tried: the client has a certificate, which may replace the password")
    url, tls = prober.config.client.url, prober.config.client.tls
    wrong = f"wrong-{prober.names.run}"
    accepted = []
    for label, user, password in (
        ("a wrong password", url.username, wrong),
        ("no user name", None, None),
    ):
        credentials = Credentials(BrokerUrl(url.scheme, url.host, url.port, url.path, user, password), tls)
        try:
            prober.connections.client(prober.names.client_id(), credentials=credentials).disconnect()
        except (RefusedError, ClosedError):
            continue
        accepted.append(label)
    prober.connections.client().disconnect()  # a broker that is going away refuses the right password too
    return judge_passwords(accepted, may_be_open=known_broker(prober.broker.kind).may_be_open)


def judge_passwords(accepted: Sequence[str], *, may_be_open: bool) -> Finding:
    """Judge the credentials that the broker accepted.

    Args:
        accepted: wrong credentials, in words.
        may_be_open: whether the broker is open only on loopback, or by an explicit setting.

    """
    name = "passwords"
    if not accepted:
        return passed(name, "a wrong password, and a missing user name, are refused")
    verdict = warned if may_be_open else failed
    return verdict(
        name, f"the broker accepts {' and '.join(accepted)}", "every client can pose as every user"
    )
