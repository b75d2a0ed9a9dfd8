"""A client's CONNECT, the check of its names, and the CONNACK (MQTT 3.1.1 §3.1, §3.2)."""

from dataclasses import dataclass, field

from mqtt_presence.embedded.deliveries import Message, new_message
from mqtt_presence.mqtt.packets import MQTT_5, MQTT_311, connack_packet, read_connect
from mqtt_presence.mqtt.return_codes import UNSUPPORTED_VERSION, Refusal
from mqtt_presence.protocol.topics import NAME_RULE, is_name


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason why a client is not accepted.

    Args:
        code: for the client, in the CONNACK.
        reason: for the log: a constant format (`RateLimitedLog.log`).
        values: the values for the format.

    """

    code: Refusal
    reason: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """The contents of a CONNECT (§3.1).

    Args:
        level: the protocol level; the other fields are set for MQTT 3.1.1 only.
        clean: the session begins anew and ends with the network connection.
        keep_alive_s: the connection is lost after 1.5 times these seconds without a packet; 0: never.
        client_id: the client's name; empty: the broker chooses one.
        will: the message to publish if the connection is lost.
        user: the user's name; empty: there is none.
        password: the user's password.

    """

    level: int
    clean: bool = True
    keep_alive_s: int = 0
    client_id: str = ""
    will: Message | None = None
    user: str = ""
    password: bytes | None = field(default=None, repr=False)


def parse_connect(body: bytes) -> ConnectRequest:
    """Read a CONNECT.

    Args:
        body: the packet after its fixed header.

    Raises:
        ProtocolError: the packet is malformed, or the will's topic is no topic name.

    """
    connect = read_connect(body, levels=(MQTT_311,))
    will = connect.will
    return ConnectRequest(
        connect.level,
        connect.clean,
        connect.keep_alive_s,
        connect.client_id,
        None if will is None else new_message(will.topic, will.payload, will.qos, retain=will.retain),
        connect.user or "",
        connect.password,
    )


def reject_names(request: ConnectRequest, client_id: str) -> Rejection | None:
    """Return a rejection if the protocol level or a name makes the CONNECT unacceptable from any client.

    Args:
        request: the CONNECT.
        client_id: the client id, chosen by the broker if the client gave none.

    """
    if request.level != MQTT_311:
        reason = "protocol level %d, the broker supports MQTT 3.1.1 (4) only"
        return Rejection(Refusal.VERSION, reason, (request.level,))
    if not is_name(request.user):
        return Rejection(Refusal.BAD_NAME, f"a user name of {NAME_RULE} is needed")
    if not is_name(client_id):
        return Rejection(Refusal.IDENTIFIER, f"a client id of {NAME_RULE} is needed")
    return None


def accepting_connack(*, session_present: bool) -> bytes:
    """Write the CONNACK for an accepted client, with the session present flag (§3.2.2.2)."""
    return connack_packet(0, session_present=session_present)


def rejecting_connack(request: ConnectRequest, rejection: Rejection) -> bytes:
    """Write the CONNACK for a rejected client; in MQTT 5 too, whose clients then report the version."""
    if rejection.code is Refusal.VERSION and request.level == MQTT_5:
        return connack_packet(UNSUPPORTED_VERSION, properties=b"")
    return connack_packet(rejection.code)
