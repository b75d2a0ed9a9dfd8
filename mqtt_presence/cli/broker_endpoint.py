"""Endpoint of the broker for commands that connect to it, made from the settings."""

from mqtt_presence.client.connect_arguments import Endpoint, make_endpoint
from mqtt_presence.mqtt.broker_nodes import parse_nodes
from mqtt_presence.mqtt.reachable import first_reachable
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.settings import Settings, path_text


def broker_url(settings: Settings) -> BrokerUrl:
    """Return the broker's URL; of a cluster, that of the first node that accepts a connection."""
    return first_reachable(parse_nodes(settings.broker))


def endpoint_of(settings: Settings, client_id: str | None = None) -> Endpoint:
    """Return the endpoint to connect to.

    Args:
        settings: the broker's URL with user and password, the certificates and the keep alive.
        client_id: default: a random one.

    Raises:
        ConfigError: a setting is wrong, or a certificate file cannot be used.

    """
    return make_endpoint(
        broker_url(settings),
        client_id=client_id,
        keep_alive=settings.keep_alive,
        ca_file=path_text(settings.ca_file),
        cert_file=path_text(settings.cert_file),
        key_file=path_text(settings.key_file),
    )
