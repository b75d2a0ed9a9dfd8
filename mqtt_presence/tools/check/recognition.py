"""Recognition of a broker by the signs in ``broker_config/<broker>/check.toml``."""

import re
from collections import defaultdict
from typing import Any, NamedTuple

from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.return_codes import UNSUPPORTED_VERSION
from mqtt_presence.tools.check.findings import Broker
from mqtt_presence.tools.check.known_brokers import OTHER, Refusal, Sign, ranked_signs
from mqtt_presence.tools.check.probe_client import ConnectOptions, ProbeClient, RefusedError
from mqtt_presence.tools.check.prober import Prober

_ASSIGNED_ID = "AssignedClientIdentifier"


class Hints(NamedTuple):
    """The observations by which a broker is recognised."""

    retained: dict[str, str]
    """Retained payloads, by the topic filter of the subscription."""
    connack: dict[str, Any]
    """The properties of its CONNACK in MQTT 5, to a client without a client id."""
    refuses: frozenset[Refusal] = frozenset()
    """Refused requests; all but MQTT 5 are tried only where MQTT 5 is refused in MQTT 5."""


def recognise(hints: Hints) -> Broker:
    """Return the broker with the first sign that the hints show."""
    for kind, sign in ranked_signs():
        if _shows(hints, sign):
            found = re.fullmatch(sign.payload, hints.retained.get(sign.topic, ""), re.DOTALL)
            version = (found.groupdict().get("version") or "") if found else ""
            return Broker(kind, version, sign.evidence)
    return Broker(OTHER)


def _shows(hints: Hints, sign: Sign) -> bool:
    payload = hints.retained.get(sign.topic)
    if sign.topic and (payload is None or not re.fullmatch(sign.payload, payload, re.DOTALL)):
        return False
    assigned = str(hints.connack.get(_ASSIGNED_ID, ""))
    if sign.assigned_client_id and not re.fullmatch(sign.assigned_client_id, assigned):
        return False
    if not hints.refuses.issuperset(sign.refuses) or not hints.refuses.isdisjoint(sign.accepts):
        return False
    return all(hints.connack.get(name) == value for name, value in sign.connack.items())


def collect_hints(prober: Prober) -> Hints:
    """Subscribe, connect and publish as far as the signs need it.

    Each topic has a connection of its own, since a broker may answer a forbidden subscription by closing it.
    """
    topics: dict[str, set[str]] = defaultdict(set)
    for kind, sign in ranked_signs():
        if sign.topic:
            topics[kind].add(sign.topic)
    readers: dict[str, ProbeClient] = {}
    for topic in sorted(set().union(*topics.values())):
        readers[topic] = prober.connections.bridge()
        readers[topic].subscribe(topic)
    connack = _connack_properties(prober)
    prober.loop.until(
        lambda: any(all(readers[topic].inbox.messages for topic in own) for own in topics.values()),
        prober.quiet_s,
    )
    retained = {
        topic: reader.inbox.messages[0].payload.decode(errors="replace")
        for topic, reader in readers.items()
        if reader.inbox.messages
    }
    for reader in readers.values():
        reader.disconnect()
    return Hints(retained, connack, _refusals(prober))


def _connack_properties(prober: Prober) -> dict[str, Any]:
    connections = prober.connections
    properties = dict(connections.connack_properties)
    if connections.mqtt5:
        try:
            client = connections.connect(prober.config.bridge, "", ConnectOptions(mqtt5=True))
        except BrokerError:
            pass  # this broker requires a client id
        else:
            properties |= client.connack.properties
            client.disconnect()
    return properties


def _refusals(prober: Prober) -> frozenset[Refusal]:
    refusal = prober.connections.mqtt5_refusal
    if refusal is None or not refusal.in_mqtt5 or refusal.code != UNSUPPORTED_VERSION:
        return frozenset()
    client, bridge = prober.connections.client(), prober.connections.bridge()
    qos_2 = client.subscribe(prober.topics.statuses, 2)
    blank = bridge.subscribe(prober.topics.status(f"{prober.names.invented_user} x"))
    prober.loop.until(
        lambda: (qos_2.is_answered or client.is_over) and (blank.is_answered or bridge.is_over),
        prober.long_wait_s,
    )
    client.disconnect()
    bridge.disconnect()
    refusals: set[Refusal] = {"mqtt-5"}
    if qos_2.codes[:1] == [1]:
        refusals.add("qos-2")
    if blank.is_answered and not blank.is_granted:
        refusals.add("blank")
    try:
        prober.connections.client(f"{prober.names.client_id()}/x").disconnect()
    except RefusedError:
        refusals.add("slash")
    except BrokerError:
        pass  # a closed connection is no refusal in words
    return frozenset(refusals)
