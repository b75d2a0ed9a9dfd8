"""What to do about a finding on the brokers that we know: which line of which shipped file has it right."""

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


_OWN = ("own-topics", "other-user", "other-client", "other-will", "slash-client-id", "wildcard-client-id")
_BRIDGE_WRITES = (
    "bridge-rights",
    "bridge-will",
    "write-status",
    "write-bridge",
    "write-replies",
    "write-events",
)
_PASSWORDS = ("passwords", "slash-user")

_CONF, _ACL = "mosquitto.conf", "acl"
_PATTERNS = Remedy(
    "let everybody write only these: one such line for each verb, and no # in it",
    _ACL,
    "pattern write presence/%u/%c/login",
)
_BRIDGE_ONLY = "below `user bridge`, and nowhere else, stands"

_MOSQUITTO = {
    "websocket": Remedy("give it a WebSocket listener", _CONF, "protocol websockets"),
    "tls": Remedy("give it a TLS listener, with the lines that follow", _CONF, "#listener 8883"),
    "local-ports": Remedy(
        "name the address in each listener without TLS, and below a listener for WebSockets put",
        _CONF,
        "socket_domain ipv4",
    ),
    "passwords": Remedy("let nobody in without a password", _CONF, "allow_anonymous false"),
    "own-topics": _PATTERNS,
    "names": Remedy("use names without a slash, of letters, digits and dashes"),
    "bridge-rights": Remedy(f"{_BRIDGE_ONLY}, with the lines beside it", _ACL, "topic readwrite status/+"),
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
    "window": Remedy("let more be on the way", _CONF, "max_inflight_messages 20000"),
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
    "drops": Remedy(
        "below `user bridge` put `topic read $SYS/broker/publish/messages/dropped` and",
        _ACL,
        "topic read $SYS/broker/uptime",
    ),
    "addresses": Remedy(
        "below `user bridge` in acl let it read $SYS/broker/log/#, and have", _CONF, "log_dest topic"
    ),
    "persistence": Remedy(
        "look for `autosave_interval 1`, since by default it saves every 1800 s, and for",
        _CONF,
        "persistence true",
    ),
}

_YML = "ejabberd.yml"
_PUBLISH, _SUBSCRIBE = "in access_publish", "in access_subscribe"
_EJABBERD = (
    dict.fromkeys(_PASSWORDS, Remedy("let nobody in without a password", _YML, "auth_method: internal"))
    | dict.fromkeys(
        _OWN,
        Remedy(
            f"{_PUBLISH} let all write only these: one for each verb, no # in it, and at the end `#` with "
            "`deny: all`",
            _YML,
            '"presence/%u/%c/login":',
        ),
    )
    | {
        "websocket": Remedy("give it a listener with ejabberd_http, and there", _YML, "/mqtt: mod_mqtt"),
        "tls": Remedy(
            "set it, and `tls: true` at the listener", _YML, '#certfiles: ["/etc/ejabberd/certs/server.pem"]'
        ),
        "bridge-rights": Remedy(f"{_PUBLISH} allow the bridge this, and those below", _YML, '"status/+":'),
        "bridge-will": Remedy(f"{_PUBLISH} allow the bridge", _YML, '"bridge/+":'),
        "client-rights": Remedy(f"{_SUBSCRIBE} allow all this, and those beside it", _YML, '"status/#":'),
        "retained": Remedy("let all of them be replayed", _YML, "match_retained_limit: infinity"),
        "queue": Remedy("give the queue room", _YML, "max_queue: 1000000"),
        "redelivery": Remedy("keep sessions for longer", _YML, "session_expiry: 7 days"),
        "window": Remedy(
            "ejabberd sends one message at a time, whatever the bridge asks for: nothing can be set"
        ),
        "persistence": Remedy(
            "nothing can be set, its sessions end with it: set expire_after for clients that do not come back"
        ),
        "drops": Remedy("nothing: it ends the session instead, which the bridge notices"),
        "addresses": Remedy("nothing: it has them in its log file alone"),
        "will-cut": Remedy(f"{_PUBLISH} allow all", _YML, '"presence/%u/%c/will":'),
        "will-silence": Remedy(f"{_PUBLISH} allow all", _YML, '"presence/%u/%c/will":'),
        "other-will": Remedy(f"{_PUBLISH} allow all no other", _YML, '"presence/%u/%c/will":'),
        "write-status": Remedy(f"{_PUBLISH} allow only the bridge", _YML, '"status/+":'),
        "write-bridge": Remedy(f"{_PUBLISH} allow only the bridge", _YML, '"bridge/+":'),
        "write-replies": Remedy(f"{_PUBLISH} allow only the bridge", _YML, '"reply/+/+/+":'),
        "write-events": Remedy(f"{_PUBLISH} allow only the bridge", _YML, '"events/+/+":'),
        "read-presence": Remedy(f"{_SUBSCRIBE} allow only the bridge", _YML, '"presence/+/+/+":'),
        "read-events": Remedy(f"{_SUBSCRIBE} allow only operators", _YML, '"events/+/+":'),
        "read-replies": Remedy(f"{_SUBSCRIBE} allow all no other reply", _YML, '"reply/%u/%c/+":'),
    }
)

_RABBIT, _SH = "rabbitmq.conf", "users.sh"
_RABBIT_OWN = Remedy(
    "let everybody but the bridge write only this", _SH, r'write="^presence\\.$name\\.$client\\.$verbs\$"'
)
_RABBIT_READ = Remedy(
    "let everybody but the bridge read only this",
    _SH,
    r'read="status(\\.[^.]+)?|bridge(\\.[^.]+)?|reply\\.$name\\.$client\\.[^.]+"',
)
_RABBITMQ = (
    dict.fromkeys(
        _PASSWORDS, Remedy("let nobody in without a password", _RABBIT, "mqtt.allow_anonymous = false")
    )
    | dict.fromkeys(_OWN, _RABBIT_OWN)
    | dict.fromkeys(
        _BRIDGE_WRITES,
        Remedy(
            "let the bridge, and nobody else, write",
            _SH,
            r"write='^(status\.[^.]+|events\.[^.]+\.[^.]+|bridge\.[^.]+|reply\.[^.]+\.[^.]+\.[^.]+)$'",
        ),
    )
    | {
        "mqtt-5": Remedy("nothing has to be done; from 4.0 on it speaks it"),
        "websocket": Remedy("switch rabbitmq_web_mqtt on, and set", _RABBIT, "web_mqtt.tcp.port = 9001"),
        "tls": Remedy(
            "give it a TLS listener, with the lines that follow", _RABBIT, "#mqtt.listeners.ssl.1 = 8883"
        ),
        "names": Remedy("have no dots in names of users and clients: RabbitMQ takes them for slashes"),
        "client-rights": _RABBIT_READ,
        "retained": Remedy(
            "nothing: it replays for exact topics only; ask for each user, or use `mqtt-presence users`"
        ),
        "queue": Remedy(
            "its queues have no limit, so look for a policy; sessions last for",
            _RABBIT,
            "mqtt.subscription_ttl = 604800000",
        ),
        "redelivery": Remedy("keep sessions for longer", _RABBIT, "mqtt.subscription_ttl = 604800000"),
        "window": Remedy("let more be on the way", _RABBIT, "mqtt.prefetch = 1000"),
        "persistence": Remedy(
            "queues are on disk; for retained messages set",
            _RABBIT,
            "mqtt.retained_message_store = rabbit_mqtt_retained_msg_store_dets",
        ),
        "drops": Remedy("nothing: its queues have no limit, unless a policy sets one"),
        "addresses": Remedy("nothing: it tells them by AMQP, which the bridge does not read"),
        "other-client": Remedy(
            "from 4.3 on run users.sh with ESCAPES_IDS=yes; until then its rights cannot know client ids",
            _SH,
            """[ "${ESCAPES_IDS:-no}" = yes ] && client='{client_id}'""",
        ),
        "wildcard-client-id": Remedy(
            "before 4.3 leave client ids out of the rights: it does not escape them", _SH, "client='[^.]+'"
        ),
        "read-presence": Remedy(
            "let the bridge, and nobody else, read",
            _SH,
            r"read='^(presence\.\*\.\*\.\*|status\.[^.]+|bridge\.[^.]+|\$SYS\..+)$'",
        ),
        "read-events": Remedy(
            "let operators, and nobody else, read",
            _SH,
            r"""case $operators in *" $name "*) read="$read|events\\.[^.]+\\.[^.]+" ;; esac""",
        ),
        "read-replies": _RABBIT_READ,
        "client-id-theft": Remedy(
            "it cannot tie client ids to users: make them random; what waits for a client is safe with",
            _SH,
            'queues="mqtt-(subscription-|will-)$name-.*"',
        ),
    }
)

_NATS_CONF = "nats.conf"
_NATS_READ = Remedy(
    "in the block of each user",
    _NATS_CONF,
    'subscribe: { allow: ["status", "status.*", "bridge", "bridge.*", "reply.alice.*.*", '
    '"$MQTT.sub.>"] } } }',
)
_NATS = (
    dict.fromkeys(
        _PASSWORDS,
        Remedy(
            "set no no_auth_user, and have for each user",
            _NATS_CONF,
            '{ user: alice, password: "CHANGE-ME alice", permissions: {',
        ),
    )
    | dict.fromkeys(
        _OWN,
        Remedy(
            "in the block of each user, with its name, and no > in it",
            _NATS_CONF,
            'publish: { allow: ["presence.alice.*.login", "presence.alice.*.activity", '
            '"presence.alice.*.logout",',
        ),
    )
    | dict.fromkeys(
        _BRIDGE_WRITES,
        Remedy(
            "in the block of the bridge, and in no other",
            _NATS_CONF,
            'publish: { allow: ["status.*", "events.*.*", "bridge.*", "reply.*.*.*"] }',
        ),
    )
    | {
        "mqtt-5": Remedy("nothing has to be done"),
        "websocket": Remedy("have the block websocket, with", _NATS_CONF, 'listen: "127.0.0.1:9001"'),
        "tls": Remedy("in the blocks mqtt and websocket, with the lines that follow", _NATS_CONF, "#tls {"),
        "names": Remedy("have no dots in names of users and clients, and no blanks in client ids"),
        "client-rights": _NATS_READ,
        "redelivery": Remedy("it sends again after this, 30 s by default", _NATS_CONF, 'ack_wait: "10s"'),
        "window": Remedy("let more be on the way", _NATS_CONF, "max_ack_pending: 1000"),
        "persistence": Remedy(
            "its store is on disk; against a power cut set", _NATS_CONF, "sync_interval: always"
        ),
        "drops": Remedy("nothing: its queues have no limit, unless one is set for JetStream"),
        "addresses": Remedy("nothing: it tells them in its own protocol, which the bridge does not read"),
        "other-client": Remedy(
            "nothing: its rights know no client ids; trust all clients of a user, or use another broker"
        ),
        "read-presence": Remedy(
            "in the block of the bridge, and in no other",
            _NATS_CONF,
            'subscribe: { allow: ["presence.*.*.*", "status.*", "bridge.*", "$MQTT.sub.>"] } } }',
        ),
        "read-events": Remedy(
            "in the block of each operator, and in no other",
            _NATS_CONF,
            'subscribe: { allow: ["status", "status.*", "bridge", "bridge.*", "reply.operator.*.*", '
            '"events", "events.*.*",',
        ),
        "read-replies": _NATS_READ,
        "client-id-theft": Remedy("it cannot tie client ids to users: make them random, and tell nobody"),
    }
)

_MJS, _JSON = "presence-broker.mjs", "settings.json"
_AEDES_MEMORY = Remedy(
    "all is in memory: give it a persistence, or let the bridge ask everybody to log in again",
    _MJS,
    "const broker = await Aedes.createBroker()",
)
_AEDES_NAMES = Remedy(
    "refuse such names", _MJS, "if (!isName(user) || !isName(client.id)) return refuse(REFUSED_ID)"
)
_AEDES = (
    dict.fromkeys(
        _OWN,
        Remedy(
            "authorizePublish ends, for everybody but the bridge, with",
            _MJS,
            "return root === 'presence' && rest.length === 3 && user === client.user && id === client.id "
            "&& VERBS.has(verb)",
        ),
    )
    | dict.fromkeys(
        _BRIDGE_WRITES,
        Remedy(
            "authorizePublish has, for the bridge alone",
            _MJS,
            "return { status: 1, bridge: 1, events: 2, reply: 3 }[root] === rest.length",
        ),
    )
    | {
        "mqtt-5": Remedy("nothing has to be done"),
        "websocket": Remedy("let it listen for browsers", _JSON, '"wsPort": 9001,'),
        "tls": Remedy(
            "name port, certificate and key, as its README.md says, instead of", _JSON, '"tls": null'
        ),
        "passwords": Remedy(
            "let nobody in without a password", _MJS, "if (!isRight) return refuse(REFUSED_PASSWORD)"
        ),
        "client-rights": Remedy("authorizeSubscribe lets everybody read", _MJS, "case 'status':"),
        "queue": _AEDES_MEMORY,
        "redelivery": _AEDES_MEMORY,
        "persistence": _AEDES_MEMORY,
        "drops": Remedy("nothing: its queues have no limit"),
        "addresses": Remedy("nothing: it has them in its log alone"),
        "slash-client-id": _AEDES_NAMES,
        "wildcard-client-id": _AEDES_NAMES,
        "slash-user": _AEDES_NAMES,
        "read-presence": Remedy(
            "authorizeSubscribe has, for presence", _MJS, "return client.user === BRIDGE"
        ),
        "read-events": Remedy(
            "authorizeSubscribe has, for events", _MJS, "return operators.has(client.user)"
        ),
        "read-replies": Remedy(
            "authorizeSubscribe has, for reply",
            _MJS,
            "return rest[0] === client.user && rest[1] === client.id",
        ),
        "client-id-theft": Remedy(
            "keep each id for its user",
            _MJS,
            "if ((owners.get(client.id) ?? user) !== user) return refuse(REFUSED_ID)",
        ),
    }
)

_EMQX_CONF, _RULES = "emqx.conf", "acl.conf"
_EMQX_READ = Remedy(
    "let everybody read only",
    _RULES,
    '{allow, all, subscribe, ["status/#", "bridge/#", "reply/${username}/${clientid}/+"]}.',
)
_EMQX_SLASH = '{deny, {%s, {re, "[+#/]"}}, all, ["#"]}.'
_EMQX = (
    dict.fromkeys(
        _OWN,
        Remedy(
            "let everybody write only this and the lines below it, and end with {deny, all}",
            _RULES,
            '{allow, all, {publish, [{retain, false}]}, ["presence/${username}/${clientid}/login",',
        ),
    )
    | dict.fromkeys(
        _BRIDGE_WRITES,
        Remedy(
            "let the bridge, and nobody else, write, and end with {deny, all}",
            _RULES,
            '{allow, {username, "bridge"}, publish, ["status/+", "events/+/+", "bridge/+", "reply/+/+/+"]}.',
        ),
    )
    | {
        "websocket": Remedy("have the block listeners.ws", _EMQX_CONF, 'websocket.mqtt_path = "/mqtt"'),
        "tls": Remedy("enable the block listeners.ssl", _EMQX_CONF, 'bind = "0.0.0.0:8883"'),
        "passwords": Remedy("have an authentication", _EMQX_CONF, "mechanism = password_based"),
        "client-rights": _EMQX_READ,
        "queue": Remedy("give the queue room", _EMQX_CONF, "max_mqueue_len = 1000000"),
        "redelivery": Remedy("keep sessions for longer", _EMQX_CONF, "session_expiry_interval = 7d"),
        "window": Remedy("let more be on the way", _EMQX_CONF, "max_inflight = 1000"),
        "persistence": Remedy(
            "enable durable_sessions, and for retained messages set", _EMQX_CONF, "storage_type = disc"
        ),
        "addresses": Remedy(
            'set source = "emqx" in the bridge\'s settings, and let it read',
            _RULES,
            '{allow, {username, "bridge"}, subscribe, ["presence/+/+/+", "status/+", "bridge/+", '
            '"$SYS/brokers/+/clients/#"]}.',
        ),
        "slash-client-id": Remedy("refuse such names", _RULES, _EMQX_SLASH % "clientid"),
        "wildcard-client-id": Remedy("refuse such names", _RULES, _EMQX_SLASH % "clientid"),
        "slash-user": Remedy("refuse such names", _RULES, _EMQX_SLASH % "username"),
        "read-presence": Remedy(
            "let the bridge, and nobody else, read, and end with {deny, all}",
            _RULES,
            '{allow, {username, "bridge"}, subscribe, ["presence/+/+/+", "status/+", "bridge/+", '
            '"$SYS/brokers/+/clients/#"]}.',
        ),
        "read-events": Remedy(
            "let operators, and nobody else, read",
            _RULES,
            '{allow, {username, "operator"}, subscribe, ["events/+/+"]}.',
        ),
        "read-replies": _EMQX_READ,
        "client-id-theft": Remedy("it does not tie client ids to users: make them random, and tell nobody"),
    }
)

_XML, _ROLES = "config.xml", "credentials.xml"
_EVERYBODY, _BRIDGE_ROLE = "in the role `client`", "in the role `bridge`, and in no other"
_HIVEMQ = (
    dict.fromkeys(
        _PASSWORDS,
        Remedy("install the File RBAC extension, and remove hivemq-allow-all-extension"),
    )
    | dict.fromkeys(
        _OWN,
        Remedy(
            f"{_EVERYBODY} let write only these, one for each verb",
            _ROLES,
            "<topic>presence/${{username}}/${{clientid}}/login</topic>",
        ),
    )
    | {
        "websocket": Remedy("give it a WebSocket listener", _XML, "<websocket-listener>"),
        "tls": Remedy("give it a TLS listener", _XML, "<tls-tcp-listener>"),
        "bridge-rights": Remedy(f"{_BRIDGE_ROLE}, with those beside it", _ROLES, "<topic>status/+</topic>"),
        "bridge-will": Remedy(_BRIDGE_ROLE, _ROLES, "<topic>bridge/+</topic>"),
        "client-rights": Remedy(f"{_EVERYBODY}, with those beside it", _ROLES, "<topic>status/#</topic>"),
        "queue": Remedy("give the queue room", _XML, "<max-queue-size>1000000</max-queue-size>"),
        "persistence": Remedy("keep sessions and messages on disk", _XML, "<mode>file</mode>"),
        "other-will": Remedy(
            f"{_EVERYBODY} let wills go nowhere else",
            _ROLES,
            "<topic>presence/${{username}}/${{clientid}}/will</topic>",
        ),
        "write-status": Remedy(_BRIDGE_ROLE, _ROLES, "<topic>status/+</topic>"),
        "write-bridge": Remedy(_BRIDGE_ROLE, _ROLES, "<topic>bridge/+</topic>"),
        "write-replies": Remedy(_BRIDGE_ROLE, _ROLES, "<topic>reply/+/+/+</topic>"),
        "write-events": Remedy(f"{_BRIDGE_ROLE}, to publish", _ROLES, "<topic>events/+/+</topic>"),
        "read-presence": Remedy(_BRIDGE_ROLE, _ROLES, "<topic>presence/+/+/+</topic>"),
        "read-events": Remedy(
            "in the role `operator`, and in no other, to subscribe", _ROLES, "<topic>events/+/+</topic>"
        ),
        "read-replies": Remedy(
            f"{_EVERYBODY} let read no other reply",
            _ROLES,
            "<topic>reply/${{username}}/${{clientid}}/+</topic>",
        ),
        "client-id-theft": Remedy("it does not tie client ids to users: make them random, and tell nobody"),
    }
)

_TOML = "up.toml"
_EMBEDDED = {
    "mqtt-5": Remedy("nothing; clients that need MQTT 5 need another broker (docs/embedded.md)"),
    "websocket": Remedy("give it a port for browsers", _TOML, "ws_port = 9001"),
    "passwords": Remedy(
        "start it with --no-open: it is open on loopback only, for trying out; or set", _TOML, "open = false"
    ),
    "slash-user": Remedy("start it with --no-open, or set", _TOML, "open = false"),
    "local-ports": Remedy("start it with --host 127.0.0.1, unless the home network is to reach it"),
    "tls": Remedy("it has no TLS: stay on this machine or in the home network (docs/embedded.md)"),
    "persistence": Remedy("nothing; or use a broker that keeps its store (docs/mosquitto.md)"),
    "read-events": Remedy("name only operators here", _TOML, 'operator = ["operator"]'),
}

SPECIFIC: dict[str, dict[str, Remedy]] = {
    "mosquitto": _MOSQUITTO,
    "ejabberd": _EJABBERD,
    "rabbitmq": _RABBITMQ,
    "nats": _NATS,
    "aedes": _AEDES,
    "emqx": _EMQX,
    "hivemq": _HIVEMQ,
    "embedded": _EMBEDDED,
}
"""By the kind of broker, then by the name of the probe."""
