"""Addresses of receivers: resolved once, and refused unless they are public.

The caller connects to the returned address, not to the name: a name that resolves to another address a
moment later (DNS rebinding) gains nothing.
"""

import ipaddress
import socket

from mqtt_presence.errors import ConfigError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotPublicError(ConfigError):
    """A receiver's name has only addresses of this machine or of private networks."""


def is_public(text: str) -> bool:
    """Return whether an address belongs to the public internet, through no tunnel to another one."""
    address = _inner(ipaddress.ip_address(text.partition("%")[0]))
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, if it leads to one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


Found = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]
"""A family of addresses, and an address to connect to."""


def resolve(host: str, port: int, *, private: bool) -> list[Found]:
    """Return the addresses of a host that may be used.

    Args:
        host: a name or an address.
        port: of the receiver.
        private: addresses that are not public are allowed too.

    Raises:
        OSError: the name cannot be resolved.
        NotPublicError: no address may be used.

    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(0, "its name is no host name") from error
    allowed: list[Found] = [
        (family, address)  # type: ignore[misc]  # of a Python without IPv6
        for family, _, _, _, address in found
        if private or is_public(str(address[0]))
    ]
    if not allowed:
        raise NotPublicError("its address is not public: set notify_private = true to allow that")
    return allowed
