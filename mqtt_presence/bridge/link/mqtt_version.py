"""The MQTT version of the bridge's next attempt to connect. Pure; `connecting.py` reports each result.

Brokers without MQTT 5 refuse its CONNECT with a return code, or only close the connection. A port proxy also
closes the connection, while its broker is away. So a closed connection is no answer: MQTT 3.1.1 is tried
then, and once the broker has accepted that, MQTT 5 once more. Each connection begins anew with MQTT 5.
"""

from enum import Enum, auto


class _Attempt(Enum):
    FIRST = auto()
    """MQTT 5."""
    PROBE = auto()
    """MQTT 3.1.1, only to learn whether the broker answers."""
    AGAIN = auto()
    """MQTT 5, to a broker that has just answered."""
    FALLBACK = auto()
    """MQTT 3.1.1, to a broker that does not accept MQTT 5."""


class MqttVersion:
    """Chooses between MQTT 5 and 3.1.1.

    Args:
        mqtt5: False: the broker is known to speak MQTT 3.1.1 only.

    """

    def __init__(self, *, mqtt5: bool) -> None:
        self._tries_mqtt5 = mqtt5
        self._has_accepted_mqtt5 = False
        self._attempt = _Attempt.FIRST

    @property
    def is_mqtt5(self) -> bool:
        """Whether the current connection, or the next attempt, is in MQTT 5."""
        return self._tries_mqtt5 and self._attempt in {_Attempt.FIRST, _Attempt.AGAIN}

    @property
    def is_fallback(self) -> bool:
        """Whether MQTT 3.1.1 is used because the broker does not accept MQTT 5."""
        return self._attempt is _Attempt.FALLBACK

    def accepted(self) -> bool:
        """Record a CONNACK that accepts the connection; return False if the connection was only a probe."""
        if self._attempt is _Attempt.PROBE:
            self._attempt = _Attempt.AGAIN
            return False
        self._has_accepted_mqtt5 = self._has_accepted_mqtt5 or self.is_mqtt5
        return True

    def refused(self, *, unsupported: bool) -> bool:
        """Record a CONNACK that refuses the connection; return whether to try the other version at once.

        Args:
            unsupported: because of the version (return code 1, MQTT 3.1.1 §3.2.2.3, or reason 0x84).

        """
        falls_back = unsupported and self.is_mqtt5
        self._attempt = _Attempt.FALLBACK if falls_back else _Attempt.FIRST
        return falls_back

    def closed(self) -> bool:
        """Record an end before the CONNACK; return whether to try the other version at once."""
        match self._attempt:
            case _Attempt.FIRST if self._tries_mqtt5 and not self._has_accepted_mqtt5:
                self._attempt = _Attempt.PROBE
            case _Attempt.AGAIN:
                self._attempt = _Attempt.FALLBACK
            case _:
                self._attempt = _Attempt.FIRST
        return self._attempt is not _Attempt.FIRST

    def begin(self) -> None:
        """Begin anew: an accepted connection has ended, or no connection could be opened."""
        self._attempt = _Attempt.FIRST
