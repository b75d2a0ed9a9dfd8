"""Which name a request may use for this server, and which pages may speak to it; pure.

A browser carries any page's requests to this machine. Two headers that pages cannot forge tell them apart:
``Origin`` names the page, and ``Host`` unmasks a stranger's name that was made to point here (DNS rebinding).
"""

import re
from urllib.parse import urlsplit

from mqtt_presence.web.config import WebConfig, is_local_name

_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")


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
    name = found["name"]
    if is_local_name(name) or host.lower() in _hosts(config):
        return None
    if not config.is_local and _is_address(name):
        return None  # an address needs no DNS, so nobody can have bent it
    return f"this server is not known as {host}: if it is meant to be, set web_origin=https://{host}"


def refuse_origin(config: WebConfig, host: str, origin: str | None) -> str | None:
    """Say why a page must not speak to us; None: it may.

    Args:
        config: the server's.
        host: the ``Host`` header.
        origin: the ``Origin`` header; None: there is none, so it is no page of another site.

    """
    if origin is None or origin.lower() in config.origins:
        return None
    # The scheme is not compared: behind a proxy that ends TLS it is another one, and the host is what counts.
    if origin.lower().startswith(("http://", "https://")) and urlsplit(origin.lower()).netloc == host.lower():
        return None
    return (
        f"pages of {origin[:200]} may not connect here: if they are meant to, set web_origin={origin[:200]}"
    )


def is_host(host: str) -> bool:
    """Say whether it has the shape of a ``Host`` header, so that it can be named in a policy."""
    return _HOST.fullmatch(host.lower()) is not None


def socket_origin(mqtt_url: str) -> str:
    """Return the part of a WebSocket URL that a page's policy names."""
    parts = urlsplit(mqtt_url)
    return f"{parts.scheme}://{parts.netloc}"


def _hosts(config: WebConfig) -> set[str]:
    return {urlsplit(origin).netloc for origin in config.origins}


def _is_address(name: str) -> bool:
    return name.startswith("[") or re.fullmatch(r"\d+\.\d+\.\d+\.\d+", name) is not None
