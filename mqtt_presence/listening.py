"""Listening sockets, bound where the caller hears of a port in use; and what loopback means."""

import errno
import ipaddress
import socket

_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - what an empty host has always meant


def is_loopback(host: str | None) -> bool:
    """Say whether a host, a name or an address, is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address((host or "").strip("[]")).is_loopback
    except ValueError:
        return False


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
    # What it accepts inherits this; asyncio leaves it off, and every answer would wait 40 ms for the next.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def cannot_listen(host: str, setting: str, port: int, error: Exception) -> str:
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
