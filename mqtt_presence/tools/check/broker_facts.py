"""Which broker it is, and what can be told of it without trying."""

import re
from collections.abc import Collection
from typing import NamedTuple

from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.return_codes import UNSUPPORTED_VERSION
from mqtt_presence.tools.check.findings import Broker, Finding, note, passed, warned
from mqtt_presence.tools.check.probe_client import ConnectOptions, ProbeClient, RefusedError
from mqtt_presence.tools.check.prober import Prober

VERSION_TOPIC = "$SYS/broker/version"
DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
UPTIME_TOPIC = "$SYS/broker/uptime"
EMQX_TOPIC = "$SYS/brokers/+/version"
LOG_TOPIC = "$SYS/broker/log/N"
_HIVEMQ_ID = re.compile(r"hmq_[0-9A-Za-z]{5}_\d+_[0-9a-f]{32}")
_AUTO_ID = re.compile(r"auto-[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}")


class Hints(NamedTuple):
    """What a broker shows of itself."""

    sys: dict[str, str]
    """Retained payloads by the topic filter asked for."""
    facts: dict[str, object]
    """The properties of its CONNACK of MQTT 5, to a client without an id."""
    refuses_mqtt5_in_mqtt5: bool
    """It says in MQTT 5 that it does not speak it."""
    grants: int
    """The QoS it grants to who subscribes at QoS 2; -1: it was not asked, or did not answer."""
    refuses_slash: bool
    """It refuses client ids with a slash."""
    refuses_blank: bool
    """It refuses the bridge a subscription to the status of a user whose name has a blank."""


def recognise(hints: Hints) -> Broker:
    """Tell which broker it is."""
    version = hints.sys.get(VERSION_TOPIC, "")
    if version.startswith("mosquitto"):
        return Broker("mosquitto", version.rpartition(" ")[2], f"by {VERSION_TOPIC}")
    if EMQX_TOPIC in hints.sys:
        return Broker("emqx", hints.sys[EMQX_TOPIC], f"by {EMQX_TOPIC}")
    if DROPPED_TOPIC in hints.sys:
        return Broker("mosquitto", "", f"by {DROPPED_TOPIC}")
    made_up = str(hints.facts.get("AssignedClientIdentifier", ""))
    if _HIVEMQ_ID.fullmatch(made_up):
        return Broker("hivemq", "", "by the client ids it makes up")
    if _AUTO_ID.fullmatch(made_up):
        return Broker("mosquitto", "", "by the client ids it makes up")
    if hints.refuses_mqtt5_in_mqtt5 and hints.grants == 1 and hints.refuses_slash:
        return Broker("embedded", "", "by how it refuses MQTT 5, QoS 2 and ids with a slash")
    if hints.refuses_mqtt5_in_mqtt5 and hints.refuses_blank and not hints.refuses_slash:
        return Broker("nats", "", "by how it refuses MQTT 5, and topics with a blank")
    if hints.facts.get("MaximumQoS") == 1 and hints.facts.get("SharedSubscriptionAvailable") == 0:
        return Broker("rabbitmq", "", "by QoS 1 at most and no shared subscriptions")
    if hints.facts.get("TopicAliasMaximum") == 100 and hints.facts.get("SharedSubscriptionAvailable") == 0:
        return Broker("ejabberd", "", "by 100 topic aliases and no shared subscriptions")
    return Broker("other")


def look(lab: Prober) -> Hints:
    """Ask the broker for what it shows of itself; a topic that is refused may end a connection."""
    asked: dict[str, ProbeClient] = {}
    for topic in (VERSION_TOPIC, DROPPED_TOPIC, EMQX_TOPIC):
        asked[topic] = lab.bridge()
        asked[topic].subscribe(topic)
    facts: dict[str, object] = dict(lab.facts)
    if lab.mqtt5:
        try:
            peer = lab.connect(lab.config.bridge, "", ConnectOptions(mqtt5=True))
        except BrokerError:
            pass  # it wants an id
        else:
            facts |= peer.facts
            peer.disconnect()
    lab.until(lambda: asked[VERSION_TOPIC].received and asked[DROPPED_TOPIC].received, lab.quiet_s)
    sys = {
        topic: peer.received[0].payload.decode(errors="replace")
        for topic, peer in asked.items()
        if peer.received
    }
    for peer in asked.values():
        peer.disconnect()
    refusal = lab.mqtt5_refusal
    in_mqtt5 = refusal is not None and refusal.in_mqtt5 and refusal.code == UNSUPPORTED_VERSION
    return Hints(sys, facts, in_mqtt5, *(_limits(lab) if in_mqtt5 else (-1, False, False)))


def _limits(lab: Prober) -> tuple[int, bool, bool]:
    peer, bridge = lab.client(), lab.bridge()
    asked = peer.subscribe(lab.topics.statuses, 2)
    blank = bridge.subscribe(lab.topics.status(f"{lab.stand_in} x"))
    lab.until(
        lambda: (asked.is_answered or peer.is_over) and (blank.is_answered or bridge.is_over), lab.patient_s
    )
    peer.disconnect()
    bridge.disconnect()
    granted = asked.codes[0] if asked.codes else -1
    refuses_slash = False
    try:
        lab.client(f"{lab.new_id()}/x").disconnect()
    except RefusedError:
        refuses_slash = True
    except BrokerError:
        pass
    return granted, refuses_slash, blank.is_answered and not blank.is_granted


def drops(lab: Prober) -> Finding:
    """Does the bridge learn when the broker drops messages, or is restarted?"""
    name = "drops"
    if lab.broker.kind == "embedded":
        return passed(name, "the embedded broker acknowledges nothing that it drops")
    peer = lab.bridge()
    for topic in (DROPPED_TOPIC, UPTIME_TOPIC):
        peer.subscribe(topic)
    lab.until(lambda: lab.on_topic(peer, UPTIME_TOPIC), lab.patient_s)
    heard = {message.topic for message in peer.received}
    peer.disconnect()
    return judge_drops(heard)


def judge_drops(heard: Collection[str]) -> Finding:
    """Judge what the broker tells of itself.

    mosquitto retains the number of dropped messages for a minute after each change, and its uptime always.
    So the uptime decides: the same broker gets the same verdict, whatever it has dropped lately.

    Args:
        heard: the topics of which something came.

    """
    name = "drops"
    if UPTIME_TOPIC not in heard:
        return note(
            name,
            f"{UPTIME_TOPIC} is silent: mosquitto publishes it, to users who may read it",
            "if the broker drops messages that it has acknowledged, or is killed, the bridge may not notice",
        )
    return passed(name, f"{UPTIME_TOPIC} can be read: the bridge follows it, and {DROPPED_TOPIC}")


def addresses(lab: Prober) -> Finding:
    """Does the bridge learn from where clients come?"""
    name = "addresses"
    if lab.broker.kind == "embedded":
        return passed(name, "the embedded broker tells the bridge beside it")
    peer = lab.bridge()
    lab.subscribe(peer, LOG_TOPIC)
    client = lab.client()
    told = lab.until(
        lambda: any(client.client_id.encode() in m.payload for m in peer.received), lab.patient_s
    )
    client.disconnect()
    peer.disconnect()
    if told:
        return passed(name, f"{LOG_TOPIC} tells who connects from where")
    return note(name, f"{LOG_TOPIC} does not tell who connects from where", "records may have no ipAddr")


def persistence(lab: Prober) -> Finding:
    """Does what the broker keeps survive its restart?"""
    if lab.broker.kind == "embedded":
        return warned(
            "persistence",
            "the embedded broker keeps everything in memory",
            "after a restart it has no sessions; the bridge beside it publishes every status again",
        )
    return note(
        "persistence",
        "cannot be told from outside",
        "a broker that keeps nothing on disk loses what waits for the bridge, and all statuses, when it ends",
    )
