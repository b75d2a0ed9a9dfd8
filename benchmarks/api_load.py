"""The HTTP API beside a million users: a page of a list, a single user, the counts, the begin of a stream."""

import http.client
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mqtt_presence.store import Store
from mqtt_presence.web import WebConfig, WebServer

USERS = 1_000_000
EACH = 10
"""Each tenth user is online."""
SAMPLES = 200
COUNTS = 10


def api(name: str) -> dict[str, float]:
    """Medians over SAMPLES requests, one after the other."""
    del name
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "presence.db")
        store = Store(f"sqlite:///{file}")
        store.open()
        store.close()
        _populate(file)
        with WebServer(WebConfig(f"sqlite:///{file}", port=0, mqtt_url="ws://127.0.0.1:1/")) as page:
            return {
                "page of 100, p50 ms": _median(page.port, _get("users?after=dXNlci01MDAwMDA&limit=100")),
                "page of 100 online, p50 ms": _median(
                    page.port, _get("users?state=online&prefix=user-7&limit=100")
                ),
                "one user, p50 ms": _median(page.port, _get("users/user-123456")),
                "counts, p50 ms": _median(page.port, _get("counts"), COUNTS),
                "first event of a stream, p50 ms": _median(page.port, _first_event),
            }


def _populate(file: Path) -> None:
    now = time.time_ns() // 1_000_000
    with closing(sqlite3.connect(file)) as database:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1) "
            "INSERT INTO user_states "
            "(user_id, state, online, idle, since, connections, last_login, last_login_order, last_seen, "
            "version) "
            "SELECT 'user-' || i, iif(i % ? = 0, 'online', 'offline'), i % ? = 0, iif(i % ? = 0, 0, NULL), "
            "?, i % ? = 0, ?, ?, ?, 1 FROM n",
            (USERS, EACH, EACH, EACH, now, EACH, now, now, now),
        )
        database.commit()


def _get(resource: str) -> Callable[[int], None]:
    def ask(port: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request("GET", f"/api/v1/{resource}")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{resource}: {answer.status} {body[:200]!r}")

    return ask


def _first_event(port: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/api/v1/stream?users=user-123456")
        answer = connection.getresponse()
        while not answer.readline().startswith(b"data:"):
            pass


def _median(port: int, ask: Callable[[int], None], samples: int = SAMPLES) -> float:
    took = []
    for _ in range(samples):
        began = time.perf_counter()
        ask(port)
        took.append(time.perf_counter() - began)
    return sorted(took)[len(took) // 2] * 1e3
