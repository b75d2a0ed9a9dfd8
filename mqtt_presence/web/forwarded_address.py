"""The address of a client behind a reverse proxy, from ``X-Forwarded-For``. Pure.

No other module reads that header, and this one only with the setting `web_proxy`.
"""

from collections.abc import Mapping

from mqtt_presence.mqtt.addresses import is_loopback, parse_node, plain_address
from mqtt_presence.web.config import WebConfig

_HEADER = "x-forwarded-for"


def client_address(config: WebConfig, network_address: str, headers: Mapping[str, str]) -> str:
    """Return the address of a client, to be recorded and to be counted for wrong passwords.

    A proxy appends the address of its client. The client may have written the addresses before it.

    Args:
        config: the configuration of the web server.
        network_address: the address of the network connection.
        headers: the headers of the request by lower-case name.

    """
    network_address = plain_address(network_address)
    if not config.proxy or not is_loopback(network_address):
        return network_address
    forwarded = parse_node(headers.get(_HEADER, "").rpartition(",")[2])
    # Without an address in the header, a program on this machine has connected, or the proxy adds none.
    return network_address if forwarded is None else str(forwarded)
