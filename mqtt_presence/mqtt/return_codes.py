"""Return codes of MQTT 3.1.1 and reason codes of MQTT 5, and their texts for messages."""

import enum
from typing import Final

FAILURE: Final = 0x80
"""The smallest reason code of a failure (MQTT 5 §2.4), and the failure in a SUBACK (MQTT 3.1.1 §3.9.3)."""
UNSUPPORTED_VERSION: Final = 0x84
BAD_USER_NAME_OR_PASSWORD: Final = 0x86
NOT_AUTHORIZED: Final = 0x87
TAKEN_OVER: Final = 0x8E


class Refusal(enum.IntEnum):
    """The return codes of a CONNACK that refuses the connection (MQTT 3.1.1 §3.2.2.3)."""

    VERSION = 1
    IDENTIFIER = 2
    UNAVAILABLE = 3
    BAD_NAME = 4
    NOT_AUTHORIZED = 5


_REASON_CODES: Final[dict[int, int]] = {
    Refusal.VERSION: UNSUPPORTED_VERSION,
    Refusal.IDENTIFIER: 0x85,
    Refusal.UNAVAILABLE: 0x88,
    Refusal.BAD_NAME: BAD_USER_NAME_OR_PASSWORD,
    Refusal.NOT_AUTHORIZED: NOT_AUTHORIZED,
}
_TEXTS: Final = {
    UNSUPPORTED_VERSION: "it does not speak this version of MQTT",
    0x85: "it does not take this client id",
    BAD_USER_NAME_OR_PASSWORD: "wrong user name or password",
    NOT_AUTHORIZED: "wrong user name or password, or no right to connect",
    0x88: "it is not available",
    0x8A: "this user is banned",
    0x8C: "bad authentication method",
    0x90: "it does not take the topic of the will",
    0x97: "quota exceeded",
}


def connack_words(reason_code: int) -> str:
    """Return the reason why a broker refused a client, as a text after "the broker refuses us:".

    Args:
        reason_code: of the CONNACK (MQTT 5 §3.2.2.2).

    """
    return _TEXTS.get(reason_code, f"reason code {reason_code:#x}")


def connack_words_311(return_code: int) -> str:
    """Return the same for a CONNACK of MQTT 3.1.1.

    Args:
        return_code: of the CONNACK (MQTT 3.1.1 §3.2.2.3), other than 0.

    """
    reason_code = _REASON_CODES.get(return_code)
    return f"return code {return_code}" if reason_code is None else connack_words(reason_code)
