"""The API beside real brokers and on both databases: access, fields and complete lists."""

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.access.passwords import add_user
from mqtt_presence.protocol.times import to_iso
from mqtt_presence.rules.model import Connection, LastLogin, Outcome, Reason, State, Status, UserPresence
from mqtt_presence.store import Store
from tests.support.brokers import Mosquitto
from tests.support.postgres import query
from tests.support.waiting import free_port, now_ms, until
from tests.support.web import Page, basic, bearer

TOKEN = "0123456789abcdef"
DAY = 86_400_000
NAMES = ["<b>", "a b", "\N{LATIN SMALL LETTER E WITH ACUTE}", "..", "%2F", "a&b=c", "'x'--", "a%", "A%"]


def fill(database: str, now: int) -> None:
    """Save 1,300 connections of alice with nine clients and equal times, and a few of other users."""
    records = [
        Connection(
            user_id="alice",
            client_id=f"client-{n % 9}",
            connection_id=f"c{n}",
            last_seen=now - n,
            login_time=now - n // 7 * 60_000,
            login_order=now - n,
            opened_at=now - n,
            ip_addr="203.0.113.7",
            user_agent="<script>alert(1)</script>",
            idle=[None, True, False][n % 3],
            last_activity=now - n,
            logout_time=None if n < 5 else now - n // 7 * 60_000 + 30_000,
            reason=None if n < 5 else Reason.LOST,
            meta='{"n":1}' if n % 2 else None,
        )
        for n in range(1300)
    ]
    records += [
        Connection(user_id=name, client_id="phone", connection_id=f"of {name}", last_seen=now, login_time=now)
        for name in [*NAMES, *(f"user-{n}" for n in range(700))]
    ]
    by_user: dict[Any, list[Connection]] = {}
    for record in records:
        by_user.setdefault(record.user_id, []).append(record)
    login = LastLogin(order=now, date=now, ip_addr="203.0.113.7", user_agent="agent")
    status = Status(state=State.ONLINE, since=now, connections=1, last_login=login)
    store = Store(database)
    store.open()
    with store.transaction() as tx:
        tx.save(
            Outcome(
                user=UserPresence(user_id=user, status=status, version=1, last_seen=now),
                changed=tuple(of_user),
                touched=(),
                events=(),
                status_changed=True,
                ignored=(),
            )
            for user, of_user in by_user.items()
        )
    store.close()


@contextmanager
def run_beside_mosquitto(directory: Path, database: str, *more: str, **variables: str) -> Iterator[Page]:
    ws_port = free_port()
    listener = f"listener {ws_port} 127.0.0.1\nprotocol websockets"
    with Mosquitto(directory / "mosquitto", listener) as mosquitto:
        flags = (
            "--broker",
            mosquitto.url,
            "--database",
            database,
            "--web-mqtt-url",
            f"ws://127.0.0.1:{ws_port}/",
        )
        with Page(directory, "run", *flags, *more, **variables) as page:
            page.mqtt_port = ws_port
            yield page


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Page, str, int]]:
    """Run `run --web` with a token, on a database of either kind with a history."""
    directory = tmp_path_factory.mktemp("run")
    database = f"sqlite:///{directory / 'presence.db'}"
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres").database()
    now = now_ms() - 3 * DAY
    fill(database, now)
    with run_beside_mosquitto(directory, database, MQTT_PRESENCE_WEB_TOKEN=TOKEN) as page:
        yield page, database, now
        assert TOKEN not in page.log()
        assert "Traceback" not in page.log()


def walk(page: Page, *path: str, cursor: str, **query: object) -> Iterator[list[Any]]:
    """Yield the pages of a list."""
    while True:
        answer = page.api(*path, headers=bearer(TOKEN), **query)
        assert answer.status == 200, answer
        found, after = answer.json.values()
        yield found
        if after is None:
            return
        query[cursor] = after


def test_the_pages_of_a_timeline_are_complete(filled: tuple[Page, str, int]) -> None:
    """Each of 1,300 connections is listed once, the newest first, for any size of a page."""
    page, database, _ = filled
    rows = query(database, "SELECT * FROM connections WHERE user_id = 'alice'")
    expected = [r["connection_id"] for r in sorted(rows, key=lambda r: (-r["login_time"], -r["id"]))]
    for limit in (500, 137):
        pages = list(walk(page, "users", "alice", "connections", cursor="before", limit=limit))
        assert [len(p) for p in pages[:-1]] == [limit] * (len(pages) - 1)
        assert [c["connectionId"] for p in pages for c in p] == expected


def test_a_timeline_has_the_requested_range(filled: tuple[Page, str, int]) -> None:
    """A connection that overlaps the range is listed, open ones included."""
    page, database, now = filled
    since, until_ = now - 60 * 60_000, now - 30 * 60_000
    rows = query(database, "SELECT * FROM connections WHERE user_id = 'alice'")
    expected = {
        r["connection_id"]
        for r in rows
        if r["login_time"] <= until_ and (r["logout_time"] is None or r["logout_time"] >= since)
    }
    times = {"from": to_iso(since), "to": to_iso(until_)}
    pages = list(walk(page, "users", "alice", "connections", cursor="before", limit=50, **times))
    found = [c["connectionId"] for p in pages for c in p]
    assert set(found) == expected
    assert len(found) == len(expected) > 200


def test_the_pages_of_users_and_connections_are_complete(filled: tuple[Page, str, int]) -> None:
    """Each entry is listed once."""
    page, database, _ = filled
    users = [u["userId"] for p in walk(page, "users", cursor="after", limit=100) for u in p]
    assert sorted(users) == sorted(r["user_id"] for r in query(database, "SELECT user_id FROM users"))
    for is_open, where in (("true", "IS NULL"), ("false", "IS NOT NULL")):
        rows = query(database, f"SELECT user_id, connection_id FROM connections WHERE logout_time {where}")
        pages = walk(page, "connections", cursor="after", limit=77, open=is_open)
        found = [(c["userId"], c["connectionId"]) for p in pages for c in p]
        assert sorted(found) == sorted((r["user_id"], r["connection_id"]) for r in rows)
    ends = [c["logoutTime"] for c in next(walk(page, "connections", cursor="after", open="false"))]
    assert ends == sorted(ends, reverse=True)


def test_an_operator_sees_every_field(filled: tuple[Page, str, int]) -> None:
    """Fields are spelled as in docs/protocol.md; values are unchanged."""
    page, _, now = filled
    newest = page.api("users", "alice", "connections", headers=bearer(TOKEN), limit=7).json["connections"]
    assert next(c for c in newest if c["connectionId"] == "c5") == {
        "userId": "alice",
        "clientId": "client-5",
        "connectionId": "c5",
        "ipAddr": "203.0.113.7",
        "userAgent": "<script>alert(1)</script>",
        "loginTime": to_iso(now),
        "logoutTime": to_iso(now + 30_000),
        "lastSeen": to_iso(now - 5),
        "lastActivity": to_iso(now - 5),
        "idle": False,
        "reason": "lost",
        "meta": {"n": 1},
    }
    (user,) = page.api("users", headers=bearer(TOKEN), q="ALICE").json["users"]
    assert user["lastLogin"] == {"date": to_iso(now), "ipAddr": "203.0.113.7", "userAgent": "agent"}


@pytest.mark.parametrize("user", NAMES)
def test_hostile_names_are_found(filled: tuple[Page, str, int], user: str) -> None:
    """A name may be in a path, in a parameter and in a search."""
    page, _, _ = filled
    for answer in (
        page.api("users", user, "connections", headers=bearer(TOKEN)),
        page.api("connections", headers=bearer(TOKEN), user=user),
    ):
        assert [c["connectionId"] for c in answer.json["connections"]] == [f"of {user}"]
    found = page.api("users", headers=bearer(TOKEN), q=user).json["users"]
    assert user in [u["userId"] for u in found]
    assert all(user.lower() in u["userId"].lower() for u in found)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("users?limit=0", "limit='0' must be 1 to 500"),
        ("users?limit=501", "limit="),
        ("users?after=%00", "after must be"),
        ("users?q=%00", "q='\\x00' must be 1 to 128 characters"),
        ("users?stat=online", "'stat' is no parameter"),
        ("users?limit=1&limit=2", "twice"),
        ("users/a%00b/connections", "a user is 1 to 128 characters"),
        ("users/alice/connections?from=yesterday", "from='yesterday' must be a time"),
        (
            "users/alice/connections?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
            "from must not be later",
        ),
        ("users/alice/connections?before=1.99999999999999999999", "before must be"),
        ("connections?open=1", "open='1' must be true or false"),
        ("connections?open=true&after=5.YQ.YQ.x", "after must be"),
        ("connections?user=a%2Fb", "a user is"),
        ("connections?user=alice&open=true", "'open' is no parameter"),
    ],
)
def test_wrong_parameters_are_named(filled: tuple[Page, str, int], path: str, says: str) -> None:
    page, _, _ = filled
    answer = page.get(f"/api/{path}", **bearer(TOKEN))
    assert answer.status == 400, answer
    assert says in answer.json["error"]


def test_unknown_user_is_not_found(filled: tuple[Page, str, int]) -> None:
    page, _, _ = filled
    answer = page.api("users", "nobody", "connections", headers=bearer(TOKEN))
    assert (answer.status, answer.json["error"]) == (404, "there is no user nobody")
    nothing = page.api("users", "alice", "connections", headers=bearer(TOKEN), to="1999-01-01T00:00:00Z")
    assert nothing.json == {"connections": [], "next": None}


@pytest.mark.parametrize(
    "path", ["users", "users/alice/connections", "connections", "connections?user=alice"]
)
def test_without_the_token_requests_are_refused(filled: tuple[Page, str, int], path: str) -> None:
    """With a token, requests from this machine need it as well."""
    page, _, _ = filled
    for headers in ({}, bearer("0123456789abcdeF"), basic("alice", TOKEN)):
        answer = page.get(f"/api/{path}", **headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert b"alice" not in answer.body
        assert page.get("/api/config", **headers).json["operator"] is False
    config = page.get("/api/config", **bearer(TOKEN)).json
    assert (config["operator"], config["operatorBy"], config["open"]) == (True, ["token"], None)


def test_beside_another_broker_the_page_gets_its_url(filled: tuple[Page, str, int]) -> None:
    """The policy allows that URL, and this server has no MQTT."""
    page, _, _ = filled
    url = f"ws://127.0.0.1:{page.mqtt_port}"
    assert page.api("config").json["mqttUrl"] == f"{url}/"
    assert f"connect-src 'self' {url};" in page.get("/").headers["content-security-policy"]
    assert page.get("/mqtt").status == 404


def test_in_up_an_operators_password_opens_the_api(tmp_path: Path) -> None:
    """Other users' passwords and wrong ones do not."""
    passwords = tmp_path / "passwords"
    add_user(passwords, "alice", "right")
    add_user(passwords, "bob", "right")
    flags = ("--password-file", str(passwords), "--operator", "alice", "--operator", "bridge")
    with Page(tmp_path, "up", *flags) as page:
        assert page.api("users").status == 401
        assert page.api("users", headers=basic("alice", "wrong")).status == 401
        assert page.api("users", headers=basic("bridge", "")).status == 401
        assert page.api("users", headers=basic("nobody", "right")).status == 401
        assert page.api("users", headers=basic("bob", "right")).status == 403
        answer = page.api("users", headers=basic("alice", "right"))
        assert (answer.status, answer.json) == (200, {"users": [], "next": None})
        config = page.api("config", headers=basic("alice", "right")).json
        assert (config["operator"], config["operatorBy"], config["open"]) == (True, ["password"], False)
        assert page.api("config", headers=basic("bob", "right")).json["operator"] is False
        # The password is what counts on the page's WebSocket, too.
        with page.websocket() as socket:
            socket.send(b"\x10\x18\0\4MQTT\4\x82\0\x3c\0\5phone\0\5alice")
            assert socket.recv() == b"\x20\x02\0\5"
        add_user(passwords, "alice", "changed")
        assert page.api("users", headers=basic("alice", "right")).status == 401
        assert page.api("users", headers=basic("alice", "changed")).status == 200


def test_up_makes_a_token_for_a_page_that_others_reach(tmp_path: Path) -> None:
    """It is printed once, kept for the owner only, and opens the API; an operator with a password needs none."""
    flags = ("up", "--insecure", "--web-origin", "https://presence.example")
    kept = tmp_path / "mqtt-presence/web-token"
    with Page(tmp_path, *flags) as page:
        token = kept.read_text().strip()
        assert f"token   {token}, kept in {kept}" in page.log()
        assert "https://presence.example" in page.log()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert page.api("users").status == 401
        assert page.api("users", headers=bearer(token)).status == 200
        assert page.stop() == 0
    with Page(tmp_path, *flags) as page:
        assert token not in page.log()
        assert f"token   in {kept}" in page.log()
        assert page.api("users", headers=bearer(token)).status == 200
    kept.write_text("short\n")
    with (
        pytest.raises(AssertionError, match="has no token: remove the file, or set web_token"),
        Page(tmp_path, *flags),
    ):
        pass
    kept.unlink()
    add_user(tmp_path / "passwords", "alice", "alice-secret")
    passwords = ("--password-file", str(tmp_path / "passwords"), "--operator", "alice")
    with Page(tmp_path, *flags, *passwords) as page:
        assert page.api("users", headers=basic("alice", "alice-secret")).status == 200
    assert not kept.exists()


def test_a_missing_database_is_answered_with_503(tmp_path: Path) -> None:
    """The page is served; the answer has a time to retry, and the log has the reason."""
    database = tmp_path / "presence.db"
    with Page(tmp_path, "up", "--database", f"sqlite:///{database}") as page:
        assert page.api("users").status == 200
        database.rename(tmp_path / "elsewhere.db")
        answer = page.api("users")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert str(tmp_path) not in json.dumps(answer.json)
        assert "there is no such file" in page.log()
        assert page.get("/").status == 200
        (tmp_path / "elsewhere.db").rename(database)
        assert until(lambda: page.api("users").status == 200)


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (("run", "--web"), 2, "web needs web_mqtt_url"),
        (
            ("up", "--port", "0", "--ws-port", "0", "--web-host", "0.0.0.0"),
            2,
            "web_host='0.0.0.0' is reachable",
        ),
        (
            ("up", "--port", "0", "--ws-port", "0", "--web-origin", "https://a.example"),
            2,
            "web_origin=https://a.example",
        ),
        (("up", "--port", "0", "--ws-port", "0", "--web-host", "198.51.100.1"), 2, "web_host="),
    ],
)
def test_invalid_settings_end_the_command(
    tmp_path: Path, command: tuple[str, ...], code: int, says: str
) -> None:
    """The message has the name of the setting, and no port is open before."""
    done = subprocess.run(
        [sys.executable, "-m", "mqtt_presence", *command],
        env={"XDG_DATA_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
