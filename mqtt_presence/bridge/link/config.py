"""The configuration of the link: values only."""

from dataclasses import dataclass, field

from mqtt_presence.mqtt.url import BrokerUrl

RECEIVE_MAXIMUM = 20_000
"""Messages that the broker may send before an acknowledgement; by default mosquitto sends 20, queues 1,000
more and drops all later ones."""


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """Where to connect, and as which client.

    Args:
        url: the broker.
        client_id: must never change: the broker finds the session by it.
        keep_alive_s: seconds, at most 65535.
        ca_file: certificates to trust instead of the system's, PEM.
        cert_file: the bridge's certificate, PEM.
        key_file: its key, PEM.
        mqtt5: try MQTT 5; False: the broker is known to speak MQTT 3.1.1 only.

    """

    url: BrokerUrl
    client_id: str = field(repr=False)  # a client that knows it can take the bridge's connection over
    keep_alive_s: int = 30
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    mqtt5: bool = True
