"""Redeliveries: recognises messages that the broker delivers again after they were committed.

The rules make a second message harmless if it names its connection. A nameless message, or a report of the
broker, differs from a new one only in packet id and DUP flag: a session that continues sends each
unacknowledged message under its old packet id (MQTT 3.1.1 §4.4). `packet_id_journal` stores these packet ids.
"""

from mqtt_presence.mqtt.messages import Incoming, is_repetition


class Redeliveries:
    """The committed messages that may arrive again, by packet id."""

    def __init__(self) -> None:
        self.committed: dict[int, tuple[int, int]] = {}
        """The checksum and the number of the journal's entry of each message, by packet id."""

    def forget_packet_id(self, message: Incoming) -> None:
        """Forget the older message whose packet id a new message has; the new one need not be committed."""
        if message.qos and not message.dup:
            self.committed.pop(message.mid, None)

    def is_repeated(self, message: Incoming) -> bool:
        """Return whether a message is committed already."""
        return is_repetition(message, self.committed.get(message.mid))
