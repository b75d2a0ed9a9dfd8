"""The configuration of the link: values only."""

from dataclasses import dataclass, field

from mqtt_presence.mqtt.url import BrokerUrl

RECEIVE_MAXIMUM = 20_000
"""Messages that the broker may send before an acknowledgement; by default mosquitto sends 20, queues 1,000
more and drops all later ones."""


MAX_PACKET = 64 * 1024
"""Bytes of a packet that is kept in memory; a larger one is skipped and refused. The largest payload of the
protocol, 8 KiB, has room with its topic and the properties of MQTT 5. Maximum Packet Size (MQTT 5
§3.1.2.11.4) is not requested: for each message that mosquitto drops for its sake, it sends one fewer at a
time, in the end none (docs/design.md)."""


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """Where to connect, and as which client.

    Args:
        nodes: the broker, or the nodes of its cluster, in the order of the attempts.
        client_id: must never change: the broker finds the session by it.
        keep_alive_s: seconds, at most 65535.
        ca_file: certificates to trust instead of the system's, PEM.
        cert_file: the bridge's certificate, PEM.
        key_file: its key, PEM.
        mqtt5: try MQTT 5; False: the broker is known to speak MQTT 3.1.1 only.
        max_packet: the largest packet that is kept in memory, bytes.

    """

    nodes: tuple[BrokerUrl, ...]
    client_id: str = field(repr=False)  # a client that knows it can take the bridge's connection over
    keep_alive_s: int = 30
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    mqtt5: bool = True
    max_packet: int = MAX_PACKET
