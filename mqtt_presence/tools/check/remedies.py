"""What to do about a finding: for every broker in general; `known_brokers` has it for those we know."""

from mqtt_presence.tools.check.known_brokers import SPECIFIC

_OWN_TOPICS = (
    "let a client write presence/<its user>/<its client id>/ and one of the five verbs, and nothing else"
)

GENERIC = {
    "mqtt-3.1.1": "switch it on",
    "mqtt-5": "nothing has to be done",
    "websocket": "give the broker a WebSocket listener, and the URL its path",
    "tls": "give the broker a TLS listener, and a certificate that clients trust; connect with mqtts:// or wss://",
    "local-ports": "let the listener be at 127.0.0.1 alone, or use TLS",
    "passwords": "let nobody in without a password",
    "own-topics": _OWN_TOPICS,
    "names": "use names of letters, digits and dashes",
    "bridge-rights": "let the bridge's user write status/+, events/+/+, bridge/+ and reply/+/+/+",
    "client-rights": "let everybody read status/+, bridge/+ and reply/<its user>/<its client id>/+",
    "retained": "switch retained messages on; a broker that does not replay them for status/+ suits only "
    "subscribers who name each user",
    "queue": "keep sessions of clients that are away, without end, and room for that many messages",
    "redelivery": "keep sessions, and what is not acknowledged, across connections",
    "window": "let more messages be on the way to one client",
    "will-cut": "switch wills on, and let a client write its own will topic",
    "will-disconnect": "use another broker",
    "will-silence": "let the broker enforce the keep alive; else set expire_after, or a timeout in logins",
    "takeover": "give every connection a connectionId, the same in its login and its will",
    "bridge-will": "let the bridge's user write bridge/+, and have its will published",
    "other-user": _OWN_TOPICS,
    "other-client": _OWN_TOPICS,
    "other-will": f"{_OWN_TOPICS}; hold wills to it as well",
    "slash-client-id": "grant each verb by itself, not presence/<user>/<client id>/#; or refuse such ids",
    "wildcard-client-id": "refuse client ids with wildcards, or let the broker escape them in its rights",
    "slash-user": "let nobody in without a password, and have no user whose name has / + or #",
    "write-status": "let only the bridge's user write status/+",
    "write-bridge": "let only the bridge's user write bridge/+",
    "write-replies": "let only the bridge's user write reply/+/+/+",
    "write-events": "let only the bridge's user write events/+/+",
    "read-presence": "let only the bridge's user read presence/+/+/+",
    "read-events": "let only operators read events/+/+",
    "read-replies": "let a client read reply/<its user>/<its client id>/+ only",
    "client-id-theft": "tie client ids to users if the broker can; else make them random, and tell nobody",
    "drops": "give the bridge's user the right to read what the broker tells of itself",
    "addresses": "give the bridge's user the right to read what the broker tells of connections",
    "persistence": "publish a retained message, kill the broker, start it again, and see whether it is there",
}
"""By the name of the probe."""

_SHIPPED = frozenset({"mosquitto", "ejabberd", "rabbitmq", "nats", "aedes", "emqx", "hivemq"})


def remedy_for(kind: str, name: str) -> str:
    """Say what to do.

    Args:
        kind: of the broker.
        name: of the probe.

    """
    known = SPECIFIC.get(kind, {}).get(name)
    if known is None:
        text = GENERIC.get(name, "")
        return f"{text}; see broker_config/{kind}/" if text and kind in _SHIPPED else text
    if not known.file:
        return known.text
    return f"{known.text}: `{known.line.lstrip('#')}` (broker_config/{kind}/{known.file})"
