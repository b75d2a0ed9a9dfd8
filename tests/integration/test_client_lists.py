"""EMQX's list of connected clients: recorded answers over a real socket, and a bridge whose absence lost reports."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mqtt_presence.adapters.brokers.emqx_clients import EmqxClients
from mqtt_presence.adapters.port import Connected
from mqtt_presence.bridge.config import Implicit
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.mqtt.url import BrokerUrl
from tests.support.held_bridge import INPUTS, HeldBridge
from tests.support.postgres import query
from tests.support.waiting import until

KEY, SECRET = "app", "s3cret-of-the-api"


def recorded(client_id: str, at: str, **fields: Any) -> dict[str, Any]:
    """A client as `GET /api/v5/clients` of EMQX 5 has it."""
    return {
        "node": "emqx@127.0.0.1", "clientid": client_id, "username": client_id.partition("-")[0],
        "ip_address": "192.0.2.1", "port": 54321, "proto_name": "MQTT", "proto_ver": 4, "keepalive": 60,
        "clean_start": True, "connected": True, "connected_at": at, "created_at": at, "is_bridge": False,
        "subscriptions_cnt": 0, "mqueue_len": 0, "inflight_cnt": 0, "zone": "default",
    } | fields  # fmt: skip


class Emqx:
    """Answers with pages of clients."""

    def __init__(self) -> None:
        self.pages: list[list[dict[str, Any]]] = [[]]
        self.broken: bytes | None = None
        self.asked = 0
        emqx = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                emqx.asked += 1
                expected = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
                if self.headers["Authorization"] != f"Basic {expected}":
                    self.send_error(401)
                    return
                number = int(parse_qs(urlsplit(self.path).query)["page"][0])
                meta = {"page": number, "limit": 1000, "hasnext": number < len(emqx.pages)}
                body = emqx.broken or json.dumps({"data": emqx.pages[number - 1], "meta": meta}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, secret: str = SECRET) -> str:
        return f"http://{KEY}:{secret}@127.0.0.1:{self.port}"


@pytest.fixture
def emqx() -> Iterator[Emqx]:
    made = Emqx()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_recorded_list_is_read(emqx: Emqx) -> None:
    """All pages; the time of the connect is the number that the events give, and bad names are left out."""
    emqx.pages = [
        [recorded("alice-1", "2024-01-30T15:20:05.123+08:00")],
        [
            recorded("nobody", "2024-01-30T07:20:05.000+00:00", username="undefined"),
            recorded("a/b", "2024-01-30T07:20:05.000+00:00"),
            recorded("gone", "2024-01-30T07:20:05.000+00:00", connected=False),
        ],
    ]
    assert EmqxClients(emqx.url()).read() == [
        Connected("alice-1", "alice", "192.0.2.1", 1706599205123),
        Connected("nobody", None, "192.0.2.1", 1706599205000),
    ]


def test_failures_are_errors_without_the_secret(emqx: Emqx) -> None:
    """A wrong key, junk, nobody there, a wrong URL."""
    with pytest.raises(BrokerError, match="401"):
        EmqxClients(emqx.url("wrong-secret")).read()
    emqx.broken = b"<html>"
    with pytest.raises(BrokerError) as error:
        EmqxClients(emqx.url()).read()
    assert SECRET not in str(error.value)
    for url in ("ftp://a:b@host", "http://host:18083", "http://app:s3cret@", "http://app:s3cret@[x"):
        with pytest.raises(ConfigError, match="implicit_list must be") as wrong:
            EmqxClients(url)
        assert "s3cret" not in str(wrong.value)


def event(client_id: str, what: str, at: int, **fields: Any) -> tuple[str, dict[str, Any]]:
    body = {"clientid": client_id, "username": client_id.partition("-")[0], "connected_at": at} | fields
    return f"$SYS/brokers/emqx@127.0.0.1/clients/{client_id}/{what}", body


def test_list_decides_after_an_absence(emqx: Emqx, sqlite_url: str) -> None:
    """EMQX keeps no reports. After a reconnect its list ends the record of who went, opens those of who came, and
    confirms the others; a failed question is asked again.
    """
    url = BrokerUrl.parse("mqtt://bridge@127.0.0.1:1883")
    held = HeldBridge(sqlite_url)
    held.start(
        link=lambda client_id: LinkConfig((url,), client_id, 30),
        source="emqx",
        implicit=Implicit("username", read_list=EmqxClients(emqx.url()).read),
    )
    held.connect()
    settle(held, emqx)
    held.step(held.messages(event("alice-1", "connected", 5_000), event("bob-1", "connected", 6_000)))
    held.step(seconds=2)
    held.step()
    assert {r["user_id"]: r["reason"] for r in records(sqlite_url)} == {"alice": None, "bob": None}
    emqx.broken = b"junk"
    held.step(Arrivals(connected=True, session_present=True, subscribed=[INPUTS]), seconds=60)
    settle(held, emqx)
    assert all(r["unconfirmed_since"] for r in records(sqlite_url))
    emqx.broken = None
    emqx.pages = [
        [
            recorded("alice-1", "1970-01-01T00:00:05.000+00:00"),
            recorded("carol-1", "1970-01-01T00:00:07.000+00:00"),
        ]
    ]
    held.clock.now_s += 31
    settle(held, emqx)
    held.step(seconds=2)
    held.step()
    found = {r["user_id"]: (r["reason"], r["unconfirmed_since"]) for r in records(sqlite_url)}
    assert found == {"alice": (None, None), "bob": ("lost", found["bob"][1]), "carol": (None, None)}
    held.step(held.messages(event("carol-1", "disconnected", 7_000, reason="normal")))
    held.step()
    assert [r["reason"] for r in records(sqlite_url) if r["user_id"] == "carol"] == ["logout"]


def settle(held: HeldBridge, emqx: Emqx) -> None:
    """Check until the list was asked for, and its answer is applied."""
    before = emqx.asked
    (asker,) = [part for part in held.loop._parts if type(part).__name__ == "ClientList"]

    def is_asked() -> bool:
        held.check()
        return emqx.asked > before and asker._thread is None

    until(is_asked, "the list is asked for")
    for _ in range(4):
        held.check()


def records(database: str) -> list[dict[str, Any]]:
    return query(database, "SELECT * FROM connections ORDER BY id")
