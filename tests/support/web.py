"""The command with its page as a process, and requests to it as from a browser, curl or an attacker."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from tests.support.waiting import free_port, until


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        kind = "application/json" if self.status < 400 else "application/problem+json"
        assert self.headers["content-type"] == kind, self
        return json.loads(self.body)


def get(
    port: int,
    path: str,
    *,
    method: str = "GET",
    host: str | None = None,
    version: str = "",
    body: bytes | None = None,
    **headers: str,
) -> Answer:
    """Send a request for a path without encoding it; header names have _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    if version:
        connection._http_vsn, connection._http_vsn_str = 10, version
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", f"127.0.0.1:{port}" if host is None else host)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        response = connection.getresponse()
        body = response.read()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, body)
    finally:
        connection.close()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class Page:
    """A running command with its page.

    Args:
        directory: its own.
        command: ``up`` or ``run``, with flags.
        variables: settings as variables.

    """

    def __init__(self, directory: Path, *command: str, **variables: str) -> None:
        self.mqtt_port = free_port()
        self.log_file = directory / "page.log"
        ports = ["--port", str(self.mqtt_port), "--ws-port", "0"] if command[0] == "up" else ["--web"]
        self._command = [sys.executable, "-m", "mqtt_presence", *command, *ports, "--web-port", "0"]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MQTT_PRESENCE_", "XDG_"))}
        self._environment = kept | {"XDG_DATA_HOME": str(directory), "TZ": "UTC"} | variables
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)
        until(lambda: self.poll() is not None or "connected to" in self.log(), f"it is up: {self.log()}")
        found = re.search(r"http://(?:127\.0\.0\.1|\[::1\]):(\d+)/", self.log())
        assert found is not None, self.log()
        self.port = int(found[1])
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)

    def poll(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def stop(self) -> int:
        """Stop the command as an operator does; return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def get(self, path: str, **headers: Any) -> Answer:
        return get(self.port, path, **headers)

    def api(self, *path: str, headers: dict[str, str] | None = None, **query: object) -> Answer:
        """Send a request to the API, with names and values encoded."""
        asked = "/".join(quote(part, safe="") for part in ("api", *path))
        return self.get(f"/{asked}" + (f"?{urlencode(query)}" if query else ""), **(headers or {}))

    def websocket(
        self, *, host: str | None = None, origin: str | None = None, subprotocol: str | None = "mqtt"
    ) -> ClientConnection:
        return websocket(self.port, host=host, origin=origin, subprotocol=subprotocol)


def websocket(
    port: int,
    *,
    host: str | None = None,
    origin: str | None = None,
    subprotocol: str | None = "mqtt",
    forwarded: str | None = None,
) -> ClientConnection:
    """Open a WebSocket for MQTT."""
    return connect(
        f"ws://{host or f'127.0.0.1:{port}'}/mqtt",
        sock=socket.create_connection(("127.0.0.1", port), 10),
        origin=None if origin is None else Origin(origin),
        subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
        additional_headers=None if forwarded is None else {"X-Forwarded-For": forwarded},
        compression=None,
        max_size=None,
        ping_interval=None,
    )


def mqtt_connect(client_id: str, user: str = "alice", password: str | None = None) -> bytes:
    """Write a CONNECT of MQTT 3.1.1 with a user name."""
    texts = [client_id, user] if password is None else [client_id, user, password]
    head = b"\0\4MQTT\4" + (b"\x82" if password is None else b"\xc2") + b"\0\x3c"
    body = head + b"".join(len(text.encode()).to_bytes(2) + text.encode() for text in texts)
    return bytes((0x10, len(body))) + body


def raw_websocket(port: int) -> socket.socket:
    """Open a WebSocket without a library, so that pings stay unanswered and data unread."""
    sock = socket.create_connection(("127.0.0.1", port), 10)
    sock.sendall(
        f"GET /mqtt HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return sock


def frame(data: bytes, opcode: int = 2) -> bytes:
    """Return a client's frame of at most 125 bytes, with a mask of zeros."""
    return bytes((0x80 | opcode, 0x80 | len(data))) + bytes(4) + data
