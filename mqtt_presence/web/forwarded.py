"""Who is behind a reverse proxy: the one place that believes ``X-Forwarded-For``, if told to; pure."""

import ipaddress
from collections.abc import Mapping

from mqtt_presence.listening import is_loopback
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
    peer = peer.removeprefix("::ffff:")
    if not config.proxy or not is_loopback(peer):
        return peer
    last = headers.get(_HEADER, "").rpartition(",")[2].strip()
    try:
        address = ipaddress.ip_address(last.strip("[]").removeprefix("::ffff:"))
    except ValueError:  # there is none: the proxy's fault, or somebody on this machine asks
        return peer
    return str(address)
