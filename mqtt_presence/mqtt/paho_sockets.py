"""The sockets of paho clients, below TLS and WebSocket."""

import os
import socket
from typing import Any


def has_buffered(sock: Any) -> bool:
    """Return whether TLS has decrypted bytes that were not read; ``poll`` does not report them."""
    pending = getattr(sock, "pending", None)
    return pending is not None and pending() > 0


def duplicate(sock: Any) -> socket.socket:
    """Return a socket object for the TCP connection below TLS and WebSocket; closing it leaves that open."""
    return socket.socket(fileno=os.dup(sock.fileno()))


def without_wrapper(sock: Any) -> Any:
    """Return the TCP or TLS socket below paho's WebSocket wrapper."""
    return getattr(sock, "_socket", sock)
