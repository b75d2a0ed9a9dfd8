"""Version 1 of the HTTP API on both databases: lists, single users, scopes, forms and refusals."""

import csv
import http.client
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.protocol.times import to_iso
from mqtt_presence.rules.model import Connection, LastLogin, Outcome, Reason, State, Status, UserPresence
from mqtt_presence.store import Store
from mqtt_presence.web import WebConfig, WebServer
from mqtt_presence.web.config import Token
from tests.integration.test_web_operators import run_beside_mosquitto
from tests.support.waiting import now_ms
from tests.support.web import Page, basic, bearer, get

OPERATOR, STATUS = "0123456789abcdef", "fedcba9876543210"
AGENT = '=HYPERLINK("http://evil.example")'
STATES = (State.ONLINE, State.IDLE, State.OFFLINE)
NAMES = ["..", "a,b", "counts", "query", "users.csv", *(f"pump-{n:03}" for n in range(300))]


def fill(database: str, now: int) -> None:
    """Save users in all states, each with one ended connection."""
    store = Store(database)
    store.open()
    with store.transaction() as tx:
        tx.save(
            Outcome(
                user=UserPresence(
                    user_id=name,  # type: ignore[arg-type]
                    status=Status(
                        state=STATES[n % 3],
                        since=now,
                        connections=int(n % 3 < 2),
                        last_login=LastLogin(order=now, date=now, ip_addr="203.0.113.7", user_agent=AGENT),
                    ),
                    version=n,
                    last_seen=now,
                ),
                changed=(
                    Connection(
                        user_id=name,  # type: ignore[arg-type]
                        client_id="-1+1",  # type: ignore[arg-type]
                        connection_id=f"c{n}",  # type: ignore[arg-type]
                        last_seen=now,
                        login_time=now - 1000 * n,
                        login_order=now,
                        logout_time=now - 500 * n,
                        reason=Reason.LOST,
                        ip_addr="203.0.113.7",
                        user_agent=AGENT,
                        meta='{"n":1}',
                    ),
                ),
                touched=(),
                events=(),
                status_changed=True,
                ignored=(),
            )
            for n, name in enumerate(NAMES)
        )
    store.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Page, int]]:
    """Run `run --web` with a token of each scope, on a database of either kind with users."""
    directory = tmp_path_factory.mktemp("api")
    database = f"sqlite:///{directory / 'presence.db'}"
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres").database()
    now = now_ms() - 86_400_000
    fill(database, now)
    tokens = f"operator:{OPERATOR},status:{STATUS}"
    with run_beside_mosquitto(directory, database, MQTT_PRESENCE_WEB_TOKEN=tokens) as page:
        yield page, now
        assert "Traceback" not in page.log()
        assert OPERATOR not in page.log()


def ask(page: Page, *path: str, token: str = OPERATOR, **query: object) -> Any:
    answer = page.api("v1", *path, headers=bearer(token), **query)
    assert answer.status == 200, answer
    return answer.json


def test_users_are_listed_by_state_and_prefix(served: tuple[Page, int]) -> None:
    """Page after page, each once, in the order of code points."""
    page, _ = served
    wanted = [n for i, n in enumerate(NAMES) if n.startswith("pump-") and STATES[i % 3] is not State.IDLE]
    found: list[str] = []
    query: dict[str, object] = {"prefix": "pump-", "limit": 70}
    while True:
        answer = page.get(
            "/api/v1/users?state=online&state=offline&" + "&".join(f"{k}={v}" for k, v in query.items()),
            **bearer(OPERATOR),
        )
        users = answer.json["users"]
        assert {u["state"] for u in users} <= {"online", "offline"}
        found += [u["userId"] for u in users]
        if answer.json["next"] is None:
            assert "link" not in answer.headers
            break
        query["after"] = answer.json["next"]
        assert answer.headers["link"].endswith(f'after={query["after"]}>; rel="next"')
    assert found == sorted(wanted)
    assert [u["userId"] for u in ask(page, "users", q="UMP-01", limit=3)["users"]] == NAMES[15:18]


def test_counts_follow_the_same_filters(served: tuple[Page, int]) -> None:
    """The numbers are those of the lists."""
    page, _ = served
    every = [STATES[n % 3].value for n in range(len(NAMES))]
    assert ask(page, "counts") == {s: every.count(s) for s in STATES} | {"total": len(NAMES)}
    assert ask(page, "counts", prefix="pump-29", state="idle") == {
        "online": 0,
        "idle": 4,
        "offline": 0,
        "total": 4,
    }
    assert ask(page, "counts", q="nobody")["total"] == 0


def test_a_single_user_has_an_etag(served: tuple[Page, int]) -> None:
    """Unchanged is 304 without a body; the tag differs for who sees other fields."""
    page, now = served
    answer = page.api("v1", "users", "pump-001", headers=bearer(OPERATOR))
    assert answer.json["lastLogin"] == {"date": to_iso(now), "ipAddr": "203.0.113.7", "userAgent": AGENT}
    tag = answer.headers["etag"]
    for match in (tag, f'"x", W/{tag}'):
        again = page.api("v1", "users", "pump-001", headers=bearer(OPERATOR) | {"if-none-match": match})
        assert (again.status, again.body) == (304, b"")
    other = page.api("v1", "users", "pump-001", headers=bearer(STATUS) | {"if-none-match": tag})
    assert (other.status, other.json["lastLogin"]) == (200, {"date": to_iso(now)})
    for name in ("counts", "query", "users.csv", "a,b"):
        assert ask(page, "users", name)["userId"] == name
    missing = page.api("v1", "users", "nobody", headers=bearer(OPERATOR))
    assert (missing.status, missing.json["detail"]) == (404, "there is no user nobody")


def post(page: Page, body: bytes | Iterator[bytes], kind: str = "application/json") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {OPERATOR}", "Content-Type": kind}
        connection.request("POST", "/api/v1/users/query", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_thousand_users_are_asked_at_once(served: tuple[Page, int]) -> None:
    """Known and unknown ones, each once; one more is refused, and so are other bodies."""
    page, _ = served
    names = [*NAMES, *(f"nobody-{n}" for n in range(1000 - len(NAMES)))]
    status, found = post(page, json.dumps({"ids": names}).encode())
    assert status == 200
    assert [u["userId"] for u in found["users"]] == sorted(NAMES)
    assert found["unknown"] == sorted(names[len(NAMES) :])
    for body, why in (
        (json.dumps({"ids": [*names, "x"]}).encode(), "the body is wrong at ids"),
        (b'{"ids":[]}', "the body is wrong at ids"),
        (b'{"ids":["a/b"]}', "a user is 1 to 128 characters"),
        (b'{"ids":["a"],"more":1}', "'more' is no"),
        (b'{"ids":"a"}', "the body is wrong at ids"),
        (b"{", "the body is wrong"),
        (b"\xff", "body"),
        (b"", "the body is wrong"),
    ):
        status, answer = post(page, body)
        assert (status, why in answer["detail"]) == (400, True), (body, answer)
    status, answer = post(page, b'{"ids":["' + b"a" * (1 << 20) + b'"]}')
    assert (status, answer["status"]) == (413, 413)
    status, answer = post(page, iter([b'{"ids":["', *[b"a" * (1 << 16)] * 17]))  # of unknown length
    assert (status, answer["status"]) == (413, 413)


def test_connections_have_a_range_for_all_users(served: tuple[Page, int]) -> None:
    """A connection that overlaps the range is listed, the latest end first."""
    page, now = served
    since, until = to_iso(now - 100_000), to_iso(now - 90_000)
    query: dict[str, object] = {"open": "false", "from": since, "to": until, "limit": 60}
    found: list[str] = []
    while True:
        answer = ask(page, "connections", **query)
        found += [c["connectionId"] for c in answer["connections"]]
        if answer["next"] is None:
            break
        query["after"] = answer["next"]
    assert found == [f"c{n}" for n in range(len(NAMES)) if 500 * n <= 100_000 and 1000 * n >= 90_000]
    assert ask(page, "connections", open="true")["connections"] == []
    of_one = ask(page, "connections", user="..")["connections"]
    assert [(c["connectionId"], c["meta"]) for c in of_one] == [("c0", {"n": 1})]


def test_lists_are_available_as_csv(served: tuple[Page, int]) -> None:
    """The same entries and pages, with a line of names."""
    page, _ = served
    for path, name in (
        ("users", "users"),
        ("users/pump-001/connections", "connections"),
        ("connections", "connections"),
    ):
        more = "?open=false" if path == "connections" else ""
        form = page.get(f"/api/v1/{path}.csv{more}", **bearer(OPERATOR))
        assert form.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(form.body.decode())))
        plain = page.get(f"/api/v1/{path}.json{more}", **bearer(OPERATOR))
        assert plain.body == page.get(f"/api/v1/{path}{more}", **bearer(OPERATOR)).body
        assert [r["userId"] for r in rows] == [e["userId"] for e in plain.json[name]]
        assert form.headers.get("link") == plain.headers.get("link")


def test_csv_runs_no_formula(served: tuple[Page, int]) -> None:
    """Clients choose their names and agents; a spreadsheet shows these as text."""
    page, _ = served
    (row,) = csv.DictReader(
        io.StringIO(page.get("/api/v1/users/a,b/connections.csv", **bearer(OPERATOR)).body.decode())
    )
    assert (row["userId"], row["clientId"], row["userAgent"]) == ("a,b", "'-1+1", f"'{AGENT}")
    assert row["meta"] == '{"n":1}'
    (user,) = csv.DictReader(
        io.StringIO(page.get("/api/v1/users.csv?q=a,b", **bearer(OPERATOR)).body.decode())
    )
    assert user["lastLoginUserAgent"] == f"'{AGENT}"
    assert user["online"] == "true"


def test_a_status_token_opens_statuses_only(served: tuple[Page, int]) -> None:
    """Addresses, agents and connections are for operators."""
    page, now = served
    for found in (
        ask(page, "users", token=STATUS, limit=1)["users"][0],
        ask(page, "users", "pump-000", token=STATUS),
    ):
        assert found["lastLogin"] == {"date": to_iso(now)}
    form = page.get("/api/v1/users.csv", **bearer(STATUS)).body
    assert b"203.0.113.7" not in form
    for path in (
        "connections",
        "connections.csv",
        "users/pump-001/connections",
        "users/pump-001/connections.csv",
        "users/pump-001/why",
    ):
        answer = page.get(f"/api/v1/{path}", **bearer(STATUS))
        assert (answer.status, answer.json["title"]) == (403, "Forbidden")
        assert b"203.0.113.7" not in answer.body
    assert page.get("/api/v1/config", **bearer(STATUS)).json["scope"] == "status"
    for headers in ({}, bearer("0123456789abcdeF"), basic("alice", STATUS)):
        for path in ("users", "users/pump-001", "counts", "connections"):
            answer = page.get(f"/api/v1/{path}", **headers)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert page.get("/api/v1/config", **headers).json["scope"] is None


def test_old_paths_are_for_operators(served: tuple[Page, int]) -> None:
    """They answer as version 1 does, and a scope of version 1 opens none."""
    page, _ = served
    for path in ("users?limit=2", "users/pump-001/connections", "connections?open=false&limit=2"):
        old, new = (page.get(f"/api{part}/{path}", **bearer(OPERATOR)) for part in ("", "/v1"))
        assert (old.status, old.body) == (200, new.body)
        assert page.get(f"/api/{path}", **bearer(STATUS)).status == 403
    refused = page.get("/api/users?limit=0", **bearer(OPERATOR)).json
    assert refused["error"] == refused["detail"] == "limit='0' must be 1 to 500"


@pytest.mark.parametrize("path", ["nothing", "users/a/nothing", "users/a%2Fb"])
def test_other_paths_and_methods_are_refused(served: tuple[Page, int], path: str) -> None:
    """As problems, with the security headers; HEAD is GET without a body."""
    page, _ = served
    answer = page.get(f"/api/v1/{path}", **bearer(OPERATOR))
    assert (answer.status, answer.json["status"]) == (404, 404)
    assert answer.headers["x-content-type-options"] == "nosniff"
    for method in ("PUT", "DELETE"):
        answer = page.get("/api/v1/users", method=method, **bearer(OPERATOR))
        assert (answer.status, answer.json["title"]) == (405, "Method Not Allowed")
    head = page.get("/api/v1/users?limit=1", method="HEAD", **bearer(OPERATOR))
    assert (head.status, head.body, int(head.headers["content-length"]) > 50) == (200, b"", True)


def test_an_ordinary_users_password_opens_statuses_in_up(tmp_path: Path) -> None:
    """As on MQTT: every user of the broker sees the statuses."""
    from mqtt_presence.access.passwords import add_user

    passwords = tmp_path / "passwords"
    add_user(passwords, "alice", "right")
    add_user(passwords, "bob", "right")
    with Page(tmp_path, "up", "--password-file", str(passwords), "--operator", "alice") as page:
        for user, status, connections in (("alice", 200, 200), ("bob", 200, 403)):
            headers = basic(user, "right")
            assert page.api("v1", "users", headers=headers).status == status
            assert page.api("v1", "connections", headers=headers).status == connections
        assert page.api("v1", "users", headers=basic("bob", "wrong")).status == 401
        assert page.api("v1", "users").status == 401


def test_the_api_describes_itself(served: tuple[Page, int]) -> None:
    """OpenAPI 3.1, relative to itself, with a schema for each answer, and nothing from other hosts."""
    page, _ = served
    document = page.get("/api/v1/openapi.json").json
    assert document["openapi"].startswith("3.1.")
    assert document["servers"] == [{"url": "."}]
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    names = {ref.split('"')[0] for ref in text.split('"#/components/schemas/')[1:]}
    assert names <= document["components"]["schemas"].keys()
    assert page.get("/api/openapi.json").status == 404
    for path in ("/api/v1/docs", "/api/v1/redoc", "/api/docs"):
        assert page.get(path).status == 404


def test_why_explains_a_state(served: tuple[Page, int]) -> None:
    """The records of earlier versions have times and no rules; an unknown user is not found."""
    page, now = served
    n = NAMES.index("pump-001")
    found = ask(page, "users", "pump-001", "why")
    assert (found["userId"], found["state"]) == ("pump-001", STATES[n % 3].value)
    (record,) = found["records"]
    assert (record["counts"], record["reason"], record["due"]) == (False, "lost", [])
    assert record["past"] == [{"change": "ended", "at": to_iso(now - 500 * n), "trigger": "unknown"}]
    answer = page.get("/api/v1/users/nobody/why", **bearer(OPERATOR))
    assert (answer.status, answer.json["detail"]) == (404, "there is no user nobody")


def test_scripts_of_listed_pages_may_call_the_api(sqlite_url: str) -> None:
    """Those of `web_cors` and `web_origin`; with credentials of their own, and nothing but the API."""
    fill(sqlite_url, now_ms())
    config = WebConfig(
        sqlite_url,
        port=0,
        mqtt_url="ws://127.0.0.1:1/",
        cors=frozenset({"https://app.example"}),
        origins=frozenset({"http://localhost:5173"}),
    )
    with WebServer(config) as page:
        for origin, status, allowed in (
            ("https://app.example", 403, "https://app.example"),  # no operator by its address
            ("http://localhost:5173", 200, "http://localhost:5173"),
            ("https://evil.example", 403, None),
        ):
            answer = get(page.port, "/api/v1/users?limit=1", origin=origin)
            assert (answer.status, answer.headers.get("access-control-allow-origin")) == (status, allowed), (
                origin
            )
            asked = get(
                page.port,
                "/api/v1/users",
                method="OPTIONS",
                origin=origin,
                access_control_request_method="GET",
                access_control_request_headers="authorization",
            )
            assert asked.status == (403 if allowed is None else 200)
            assert asked.headers.get("access-control-allow-origin") == allowed
        for path in ("/", "/api/users", "/api/config"):
            assert get(page.port, path, origin="https://app.example").status == 403, path
    with WebServer(replace(config, tokens=(Token(STATUS, is_operator=False),))) as page:
        answer = get(page.port, "/api/v1/users?limit=1", origin="https://app.example", **bearer(STATUS))
        assert (answer.status, "etag" in answer.headers["access-control-expose-headers"].lower()) == (
            200,
            True,
        )
