"""The way to the broker of the commands that are clients: where and as whom the settings say."""

from mqtt_presence.client.connect_arguments import Endpoint, make_endpoint
from mqtt_presence.settings import Settings, path_text


def endpoint_of(settings: Settings, client_id: str | None = None) -> Endpoint:
    """Say where and how to connect.

    Args:
        settings: they have the broker with user and password.
        client_id: None: a random one.

    Raises:
        ConfigError: one of them is wrong, or a file of certificates cannot be used.

    """
    return make_endpoint(
        settings.broker,
        user=None,
        password=None,
        client_id=client_id,
        keep_alive=settings.keep_alive,
        ca_file=path_text(settings.ca_file),
        cert_file=path_text(settings.cert_file),
        key_file=path_text(settings.key_file),
        reconnect_min=1.0,
        reconnect_max=1.0,
    )
