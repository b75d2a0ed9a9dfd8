"""Allowed hosts and origins: the names of this server, and the pages whose scripts may connect. Pure.

A browser sends requests of any page to this machine. Pages cannot forge two headers of them: ``Origin`` names
the page, and ``Host`` shows a foreign name that resolves to this machine (DNS rebinding).
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from mqtt_presence.mqtt.addresses import is_local_name, parse_address, plain_host, plain_origin
from mqtt_presence.web.config import WebConfig

_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?P<port>:\d{1,5})?")


def refuse_host(config: WebConfig, host: str) -> str | None:
    """Return the reason to refuse a request for the name that it uses, None to accept it.

    The name is checked where a foreign page could profit from another one: on loopback, and where the broker
    asks for no password.

    Args:
        config: the configuration of the web server.
        host: the ``Host`` header.

    """
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return "the Host header is malformed"
    if not (config.is_local or config.open):
        return None
    name = plain_host(found["name"])
    # The port is not compared: a foreign name may have any, and a proxy may leave the port out.
    if is_local_name(name) or name in _names(config):
        return None
    if not config.is_local and parse_address(name) is not None:
        return None  # DNS rebinding needs a name
    return f"this server is not known as {host}: if it is meant to be, set web_origin=https://{host}"


def refuse_origin(config: WebConfig, host: str, origin: str | None) -> str | None:
    """Return the reason to refuse a request for the page that sent it, None to accept it.

    Args:
        config: the configuration of the web server.
        host: the ``Host`` header.
        origin: the ``Origin`` header; None if there is none, as from programs and for our own page.

    """
    if origin is None or (named := plain_origin(origin)) in config.origins:
        return None
    # The scheme is not compared: a proxy that ends TLS changes it.
    same = named is not None and plain_origin(f"{urlsplit(named).scheme}://{host}") == named
    if same and not _lacks_port(config, host):
        return None
    return (
        f"pages of {origin[:200]} may not connect here: if they are meant to, set web_origin={origin[:200]}"
    )


def is_same_origin(config: WebConfig, host: str, headers: Mapping[str, str]) -> bool:
    """Return whether a request is from a page of this server, or from a program that is no browser.

    Browsers name the page in ``Origin`` with each request that changes something, and most of them compare it
    with the server themselves, in ``Sec-Fetch-Site``.

    Args:
        config: the configuration of the web server.
        host: the ``Host`` header.
        headers: the headers by lower-case name.

    """
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    found, named = _HOST.fullmatch(host.lower()), plain_origin(origin)
    if found is None or named is None:
        return False
    # A proxy may leave the port out of the host, so configured origins of the same name count, too.
    own = named in config.origins and _name(named) == plain_host(found["name"])
    return own or plain_origin(f"{urlsplit(named).scheme}://{host}") == named


def socket_origin(mqtt_url: str) -> str:
    """Return the origin of a WebSocket URL, as a content security policy has it."""
    parts = urlsplit(mqtt_url)
    return f"{parts.scheme}://{parts.netloc}"


def is_host(host: str) -> bool:
    """Return whether a text is a well-formed ``Host`` header, and so may be part of a policy."""
    return _HOST.fullmatch(host.lower()) is not None


def sockets_of(config: WebConfig, host: str) -> list[str]:
    """Return the WebSocket origins of this server for the page's policy.

    Args:
        config: the configuration of the web server.
        host: the ``Host`` header. A proxy may leave the port out, so
            configured origins of the same name count, too.

    """
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return []
    name = plain_host(found["name"])
    places = {urlsplit(origin).netloc for origin in config.origins if _name(origin) == name}
    return [f"{scheme}://{place}" for place in (host, *sorted(places - {host})) for scheme in ("ws", "wss")]


def _lacks_port(config: WebConfig, host: str) -> bool:
    """Return whether a proxy may have left the port out, so that the host does not give the origin."""
    found = _HOST.fullmatch(host.lower())
    return found is not None and found["port"] is None and plain_host(found["name"]) in _names(config)


def _names(config: WebConfig) -> set[str]:
    return {_name(origin) for origin in config.origins}


def _name(origin: str) -> str:
    """Return the host of an origin without the port, spelled as in a ``Host`` header."""
    return plain_host(urlsplit(origin).hostname or "")
