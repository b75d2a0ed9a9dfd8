"""What to do about a finding: for every broker in general, and which line of which file for those we know."""

from typing import NamedTuple


class Remedy(NamedTuple):
    """What to do.

    Args:
        text: in words.
        file: the shipped file that has it right, in `broker_config/<broker>/`.
        line: a line of that file.

    """

    text: str
    file: str = ""
    line: str = ""


_OWN_TOPICS = (
    "let a client write presence/<its user>/<its client id>/ and one of the five verbs, and nothing else"
)

GENERIC = {
    "mqtt-3.1.1": "switch it on",
    "mqtt-5": "nothing has to be done",
    "websocket": "give the broker a WebSocket listener, and the URL its path",
    "tls": "give the broker a TLS listener, and a certificate that clients trust; connect with mqtts:// or wss://",
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

_CONF, _ACL = "mosquitto.conf", "acl"
_PATTERNS = Remedy(
    "let everybody write only these: one such line for each verb, and no # in it",
    _ACL,
    "pattern write presence/%u/%c/login",
)
_BRIDGE_ONLY = "below `user bridge`, and nowhere else, stands"

SPECIFIC: dict[str, dict[str, Remedy]] = {
    "mosquitto": {
        "websocket": Remedy("give it a WebSocket listener", _CONF, "protocol websockets"),
        "tls": Remedy("give it a TLS listener, with the lines that follow", _CONF, "#listener 8883"),
        "passwords": Remedy("let nobody in without a password", _CONF, "allow_anonymous false"),
        "own-topics": _PATTERNS,
        "names": Remedy("use names without a slash, of letters, digits and dashes"),
        "bridge-rights": Remedy(
            f"{_BRIDGE_ONLY}, with the lines beside it", _ACL, "topic readwrite status/+"
        ),
        "client-rights": Remedy("let everybody read", _ACL, "pattern read status/+"),
        "retained": Remedy(
            "a subscriber of many users needs room for them", _CONF, "max_queued_messages 1000000"
        ),
        "queue": Remedy(
            "give the queue room, and never set per_listener_settings true",
            _CONF,
            "max_queued_messages 1000000",
        ),
        "redelivery": Remedy("keep sessions for longer", _CONF, "persistent_client_expiration 7d"),
        "window": Remedy("let more be on the way", _CONF, "max_inflight_messages 1000"),
        "will-silence": Remedy("bound the keep alive", _CONF, "max_keepalive 120"),
        "bridge-will": Remedy(_BRIDGE_ONLY, _ACL, "topic readwrite bridge/+"),
        "other-user": _PATTERNS,
        "other-client": _PATTERNS,
        "other-will": Remedy("let wills go nowhere else", _ACL, "pattern write presence/%u/%c/will"),
        "slash-client-id": _PATTERNS,
        "wildcard-client-id": _PATTERNS,
        "slash-user": Remedy(
            "let nobody in without a password, and have no user whose name has a slash",
            _CONF,
            "allow_anonymous false",
        ),
        "write-status": Remedy(_BRIDGE_ONLY, _ACL, "topic readwrite status/+"),
        "write-bridge": Remedy(_BRIDGE_ONLY, _ACL, "topic readwrite bridge/+"),
        "write-replies": Remedy(_BRIDGE_ONLY, _ACL, "topic write reply/+/+/+"),
        "write-events": Remedy(_BRIDGE_ONLY, _ACL, "topic write events/+/+"),
        "read-presence": Remedy(_BRIDGE_ONLY, _ACL, "topic read presence/+/+/+"),
        "read-events": Remedy("below each operator, and nowhere else, stands", _ACL, "topic read events/+/+"),
        "read-replies": Remedy("let everybody read only", _ACL, "pattern read reply/%u/%c/+"),
        "client-id-theft": Remedy(
            "mosquitto cannot tie client ids to users: make them random, and let only operators read events"
        ),
        "drops": Remedy("below `user bridge` put", _ACL, "topic read $SYS/broker/publish/messages/dropped"),
        "addresses": Remedy(
            "below `user bridge` in acl let it read $SYS/broker/log/#, and have", _CONF, "log_dest topic"
        ),
        "persistence": Remedy(
            "look for `autosave_interval 1`, since by default it saves every 1800 s, and for",
            _CONF,
            "persistence true",
        ),
    },
    "ejabberd": {
        "window": Remedy(
            "ejabberd sends one message at a time, whatever the bridge asks for: nothing can be set"
        ),
    },
    "nats": {
        "redelivery": Remedy(
            "NATS sends again after `ack_wait`, 30 s by default: shorten it, in the block `mqtt`"
        ),
    },
    "embedded": {
        "mqtt-5": Remedy("nothing; clients that need MQTT 5 need another broker (docs/embedded.md)"),
        "passwords": Remedy("start it with --no-open: it is open on loopback only, for trying out"),
        "slash-user": Remedy("start it with --no-open"),
        "tls": Remedy("it has no TLS: stay on this machine or in the home network (docs/embedded.md)"),
        "persistence": Remedy("nothing; or use a broker that keeps its store (docs/mosquitto.md)"),
    },
}
"""By the kind of broker, then by the name of the probe."""


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
