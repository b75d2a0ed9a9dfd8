"""Listening sockets, bound where the caller learns of a port in use; and where others reach this machine."""

import errno
import fcntl
import ipaddress
import socket
import struct
from contextlib import suppress
from pathlib import Path

from mqtt_presence.mqtt.addresses import is_loopback

_SIOCGIFADDR = 0x8915
"""netdevice(7)"""
_IPV6_ADDRESSES = Path("/proc/net/if_inet6")

PROBE_AFTER_S = 60
"""Seconds of silence after which the kernel asks a peer whether it is there (TCP keepalive)."""
PROBE_EVERY_S = 15
"""Seconds between two such questions."""
SILENCE_S = 120
"""Seconds after which the kernel ends a connection whose peer answers nothing, or takes no data."""
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - what an empty host has always meant


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: a name or an address, one of IPv6 in brackets or not; empty: all of IPv4.
        port: 0 takes any free one.

    Raises:
        OSError: it cannot be had; `cannot_listen` says why.
        OverflowError: there is no such port.

    """
    found = socket.getaddrinfo(host.strip("[]") or _ANY_ADDRESS, port, type=socket.SOCK_STREAM)
    # "localhost" may be ::1 first, while most clients try 127.0.0.1
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    dual = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    server = socket.create_server(address[:2], family=family, backlog=1024, dualstack_ipv6=dual)
    _set_options(server)
    return server


def _set_options(server: socket.socket) -> None:
    """Set what the accepted connections inherit."""
    # asyncio leaves it off, and every answer would wait 40 ms for the next.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer without power closes nothing, and a client with keep alive 0 owes the broker no sign of life.
    server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S)
    # Without it, data on its way would be sent again for 15 minutes. With it, TCP_KEEPCNT has no effect.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)


def network_addresses() -> list[str]:
    """Return the addresses at which other machines may reach this one; Linux only.

    Of several IPv4 addresses of one interface it finds the first.
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


def accepts(address: str, port: int, timeout_s: float) -> bool:
    """Return whether a program accepts connections at an address and a port."""
    try:
        socket.create_connection((address, port), timeout_s).close()
    except OSError:
        return False
    return True


def explain_listen_error(host: str, setting: str, port: int, error: Exception) -> str:
    """Say in one sentence why a port cannot be had, and what to do.

    Args:
        host: where.
        setting: what the port is called.
        port: its value.
        error: what `listen` raised.

    """
    where = f"{setting}={port} on {host}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program: stop that one, or choose another {setting}"
    if isinstance(error, PermissionError):
        return f"{where} is not allowed to this user: choose a {setting} above 1023"
    return f"cannot listen with {where}: {error}"
