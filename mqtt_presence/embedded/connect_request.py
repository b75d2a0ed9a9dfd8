"""What a CONNECT asks for, and why somebody is not let in (MQTT 3.1.1 §3.1, §3.2)."""

from dataclasses import dataclass, field

from mqtt_presence.embedded.deliveries import Message, new_message
from mqtt_presence.mqtt.packets import MQTT_5, MQTT_311, connack_packet, read_connect
from mqtt_presence.mqtt.return_codes import UNSUPPORTED_VERSION, Refusal
from mqtt_presence.protocol.topics import NAME_RULE, is_name


@dataclass(frozen=True, slots=True)
class Refused:
    """Why somebody is not let in.

    Args:
        code: what the client is told.
        why: what the log is told; a format, and a constant (`RateLimitedLog.complain`).
        about: what is put into it.

    """

    code: Refusal
    why: str
    about: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Connect:
    """A CONNECT (§3.1).

    Args:
        level: the version of the protocol; of another than 3.1.1 nothing else is known.
        clean: the session begins anew and ends with the connection.
        keep_alive_s: 1.5 times this without a packet is too long, seconds; 0: never.
        client_id: the client's name; empty: it has none.
        will: the message for the case that the connection is lost.
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


def parse_connect(body: bytes) -> Connect:
    """Read a CONNECT.

    Args:
        body: the packet after its fixed header.

    Raises:
        ProtocolError: it is none.

    """
    connect = read_connect(body, levels=(MQTT_311,))
    will = connect.will
    return Connect(
        connect.level,
        connect.clean,
        connect.keep_alive_s,
        connect.client_id,
        None if will is None else new_message(will.topic, will.payload, will.qos, retain=will.retain),
        connect.user or "",
        connect.password,
    )


def refuse_names(connect: Connect, client_id: str) -> Refused | None:
    """Tell why a CONNECT cannot be let in, whoever it is from; None: it may be.

    Args:
        connect: the packet.
        client_id: the client id, which the broker has made up if the client gave none.

    """
    if connect.level != MQTT_311:
        why = "protocol level %d, only MQTT 3.1.1 (4) is spoken here"
        return Refused(Refusal.VERSION, why, (connect.level,))
    if not is_name(connect.user):
        return Refused(Refusal.BAD_NAME, f"a user name of {NAME_RULE} is needed")
    if not is_name(client_id):
        return Refused(Refusal.IDENTIFIER, f"a client id of {NAME_RULE} is needed")
    return None


def accepting(*, session_present: bool) -> bytes:
    """Build the CONNACK that lets a client in; it hears whether it had a session (§3.2.2.2)."""
    return connack_packet(0, session_present=session_present)


def refusing(connect: Connect, refused: Refused) -> bytes:
    """Build the CONNACK that does not; in MQTT 5 too, whose clients then report the version as the reason."""
    if refused.code is Refusal.VERSION and connect.level == MQTT_5:
        return connack_packet(UNSUPPORTED_VERSION, properties=b"")
    return connack_packet(refused.code)
