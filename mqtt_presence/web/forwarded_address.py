"""Who is behind a reverse proxy: the one place that believes ``X-Forwarded-For``, if told to; pure."""

from collections.abc import Mapping

from mqtt_presence.mqtt.addresses import is_loopback, parse_node, plain_address
from mqtt_presence.web.config import WebConfig

_HEADER = "x-forwarded-for"


def address_of(config: WebConfig, peer: str, headers: Mapping[str, str]) -> str:
    """Return the address to count and to show.

    Proxies add who has come to them at the end; what stands before it anybody may have written.

    Args:
        config: the server's.
        peer: the address of the connection.
        headers: of the request, by lower-case name.

    """
    peer = plain_address(peer)
    if not config.proxy or not is_loopback(peer):
        return peer
    address = parse_node(headers.get(_HEADER, "").rpartition(",")[2])
    # Without an address it is the proxy's fault, or a program on this machine asks.
    return peer if address is None else str(address)
