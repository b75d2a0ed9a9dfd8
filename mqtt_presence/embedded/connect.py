"""What a CONNECT asks for, and why somebody is not let in (MQTT 3.1.1 §3.1, §3.2)."""

import enum
from dataclasses import dataclass, field
from typing import Final

from mqtt_presence.complaints import shown
from mqtt_presence.embedded.messages import Message, new_message
from mqtt_presence.embedded.packets import Cursor, ProtocolError
from mqtt_presence.topics import NAME_RULE, is_name

_PROTOCOL_LEVEL: Final = 4
_PROTOCOL_LEVEL_5: Final = 5
_CONNACK_5_UNSUPPORTED: Final = b"\x20\x03\x00\x84\x00"
"""To a version 5 CONNECT, in its own format (MQTT 5 §3.1.2.2): clients report "unsupported version"."""


class Refusal(enum.IntEnum):
    """CONNACK return codes (§3.2.2.3)."""

    VERSION = 1
    IDENTIFIER = 2
    UNAVAILABLE = 3
    BAD_NAME = 4
    NOT_AUTHORIZED = 5


@dataclass(frozen=True, slots=True)
class Refused:
    """Why somebody is not let in.

    Args:
        code: what the client is told.
        why: what the log is told; a format, and a constant (`Complaints.complain`).
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
    cursor = Cursor(body)
    name, level = cursor.text(), cursor.byte()
    if name not in ("MQTT", "MQIsdp"):
        raise ProtocolError(f"protocol {shown(name)}")
    if name != "MQTT" or level != _PROTOCOL_LEVEL:
        return Connect(level)
    flags, keep_alive_s, client_id = cursor.byte(), cursor.number(), cursor.text()
    will_qos = flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (flags & 0x38 and not flags & 4) or (flags & 0x40 and not flags & 0x80):
        raise ProtocolError(f"CONNECT flags {flags:#04x}")
    will = None
    if flags & 4:
        topic, payload = cursor.text(), cursor.blob()
        will = new_message(topic, payload, will_qos, retain=bool(flags & 0x20))
    user = cursor.text() if flags & 0x80 else ""
    password = cursor.blob() if flags & 0x40 else None
    if cursor:
        raise ProtocolError("CONNECT has bytes left over")
    return Connect(level, bool(flags & 2), keep_alive_s, client_id, will, user, password)


def refuse_names(connect: Connect, client_id: str) -> Refused | None:
    """Tell why a CONNECT cannot be let in, whoever it is from; None: it may be.

    Args:
        connect: the packet.
        client_id: the client id, which the broker has made up if the client gave none.

    """
    if connect.level != _PROTOCOL_LEVEL:
        why = "protocol level %d, only MQTT 3.1.1 (4) is spoken here"
        return Refused(Refusal.VERSION, why, (connect.level,))
    if not is_name(connect.user):
        return Refused(Refusal.BAD_NAME, f"a user name of {NAME_RULE} is needed")
    if not is_name(client_id):
        return Refused(Refusal.IDENTIFIER, f"a client id of {NAME_RULE} is needed")
    return None


def accepting(*, session_present: bool) -> bytes:
    """Build the CONNACK that lets a client in; it hears whether it had a session (§3.2.2.2)."""
    return bytes((0x20, 2, session_present, 0))


def refusing(connect: Connect, refused: Refused) -> bytes:
    """Build the CONNACK that does not."""
    if refused.code is Refusal.VERSION and connect.level == _PROTOCOL_LEVEL_5:
        return _CONNACK_5_UNSUPPORTED
    return bytes((0x20, 2, 0, refused.code))
