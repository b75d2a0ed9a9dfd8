"""The page behind a real nginx with the configuration in docs/web.md, at a free port."""

import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from mqtt_presence.embedded import add_user
from mqtt_presence.tools.init_broker.certificates import Authority
from tests.support.waiting import free_port, listens, until
from tests.support.web import Page, mqtt_connect

NAME = "presence.example"
DOCUMENTED = (Path(__file__).parents[2] / "docs/web.md").read_text()
VISITOR = "127.0.0.7"


def documented(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENTED, re.DOTALL)
    assert found is not None
    return found[1]


class Proxied:
    """nginx in front of a page, both with the documented lines.

    Args:
        directory: for the files of both.

    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.origin = f"https://{NAME}:{self.port}"
        self._directory = directory
        add_user(directory / "passwords", "alice", "right")
        settings = documented("toml")
        assert settings.count(f'"https://{NAME}"') == 1
        (directory / "up.toml").write_text(settings.replace(f"https://{NAME}", self.origin))
        self.page = Page(
            directory, "up", "--config", str(directory / "up.toml"),
            "--password-file", str(directory / "passwords"),
        )  # fmt: skip
        self._nginx: subprocess.Popen[bytes] | None = None
        authority = Authority()
        server = authority.server((NAME,))
        (directory / "server.crt").write_bytes(server.certificate)
        (directory / "server.key").write_bytes(server.key)
        self._trust = ssl.create_default_context(cadata=authority.pem.certificate.decode())

    def start(self) -> None:
        lines = documented("nginx")
        changes = {
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
            "# ssl_certificate …; ssl_certificate_key …;": "ssl_certificate server.crt; ssl_certificate_key server.key;",
            "127.0.0.1:8080": f"127.0.0.1:{self.page.port}",
        }
        for old, new in changes.items():
            assert lines.count(old) == 1, old
            lines = lines.replace(old, new)
        server, _, for_http = lines.partition("# in http { }:")
        places = "".join(
            f"{kind}_temp_path {kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self._directory / "nginx.conf").write_text(
            "daemon off; master_process off; pid nginx.pid; error_log stderr; events {}\n"
            f"http {{ access_log off; client_header_timeout 1s; {places} {for_http} {server} }}\n"
        )
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        command = [binary, "-p", str(self._directory), "-c", "nginx.conf", "-e", "stderr"]
        with (self._directory / "nginx.log").open("wb") as log:
            self._nginx = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        until(lambda: listens(self.port), f"nginx listens\n{(self._directory / 'nginx.log').read_text()}")

    def close(self) -> None:
        if self._nginx is not None:
            self._nginx.kill()
            self._nginx.wait(10)

    def connection(self) -> socket.socket:
        """Connect as a visitor with an address of its own."""
        return socket.create_connection(("127.0.0.1", self.port), 10, source_address=(VISITOR, 0))

    def tls_connection(self) -> ssl.SSLSocket:
        return self._trust.wrap_socket(self.connection(), server_hostname=NAME)

    def get(self, path: str) -> tuple[int, str]:
        """Send a request as a browser does; return the status and the security policy of the answer."""
        http = HTTPSConnection(NAME, self.port)
        http.sock = self.tls_connection()
        http.request("GET", path, headers={"Host": f"{NAME}:{self.port}", "Origin": self.origin})
        answer = http.getresponse()
        http.close()
        return answer.status, answer.headers["content-security-policy"]

    def mqtt(self, password: str, origin: str = "") -> bytes:
        """Connect to MQTT as the page does; return the answer of the broker."""
        with connect(
            f"wss://{NAME}:{self.port}/mqtt",
            sock=self.connection(),
            ssl=self._trust,
            server_hostname=NAME,
            origin=Origin(origin or self.origin),
            subprotocols=[Subprotocol("mqtt")],
        ) as websocket:
            websocket.send(mqtt_connect("tab", "alice", password))
            answer = websocket.recv()
            assert isinstance(answer, bytes)
            return answer


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    proxy = Proxied(tmp_path_factory.mktemp("nginx"))
    with proxy.page:
        try:
            proxy.start()
            yield proxy
        finally:
            proxy.close()


def test_one_origin_is_enough(proxied: Proxied) -> None:
    """Page, API and WebSocket answer under the address that browsers use, with its port."""
    status, policy = proxied.get("/")
    assert status == 200
    assert f"wss://{NAME}:{proxied.port}" in policy
    assert proxied.get("/api/config")[0] == 200
    assert proxied.mqtt("right") == b"\x20\x02\x00\x00"


def test_pages_at_other_ports_are_refused(proxied: Proxied) -> None:
    """The same name at another port is another site."""
    for origin in (f"https://{NAME}", f"https://{NAME}:1", "https://elsewhere.example"):
        with pytest.raises(InvalidStatus) as refused:
            proxied.mqtt("right", origin)
        assert refused.value.response.status_code == 403


def test_visitors_have_addresses_of_their_own(proxied: Proxied) -> None:
    """The broker logs the address that nginx reports."""
    assert proxied.mqtt("wrong") == b"\x20\x02\x00\x05"
    until(lambda: f"address={VISITOR} user='alice'" in proxied.page.log(), proxied.page.log())


def test_half_a_request_ends_at_the_proxy(proxied: Proxied) -> None:
    """Nginx closes it after `client_header_timeout`; the page's server never sees it."""
    with proxied.tls_connection() as slow:
        slow.settimeout(20)
        slow.sendall(b"GET / HTTP/1.1\r\nHost:")
        while slow.recv(4096):
            pass
    assert proxied.get("/")[0] == 200
