"""IP addresses and host names in one spelling each, so that equal addresses compare as equal. Pure."""

import ipaddress
import re
from urllib.parse import urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_BESIDE_PORT = re.compile(r"(?P<bare>[^:\[\]]+):\d{1,5}|\[(?P<bracketed>[^\[\]]+)\](?::\d{1,5})?")


def parse_address(text: str) -> IpAddress | None:
    """Read an IP address, one of IPv6 with or without brackets.

    Returns:
        The address; None if the text is no address. An IPv6 address that maps an IPv4 address gives the
        latter (RFC 4291 §2.5.5.2), since a dual-stack socket reports IPv4 clients in that way.

    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_node(text: str) -> IpAddress | None:
    """Read an address from a proxy's header, perhaps with quotes, brackets or a port (RFC 7239 §6).

    Returns:
        The address; None if the text has no address.

    """
    text = text.strip().strip('"')
    found = _BESIDE_PORT.fullmatch(text)
    return parse_address(text if found is None else found["bare"] or found["bracketed"])


def plain_address(text: str) -> str:
    """Return an address in its canonical spelling, and any other text unchanged."""
    address = parse_address(text)
    return text if address is None else str(address)


def is_loopback(host: str | None) -> bool:
    """Return whether a host, given as name or address, is reachable from this machine only."""
    if host is None:
        return False
    if host.lower().removesuffix(".") == "localhost":
        return True
    address = parse_address(host)
    return address is not None and address.is_loopback


def is_local_name(host: str) -> bool:
    """Return whether browsers resolve a name, given without a port, to this machine without DNS."""
    return is_loopback(host) or host.lower().removesuffix(".").endswith(".localhost")


def plain_host(host: str) -> str:
    """Return a host in the canonical spelling of URLs: a name in lower case, an IPv6 address in brackets."""
    address = parse_address(host)
    if address is None:
        return host.lower()
    return f"[{address}]" if address.version == 6 else str(address)


def plain_origin(origin: str) -> str | None:
    """Return an origin in its canonical spelling: lower case, without the default port (RFC 6454).

    Returns:
        ``http[s]://host[:port]``; None if the text has another form.

    """
    if not origin.isprintable() or " " in origin:  # urlsplit would remove some of these characters
        return None
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:  # a misplaced bracket, or a port with letters
        return None
    if parts.scheme not in _PORTS or not host or parts.path or parts.query or parts.fragment or "@" in origin:
        return None
    shown_port = "" if port in (None, _PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{plain_host(host)}{shown_port}"


def local_address(host: str) -> str:
    """Return the address at which programs on this machine reach a listening socket.

    Args:
        host: the host that the socket listens on; empty: all IPv4 addresses.

    Returns:
        The host itself, an IPv6 address without brackets; the loopback address for a socket on all addresses.

    """
    address = parse_address(host or "0.0.0.0")  # noqa: S104, the meaning of an empty host
    if address is None:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return str(address)


def network_of(address: str) -> str:
    """Return the network of one subscriber: an IPv4 address itself, or the /64 of an IPv6 address."""
    parsed = parse_address(address)
    if parsed is None:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
