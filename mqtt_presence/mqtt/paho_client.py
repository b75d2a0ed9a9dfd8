"""What every paho client of ours is told: how to get to the broker, and that others do the writing."""

import socket
import ssl
from typing import Any, Literal

from paho.mqtt.client import Client

from mqtt_presence.mqtt.paho_sockets import without_wrapper
from mqtt_presence.mqtt.url import BrokerUrl


def transport(url: BrokerUrl) -> Literal["tcp", "websockets"]:
    """Name the transport of a URL as paho's constructor wants it."""
    return "websockets" if url.websockets else "tcp"


def prepare(client: Client, url: BrokerUrl, *, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
    """Tell a client how to get to the broker.

    Args:
        client: made with the `transport` of the URL, and not connected yet.
        url: with user and password.
        timeout_s: how long the broker may take for each step until it has accepted the connection, seconds.
        tls: None: not encrypted, or it is set elsewhere.

    """
    client.connect_timeout = timeout_s
    if url.username is not None:
        client.username_pw_set(url.username, url.password)
    if url.websockets:
        # paho forgets the brackets of IPv6
        client.ws_set_options(url.path, {"Host": f"[{url.host}]:{url.port}"} if ":" in url.host else None)
    if tls is not None:
        client.tls_set_context(tls)
    client.on_socket_open = _without_delay
    # With these set, paho leaves the writing to whoever serves the connection: there is no system call for
    # each packet, and none in a thread that only publishes.
    client.on_socket_register_write = _nothing
    client.on_socket_unregister_write = _nothing


def _without_delay(_client: Client, _data: object, sock: Any) -> None:
    # Else every answer waits for the acknowledgement of the one before: 5 to 40 ms.
    without_wrapper(sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _nothing(*_: Any) -> None:
    pass
