"""The first bytes that a paho client of this package sends to a server."""

import socket
import threading

import pytest

from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.client.network_connection import Hooks, NetworkConnection
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.tools.check.probe_client import ConnectOptions, Credentials, ProbeClient, UnreachableError


def bridge(url: BrokerUrl) -> None:
    link = Link(LinkConfig((url,), "bridge"), lambda: ("bridge/state", b""))
    link.poll(0, 1)
    link.close()


def check(url: BrokerUrl) -> None:
    with pytest.raises(UnreachableError):
        ProbeClient(Credentials(url), "check", ConnectOptions(), lambda *_: True).open()


def client(url: BrokerUrl) -> None:
    hooks = Hooks(
        will=lambda: None, up=lambda _: None, message=lambda *_: None, tick=lambda: None, down=lambda: None
    )
    with pytest.raises(BrokerError):
        NetworkConnection(Endpoint(url, "client", 30, None, 1.0, 1.0), hooks, 5.0).serve()


@pytest.mark.parametrize("connect", [bridge, check, client])
@pytest.mark.parametrize(
    ("family", "address", "host"),
    [(socket.AF_INET6, "::1", "[::1]"), (socket.AF_INET, "127.0.0.1", "127.0.0.1")],
)
def test_websocket_handshake_names_the_host(connect, family, address, host) -> None:
    """An IPv6 address has brackets in the Host header (RFC 9110 §7.2), otherwise proxies refuse the request."""
    said: list[bytes] = []
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                while b"\r\n\r\n" not in b"".join(said):
                    said.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 421 Misdirected Request\r\n\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        connect(BrokerUrl("ws", address, port, "/mqtt"))
        thread.join(10)
    lines = b"".join(said).decode().split("\r\n")
    assert lines[0] == "GET /mqtt HTTP/1.1"
    assert [line for line in lines if line.lower().startswith("host:")] == [f"Host: {host}:{port}"]
