"""Probes of what the broker must not allow: each does, as the client, what a stranger would try.

What is written can do no harm where it gets through: see `lab`. An attack counts as fended off only when a
message sent after it has arrived, by the same way, and it has not.
"""

from collections.abc import Callable, Sequence

from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import LOGIN, WILL
from mqtt_presence.tools.check.findings import Finding, Verdict, failed, note, passed, warned
from mqtt_presence.tools.check.probe_client import ClosedError, Credentials, ProbeClient, RefusedError
from mqtt_presence.tools.check.prober import Prober

_SPEAKS_FOR_OTHERS = "anybody with a password can show anybody as online, idle or gone"
_SPEAKS_FOR_DEVICES = "one client of a user can speak for the others, and end their connections"


def other_user(lab: Prober) -> Finding:
    """May a client speak for another user?"""
    name = "other-user"
    topic = lab.topics.input(lab.victim, lab.nobodys_id(), LOGIN)
    return _judge(name, _write(lab, topic, lab.observer), _SPEAKS_FOR_OTHERS)


def other_client(lab: Prober) -> Finding:
    """May a client speak for another client of its user?"""
    topic = lab.own(lab.nobodys_id(), LOGIN)
    outcome = _write(lab, topic, lab.observer)
    lab.ties_client_ids = not outcome.arrived
    return _judge("other-client", outcome, _SPEAKS_FOR_DEVICES)


def other_will(lab: Prober) -> Finding:
    """May a client leave a will for another user?"""
    topic = lab.topics.input(lab.victim, lab.nobodys_id(), WILL)
    payload = lab.mark()
    try:
        peer = lab.client(will=(topic, payload))
    except (RefusedError, ClosedError):
        return passed("other-will", "refused at CONNECT")
    peer.cut()
    # A will that is allowed, of a connection that ends later, tells that the other is not to be expected.
    client_id, own = lab.new_id(), lab.mark()
    lab.client(client_id, will=(lab.own(client_id, WILL), own)).cut()
    told = lab.heard(own) is not None
    lab.arrived(lab.observer, payload, lab.quiet_s)
    if lab.came(lab.observer, payload):
        return failed("other-will", f"a will on {topic} is published", _SPEAKS_FOR_OTHERS)
    if not told:
        return note("other-will", "cannot tell: not even a will of the client's own comes")
    return passed("other-will", "not published")


def slash_client_id(lab: Prober) -> Finding:
    """May a client whose id has a slash speak for another client?"""
    name = "slash-client-id"
    device = lab.nobodys_id()
    return _as_client_id(lab, name, f"{device}/{LOGIN}", device)


def wildcard_client_id(lab: Prober) -> Finding:
    """May a client whose id is a pattern speak for others?"""
    name = "wildcard-client-id"
    ids = ("+", "#", ".*", f"{lab.nobodys_id()}|.*")  # the last got through RabbitMQ before 4.3
    findings = [_as_client_id(lab, name, client_id, lab.nobodys_id()) for client_id in ids]
    worst = [f for f in findings if f.verdict is Verdict.FAIL] or [
        f for f in findings if f.verdict is not Verdict.PASS
    ]
    return worst[0] if worst else passed(name, "+, #, |.* and .* give no rights")


def _as_client_id(lab: Prober, name: str, client_id: str, device: str) -> Finding:
    try:
        peer = lab.client(client_id)
    except (RefusedError, ClosedError):
        return passed(name, f"client id {client_id} is refused")
    topics = [lab.own(device, LOGIN), lab.topics.input(lab.victim, device, LOGIN)]
    payloads = [lab.mark() for _ in topics]
    for topic, payload in zip(topics, payloads, strict=True):
        if peer.is_over:
            peer = lab.client(client_id)
        lab.answered(peer.publish(topic, payload), peer, lab.quiet_s)
    peer.disconnect()
    # Such an id need not have a topic of its own: another connection puts up the fence.
    told = lab.fence(lab.client())
    own, others = (bool(lab.came(lab.observer, payload)) for payload in payloads)
    if others:
        return failed(name, f"a client with the id {client_id} can write {topics[1]}", _SPEAKS_FOR_OTHERS)
    if own and lab.ties_client_ids is False:
        return note(name, "no matter: here a client needs no such id to speak for another, see other-client")
    if own:
        return failed(name, f"a client with the id {client_id} can write {topics[0]}", _SPEAKS_FOR_DEVICES)
    if not told:
        return note(name, "cannot tell: not even what is allowed arrives")
    return passed(name, f"client id {client_id} gives no rights to others' topics")


def slash_user(lab: Prober) -> Finding:
    """May a user whose name has a slash speak for another?"""
    name = "slash-user"
    if lab.config.client.has_certificate:
        return note(
            name, "cannot tell: the certificate may say who it is. Issue none for a name with / + or #"
        )
    url = lab.config.client.url
    user, device = f"{lab.config.user}/{lab.nobodys_id()}", LOGIN
    access = Credentials(
        BrokerUrl(url.scheme, url.host, url.port, url.path, user, url.password), lab.config.client.tls
    )
    try:
        peer = lab.client(device, access=access)
    except (RefusedError, ClosedError):
        return passed(name, "there is no such user, and none is let in without one")
    payload = lab.mark()
    topic = f"{lab.topics.input(user, LOGIN, '')}".rstrip("/")
    sent = peer.publish(topic, payload)
    lab.answered(sent, peer, lab.quiet_s)
    peer.disconnect()
    told = lab.fence(lab.client())
    if lab.came(lab.observer, payload):
        return failed(name, f"a user called {user} is let in, and can write {topic}", _SPEAKS_FOR_OTHERS)
    if not told:
        return note(name, "cannot tell: not even what is allowed arrives")
    return warned(
        name,
        f"a user called {user} is let in; it has no rights to others' topics",
        "anybody gets in under any name that has a password like this one, or none",
    )


def write_status(lab: Prober) -> Finding:
    """May a client write somebody's status?"""
    return _write_as_bridge(
        lab, "write-status", lab.topics.status(lab.stand_in), "anybody can show anybody as online or gone"
    )


def write_bridge(lab: Prober) -> Finding:
    """May a client speak for the bridge?"""
    return _write_as_bridge(
        lab,
        "write-bridge",
        lab.bridge_topic(),
        "anybody can say that the bridge is gone, and make all clients log in again",
    )


def write_events(lab: Prober) -> Finding:
    """May a client write events?"""
    return _write_as_bridge(
        lab,
        "write-events",
        lab.topics.event(lab.stand_in, "check"),
        "operators are told what has not happened",
    )


def write_replies(lab: Prober) -> Finding:
    """May a client answer in the bridge's place?"""
    ears = lab.client()
    topic = lab.topics.reply(lab.config.user, ears.client_id)
    hears = lab.subscribe(ears, topic)
    outcome = _write(lab, topic, ears if hears else None)
    ears.disconnect()
    return _judge("write-replies", outcome, "anybody can set the clocks of other clients wrong")


def _write_as_bridge(lab: Prober, name: str, topic: str, consequence: str) -> Finding:
    """Write what only the bridge may, where somebody listens who would hear it if it were the bridge."""
    witness = lab.witness(topic)
    try:
        outcome = _write(lab, topic, witness)
    finally:
        if witness is not None:
            witness.disconnect()
    return _judge(name, outcome, consequence)


class _Outcome:
    """What became of an attack by publishing.

    Args:
        arrived: where it should not.
        denied: the broker has said no.
        told: something sent after it has arrived.
        topic: that it was sent to.

    """

    def __init__(self, topic: str, *, arrived: bool, denied: str, told: bool) -> None:
        self.topic = topic
        self.arrived = arrived
        self.denied = denied
        self.told = told


def _write(lab: Prober, topic: str, witness: ProbeClient | None) -> _Outcome:
    peer = lab.client()
    payload = lab.mark()
    sent = peer.publish(topic, payload)
    lab.answered(sent, peer, lab.quiet_s)
    told = lab.fence(peer)
    if witness is not None:
        lab.arrived(witness, payload, lab.quiet_s / 2)
    arrived = witness is not None and bool(lab.came(witness, payload))
    denied = (
        "it closes the connection" if peer.is_over else f"reason {sent.reason:#x}" if sent.is_denied else ""
    )
    peer.disconnect()
    return _Outcome(topic, arrived=arrived, denied=denied, told=told and witness is not None)


def _judge(name: str, outcome: _Outcome, consequence: str) -> Finding:
    if outcome.arrived:
        return failed(name, f"a client can write {outcome.topic}", consequence)
    if outcome.denied:
        return passed(name, f"not allowed ({outcome.denied})")
    if outcome.told:
        return passed(name, "not delivered")
    return note(
        name, f"cannot tell: nobody of the users given may read {outcome.topic}", remedy="look at the rights"
    )


def read_presence(lab: Prober) -> Finding:
    """May a client read what others say?"""
    everything = lab.topics.inputs.partition("+")[0] + "#"
    filters = (everything, lab.topics.inputs, "#", f"{lab.topics.prefix}+/+/+/+")

    def speak(payload: bytes) -> None:
        speaker = lab.client()
        speaker.publish(lab.own(speaker.client_id, LOGIN), payload)
        lab.heard(payload)
        speaker.disconnect()

    return _read(
        lab,
        "read-presence",
        filters,
        speak,
        consequence="anybody sees everybody's client ids and connection ids, and can push them off",
    )


def read_events(lab: Prober) -> Finding:
    """May a client read events?"""
    everything = lab.topics.events.partition("+")[0] + "#"

    def speak(payload: bytes) -> None:
        writer = lab.bridge()
        lab.delivered([writer.publish(lab.topics.event(lab.stand_in, "check"), payload)])
        writer.disconnect()

    return _read(
        lab,
        "read-events",
        (everything, lab.topics.events),
        speak,
        consequence="addresses and client ids are told to everybody, unless this user is an operator",
    )


def read_replies(lab: Prober) -> Finding:
    """May a client read the replies to another user?"""
    topic = lab.topics.reply(lab.victim, lab.nobodys_id())
    everything = lab.topics.reply("+", "+", "+")

    def speak(payload: bytes) -> None:
        writer = lab.bridge()
        lab.delivered([writer.publish(topic, payload)])
        writer.disconnect()

    return _read(
        lab,
        "read-replies",
        (everything, topic),
        speak,
        verdict=warned,
        consequence="anybody sees whose clock is set, and their client ids",
    )


def _read(
    lab: Prober,
    name: str,
    filters: tuple[str, ...],
    speak: Callable[[bytes], None],
    *,
    consequence: str,
    verdict: Callable[[str, str, str], Finding] = failed,
) -> Finding:
    listeners = {topic_filter: lab.client() for topic_filter in filters}
    granted = [f for f, listener in listeners.items() if lab.subscribe(listener, f)]
    payload = lab.mark()
    speak(payload)
    lab.until(lambda: all(lab.came(listeners[f], payload) for f in filters), lab.quiet_s)
    heard = [f for f, listener in listeners.items() if lab.came(listener, payload)]
    for listener in listeners.values():
        listener.disconnect()
    if heard:
        return verdict(name, f"a client can read {', '.join(heard)}", consequence)
    return passed(name, "granted, and nothing is delivered" if granted else "refused")


def client_id_theft(lab: Prober) -> Finding:
    """May another user connect with the bridge's client id, if it were known?"""
    name = "client-id-theft"
    client_id = lab.new_id("bridge", bridge=True)
    bridge = lab.bridge(client_id, clean=False)
    lab.subscribe(bridge, lab.topics.inputs)
    try:
        thief = lab.client(client_id, clean=False)
    except (RefusedError, ClosedError):
        lab.rest(lab.quiet_s)
        kicked = bridge.is_over
        bridge.disconnect()
        if kicked:
            return warned(name, "refused, but the other connection ends all the same", _KICKED)
        return passed(name, "refused: the client id belongs to another user")
    lab.until(lambda: bridge.is_over, lab.quiet_s)
    payload = lab.mark()
    speaker = lab.client()
    speaker.publish(lab.own(speaker.client_id), payload)
    lab.heard(payload)
    lab.arrived(thief, payload, lab.quiet_s)
    stolen, kicked = bool(lab.came(thief, payload)), bridge.is_over
    for peer in (thief, speaker, bridge):
        peer.disconnect()
    if stolen:
        return failed(
            name,
            "the other connection ends, and its messages come to the thief",
            "anybody who knows the bridge's client id reads what clients say, and the bridge does not",
        )
    if kicked:
        return warned(name, "the other connection ends; its messages are not to be had", _KICKED)
    return passed(name, "each user has client ids of its own")


_KICKED = (
    "whoever knows a client id can throw that client out, and its will is published; the bridge's own id is "
    "long, random and told to nobody"
)


def passwords(lab: Prober) -> Finding:
    """Does it take no password, or a wrong one?"""
    if lab.config.client.has_certificate:
        return note("passwords", "not tried: the client has a certificate, which may count instead")
    url, tls = lab.config.client.url, lab.config.client.tls
    wrong = f"wrong-{lab.run}"
    let_in = []
    for what, user, password in (
        ("a wrong password", url.username, wrong),
        ("no user name", None, None),
    ):
        access = Credentials(BrokerUrl(url.scheme, url.host, url.port, url.path, user, password), tls)
        try:
            lab.client(lab.new_id(), access=access).disconnect()
        except (RefusedError, ClosedError):
            continue
        let_in.append(what)
    lab.client().disconnect()  # with the right password it lets in: else it may have been about to go away
    return judge_passwords(let_in, is_embedded=lab.broker.kind == "embedded")


def judge_passwords(let_in: Sequence[str], *, is_embedded: bool) -> Finding:
    """Judge what was good enough to be let in.

    Args:
        let_in: what was, in words.
        is_embedded: the broker is the embedded one, which is open on loopback only, or when told twice.

    """
    name = "passwords"
    if not let_in:
        return passed(name, "a wrong password, and no user name, are refused")
    verdict = warned if is_embedded else failed
    return verdict(name, f"{' and '.join(let_in)} will do", "anybody can be anybody")
