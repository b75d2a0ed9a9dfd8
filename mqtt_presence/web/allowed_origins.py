"""Which name a request may use for this server, and which pages may speak to it; pure.

A browser carries any page's requests to this machine. Two headers that pages cannot forge tell them apart:
``Origin`` names the page, and ``Host`` unmasks a stranger's name that was made to point here (DNS rebinding).
"""

import re
from urllib.parse import urlsplit

from mqtt_presence.mqtt.addresses import is_local_name, parse_address, plain_host, plain_origin
from mqtt_presence.web.config import WebConfig

_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?P<port>:\d{1,5})?")


def refuse_host(config: WebConfig, host: str) -> str | None:
    """Say why a request must not go on under the name that it uses for us; None: it may.

    The name counts where strangers could do something with it: where only this machine should come, and where
    the broker asks for no password.

    Args:
        config: the server's.
        host: the ``Host`` header.

    """
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return "the Host header is malformed"
    if not (config.is_local or config.open):
        return None
    name = plain_host(found["name"])
    # The port proves nothing: a stranger's name may point here with any. A proxy may leave it out.
    if is_local_name(name) or name in _names(config):
        return None
    if not config.is_local and parse_address(name) is not None:
        return None  # an address needs no DNS, so nobody can have bent it
    return f"this server is not known as {host}: if it is meant to be, set web_origin=https://{host}"


def refuse_origin(config: WebConfig, host: str, origin: str | None) -> str | None:
    """Say why a page must not speak to us; None: it may.

    Args:
        config: the server's.
        host: the ``Host`` header.
        origin: the ``Origin`` header; None: there is none, so it is no page of another site.

    """
    if origin is None or (named := plain_origin(origin)) in config.origins:
        return None
    # The scheme is not compared: behind a proxy that ends TLS it is another one, and the host is what counts.
    same = named is not None and plain_origin(f"{urlsplit(named).scheme}://{host}") == named
    if same and not _lacks_port(config, host):
        return None
    return (
        f"pages of {origin[:200]} may not connect here: if they are meant to, set web_origin={origin[:200]}"
    )


def socket_origin(mqtt_url: str) -> str:
    """Return the part of a WebSocket URL that a page's policy names."""
    parts = urlsplit(mqtt_url)
    return f"{parts.scheme}://{parts.netloc}"


def is_host(host: str) -> bool:
    """Say whether it has the shape of a ``Host`` header, so that it can be named in a policy."""
    return _HOST.fullmatch(host.lower()) is not None


def sockets_of(config: WebConfig, host: str) -> list[str]:
    """Return the WebSocket origins that a page's policy names for this server.

    Args:
        config: the server's.
        host: the ``Host`` header; a proxy may leave the port out, so the origins of its name count, too.

    """
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return []
    name = plain_host(found["name"])
    places = {urlsplit(origin).netloc for origin in config.origins if _name(origin) == name}
    return [f"{scheme}://{place}" for place in (host, *sorted(places - {host})) for scheme in ("ws", "wss")]


def _lacks_port(config: WebConfig, host: str) -> bool:
    """Return whether a proxy may have left the port out, so that the host alone does not tell the origin."""
    found = _HOST.fullmatch(host.lower())
    return found is not None and found["port"] is None and plain_host(found["name"]) in _names(config)


def _names(config: WebConfig) -> set[str]:
    return {_name(origin) for origin in config.origins}


def _name(origin: str) -> str:
    """Return the host of an origin as a ``Host`` header has it, without the port."""
    return plain_host(urlsplit(origin).hostname or "")
