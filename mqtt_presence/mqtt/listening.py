"""Listening sockets, and the addresses of this machine."""

import errno
import fcntl
import ipaddress
import socket
import struct
from contextlib import suppress
from pathlib import Path

from mqtt_presence.mqtt.addresses import is_loopback, parse_address

_SIOCGIFADDR = 0x8915
"""netdevice(7)"""
_IPV6_ADDRESSES = Path("/proc/net/if_inet6")

PROBE_AFTER_S = 60
"""Seconds without data after which the kernel probes the other end (TCP keepalive)."""
PROBE_EVERY_S = 15
"""Seconds between two probes."""
SILENCE_S = 120
"""Seconds after which the kernel ends a connection whose other end answers no probe or takes no data."""
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - the meaning of an empty host


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: a name or an address, an IPv6 address with or without brackets; empty: all IPv4 addresses.
        port: 0 takes any free one.

    Raises:
        OSError: the port is not available; `explain_listen_error` gives the reason.
        OverflowError: the port number is too large.

    """
    found = socket.getaddrinfo(host.strip("[]") or _ANY_ADDRESS, port, type=socket.SOCK_STREAM)
    # "localhost" may give ::1 first, while most clients try 127.0.0.1.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    dual = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    server = socket.create_server(address[:2], family=family, backlog=1024, dualstack_ipv6=dual)
    _set_options(server)
    return server


def _set_options(server: socket.socket) -> None:
    """Set the options that accepted connections inherit."""
    # asyncio leaves it off for these sockets, and every answer would wait 40 ms for the next.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A machine without power closes no connection, and a client with keep alive 0 need not send any packet.
    server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S)
    # The default repeats unacknowledged data for 15 minutes. This option overrides TCP_KEEPCNT.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)


def network_addresses() -> list[str]:
    """Return the addresses at which other machines may reach this one; Linux only.

    Of several IPv4 addresses of one interface, only the first is returned.
    """
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # the interface has no IPv4 address
                answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                found.append(socket.inet_ntop(socket.AF_INET, answer[20:24]))
    with suppress(FileNotFoundError):  # a kernel without IPv6
        for line in _IPV6_ADDRESSES.read_text().splitlines():
            digits, *_, name = line.split()
            address = ipaddress.IPv6Address(int(digits, 16))
            found.append(f"{address}%{name}" if address.is_link_local else str(address))
    return [address for address in found if not is_loopback(address)]


def addresses_for_others(host: str) -> list[str]:
    """Return the addresses at which other machines may reach a socket; none on loopback.

    Args:
        host: the host that the socket listens on; empty: all IPv4 addresses.

    """
    address = parse_address(host or _ANY_ADDRESS)
    if address is None:
        return [] if is_loopback(host) else [host]
    if not address.is_unspecified:
        return [] if address.is_loopback else [str(address)]
    # A browser takes no address with a zone, and on an IPv6 socket both versions arrive.
    return [
        found
        for found in network_addresses()
        if "%" not in found and (address.version == 6 or ":" not in found)
    ]


def accepts(address: str, port: int, timeout_s: float) -> bool:
    """Return whether a program accepts connections at an address and a port."""
    try:
        socket.create_connection((address, port), timeout_s).close()
    except OSError:
        return False
    return True


def explain_listen_error(host: str, setting: str, port: int, error: Exception) -> str:
    """Return one sentence on why a port is not available, with the remedy.

    Args:
        host: the host to listen on.
        setting: the name of the port's setting.
        port: its value.
        error: from `listen`.

    """
    where = f"{setting}={port} on {host}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program: stop that program, or choose another {setting}"
    if isinstance(error, PermissionError):
        return f"{where} is not allowed to this user: choose a {setting} above 1023"
    return f"cannot listen with {where}: {error}"
