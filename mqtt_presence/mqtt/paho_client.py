"""The set-up that all paho clients of this package share: broker, user, TLS, and writing to the socket."""

import socket
import ssl
from typing import Any, Literal

from paho.mqtt.client import Client

from mqtt_presence.mqtt.paho_sockets import without_wrapper
from mqtt_presence.mqtt.url import BrokerUrl


def transport(url: BrokerUrl) -> Literal["tcp", "websockets"]:
    """Return the transport of a URL for paho's constructor."""
    return "websockets" if url.websockets else "tcp"


def prepare(client: Client, url: BrokerUrl, *, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
    """Set up a client for a broker.

    Args:
        client: made with the `transport` of the URL, and not connected yet.
        url: of the broker, with user and password.
        timeout_s: seconds for each step of the broker until the client is connected.
        tls: the context of an encrypted connection; None: no encryption, or the caller sets the context.

    """
    client.connect_timeout = timeout_s
    if url.username is not None:
        client.username_pw_set(url.username, url.password)
    if url.websockets:
        # paho omits the brackets of IPv6
        client.ws_set_options(url.path, {"Host": f"[{url.host}]:{url.port}"} if ":" in url.host else None)
    if tls is not None:
        client.tls_set_context(tls)
    client.on_socket_open = _send_without_delay
    # With these callbacks paho leaves writing to the thread that serves the connection. Packets then share
    # system calls, and a thread that only publishes makes none.
    client.on_socket_register_write = _ignore
    client.on_socket_unregister_write = _ignore


def _send_without_delay(_client: Client, _data: object, sock: Any) -> None:
    # With Nagle's algorithm every answer waits 5 to 40 ms for the acknowledgement of the previous one.
    without_wrapper(sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _ignore(*_: Any) -> None:
    pass
