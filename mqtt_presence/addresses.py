"""IP addresses and host names, each in one spelling, so that two spellings of one address are equal. Pure."""

import ipaddress
import re

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_BESIDE_PORT = re.compile(r"(?P<bare>[^:\[\]]+):\d{1,5}|\[(?P<bracketed>[^\[\]]+)\](?::\d{1,5})?")


def parse_address(text: str) -> IpAddress | None:
    """Read an IP address, one of IPv6 with or without brackets.

    Returns:
        The address, None if the text is none. An IPv6 address that stands for an IPv4 address is read as the
        latter (RFC 4291 §2.5.5.2): a socket for both reports IPv4 clients in that way.

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
    """Read an address as proxies report it: perhaps in quotes, in brackets, or with a port (RFC 7239 §6).

    Returns:
        The address, None if there is none in the text.

    """
    text = text.strip().strip('"')
    found = _BESIDE_PORT.fullmatch(text)
    return parse_address(text if found is None else found["bare"] or found["bracketed"])


def plain_address(text: str) -> str:
    """Return an address in its one spelling, and any other text unchanged."""
    address = parse_address(text)
    return text if address is None else str(address)


def is_loopback(host: str | None) -> bool:
    """Return whether a host, a name or an address, can be reached from this machine alone."""
    if host is None:
        return False
    if host.lower().removesuffix(".") == "localhost":
        return True
    address = parse_address(host)
    return address is not None and address.is_loopback


def nearby(host: str) -> str:
    """Return where programs on this machine find a socket that listens on a host.

    Args:
        host: the host to listen on; empty: all of IPv4.

    Returns:
        The host itself, an IPv6 address without brackets; for "all addresses", the loopback address.

    """
    address = parse_address(host or "0.0.0.0")  # noqa: S104, the meaning of an empty host
    if address is None:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return str(address)
