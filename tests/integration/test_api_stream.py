"""The stream of statuses on both databases: each change once, whatever breaks in between, and its bounds."""

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from mqtt_presence.rules.model import LastLogin, Outcome, State, Status, UserPresence
from mqtt_presence.store import Store, change_log
from mqtt_presence.store.reader import Reader
from mqtt_presence.web import WebConfig, WebServer
from mqtt_presence.web.api import change_feed, status_stream, stream_count, stream_resource
from mqtt_presence.web.config import Token
from tests.support.event_stream import Event, EventStream
from tests.support.waiting import now_ms, until
from tests.support.web import bearer, get

STATUS, OPERATOR = "0123456789abcdef", "fedcba9876543210"


class Users:
    """Writes users as a bridge does.

    Args:
        database: its URL.

    """

    def __init__(self, database: str) -> None:
        self.database = database
        self.store = Store(database)
        self.store.open()
        self.versions: dict[str, int] = {}

    def change(self, *names: str, agent: str | None = None) -> None:
        """Change the status of users, in one transaction."""
        now = now_ms()
        for name in names:
            self.versions[name] = self.versions.get(name, 0) + 1
        with self.store.transaction() as tx:
            tx.save(
                Outcome(
                    user=UserPresence(
                        user_id=name,  # type: ignore[arg-type]
                        status=Status(
                            state=State.ONLINE,
                            since=now,
                            connections=1,
                            last_login=LastLogin(
                                order=now, date=now, ip_addr="203.0.113.7", user_agent=agent
                            ),
                        ),
                        version=self.versions[name],
                        last_seen=now,
                    ),
                    changed=(),
                    touched=(),
                    events=(),
                    status_changed=True,
                    ignored=(),
                )
                for name in names
            )


@pytest.fixture
def users(database: str) -> Iterator[Users]:
    made = Users(database)
    yield made
    made.store.close()


def server(database: str, **settings: Any) -> WebServer:
    return WebServer(WebConfig(database, port=0, mqtt_url="ws://127.0.0.1:1/", **settings))


def versions(events: list[Event]) -> list[tuple[str, int]]:
    return [(e.data["userId"], e.data["version"]) for e in events if e.name == "status"]


def test_the_state_comes_first_and_then_each_change(users: Users) -> None:
    """In the order of commits, with the fields of MQTT; only the selected users."""
    users.change("alice", "bob", "carol", "pump-1")
    users.change("bob")
    with server(users.database, publish_private=True) as page, ExitStack() as streams:
        page_of = lambda *names: streams.enter_context(EventStream(page.port, *names))  # noqa: E731
        everybody, two, pumps = page_of(), page_of("bob", "dave"), page_of("pump-*", "c[aä]rol")
        until(lambda: all(s.has("ready") for s in (everybody, two, pumps)))
        assert versions(everybody.events) == [("alice", 1), ("bob", 2), ("carol", 1), ("pump-1", 1)]
        assert versions(two.events) == [("bob", 2)]
        assert versions(pumps.events) == [("carol", 1), ("pump-1", 1)]
        assert everybody.retry is not None
        assert b"text/event-stream" in everybody.head
        for names in (["dave"], ["bob", "pump-2"], ["bob", "dave"]):
            users.change(*names)
            page.statuses_changed()
        until(lambda: len(everybody.statuses) == 9)
        until(lambda: len(two.statuses) == 5)
        changes = [("dave", 1), ("bob", 3), ("pump-2", 1), ("bob", 4), ("dave", 2)]
        assert versions(everybody.events)[4:] == changes
        assert versions(two.events)[1:] == [c for c in changes if c[0] in {"bob", "dave"}]
        until(lambda: versions(pumps.events)[2:] == [("pump-2", 1)])
        plain = get(page.port, "/api/v1/users/dave").json
        assert two.statuses[-1] == plain
        assert len({e.id for e in everybody.events}) == len(everybody.events)


def test_other_processes_are_noticed_without_a_sign(users: Users) -> None:
    """`forget` is another process: its change comes in its order, within seconds."""
    users.change("alice", "bob")
    with server(users.database) as page, EventStream(page.port) as stream:
        until(lambda: stream.has("ready"))
        users.store.forget("alice")  # type: ignore[arg-type]
        users.change("bob")
        until(lambda: len(stream.events) == 5)
        assert [(e.name, e.data["userId"]) for e in stream.events[3:]] == [
            ("forgotten", "alice"),
            ("status", "bob"),
        ]
        with EventStream(page.port, last_id=stream.events[2].id) as again:
            until(lambda: len(again.events) == 2)
            assert again.events == stream.events[3:]


class Interrupted:
    """A client whose connections are cut at random, and which goes on after the last event each time."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.events: list[Event] = []
        self.streams = 0

    @property
    def last_id(self) -> str | None:
        """The id of the last event."""
        return self.events[-1].id if self.events else None

    def read_some(self, port: int) -> None:
        """Read a few events, or none if none come soon."""
        wanted, enough = self._chance.randint(1, 60), threading.Event()
        with EventStream(port, "user-*", "nobody", last_id=self.last_id) as stream:
            stream.on_event = lambda _: len(stream.events) >= wanted and enough.set()  # type: ignore[func-returns-value]
            enough.wait(0.3)
        self.events += stream.events
        self.streams += 1


def test_every_change_comes_once_whatever_breaks(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut connections, in the first picture too, and restarted servers: versions have no gap and no double."""
    chance = random.Random(14)
    for module, name, value in (
        (status_stream, "USERS", 7),
        (status_stream, "ENTRIES", 3),
        (change_feed, "ENTRIES", 3),
        (change_feed, "PACE_S", 0.001),
        (change_feed, "KEPT_BYTES", 2_000),
    ):
        monkeypatch.setattr(module, name, value)
    names = [f"user-{n}" for n in range(60)]
    users.change(*names[:40])
    servers = [server(users.database)]
    servers[0].start()
    is_enough = threading.Event()

    def write() -> None:
        while not is_enough.wait(0.01):
            users.change(*chance.sample(names, chance.randint(1, 12)))
            servers[-1].statuses_changed()

    writer = threading.Thread(target=write)
    writer.start()
    client = Interrupted(random.Random(15))
    try:
        until(lambda: _goes_on(client, servers, users.database), "forty streams, and 500 events")
        is_enough.set()
        writer.join()
        until(
            lambda: client.read_some(servers[-1].port) or dict(versions(client.events)) == users.versions,  # type: ignore[func-returns-value]
        )
    finally:
        is_enough.set()
        writer.join()
        servers[-1].stop()
    assert [e.name for e in client.events if e.name != "status"] == ["ready"]
    of_user: dict[str, list[int]] = {}
    for name, version in versions(client.events):
        of_user.setdefault(name, []).append(version)
    for name, found in of_user.items():
        assert found == list(range(found[0], users.versions[name] + 1)), name


def _goes_on(client: Interrupted, servers: list[WebServer], database: str) -> bool:
    """Read some more; restart the server now and then."""
    client.read_some(servers[-1].port)
    if client.streams % 7 == 0:
        servers[-1].stop()
        servers.append(server(database))
        servers[-1].start()
    return client.streams >= 40 and len(client.events) >= 500


def test_a_place_that_is_gone_begins_again(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told by `reset` that it may have missed changes, and gets the state again."""
    users.change("alice")
    with server(users.database) as page:
        with EventStream(page.port) as stream:
            until(lambda: stream.has("ready"))
        monkeypatch.setattr(change_log, "KEPT_BYTES", 500)
        for _ in range(80):
            users.change("alice")
        log, _, rest = stream.last_id.partition(".")
        wrong_log = f"{'0' * len(log)}.{rest}"
        future = f"{log}.999999999.0"
        for last_id in (stream.last_id, wrong_log, future, "", "x", f"{log}.1.0.!"):
            with EventStream(page.port, last_id=last_id) as again:
                until(lambda: again.has("ready"))
                assert [e.name for e in again.events] == ["reset", "status", "ready"], last_id
                assert versions(again.events) == [("alice", 81)]


def test_the_log_is_bounded_and_ends_in_a_quiet_database(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By size while statuses change; after an hour no name is left, and a place at its end stays good."""
    monkeypatch.setattr(change_log, "KEPT_BYTES", 10_000)
    for n in range(250):
        users.change(f"user-{n}")
    with Reader(users.database) as reader:
        rows = reader._select("SELECT id, LENGTH(body) FROM changes ORDER BY id", [])
        assert 30 < len(rows) < 200
        assert [row[0] for row in rows] == list(range(rows[0][0], 252))
    later = now_ms() + change_log.KEPT_MS + 1000
    for _ in range(20):
        with users.store.transaction() as tx:
            tx.trim_change_log(later)
    with Reader(users.database) as reader:
        (entry,) = reader._select("SELECT id, body FROM changes", [])
        assert (entry[0], bytes(entry[1])) == (252, b"\x90")


def test_heartbeats_carry_the_place(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment for proxies, and an id, so that the place of a quiet user stays in the log."""
    monkeypatch.setattr(status_stream, "HEARTBEAT_S", 0.2)
    users.change("alice")
    with server(users.database) as page, EventStream(page.port, "alice") as stream:
        until(lambda: sum(e.name == "comment" for e in stream.events) >= 3)
        before = stream.last_id
        users.change("bob")
        page.statuses_changed()
        until(lambda: stream.last_id != before)
        assert versions(stream.events) == [("alice", 1)]


def test_streams_have_a_bound(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is answered with 503; a place is free again when a client goes."""
    monkeypatch.setattr(stream_count, "STREAMS", 3)
    with server(users.database) as page:
        with ExitStack() as streams:
            for _ in range(3):
                stream = streams.enter_context(EventStream(page.port))
                until(lambda s=stream: s.has("ready"))
            answer = get(page.port, "/api/v1/stream")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert get(page.port, "/api/v1/users").status == 200

        def is_free() -> bool:
            with EventStream(page.port) as stream:
                return stream.status == 200

        until(is_free)


def test_a_client_that_reads_nothing_is_cut(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds a bounded number of bytes until then, and the others go on."""
    monkeypatch.setattr(stream_resource, "STALL_S", 0.5)
    users.change(*(f"user-{n:05}" for n in range(1_500)), agent="x" * 8000)
    with server(users.database) as page, EventStream(page.port, "alice") as other:
        until(lambda: other.has("ready"))
        with EventStream(page.port, reads=False) as stuck:
            assert page._services.streams._taken == 2
            until(lambda: page._services.streams._taken == 1)
            assert stuck.status == 200
        users.change("alice")
        page.statuses_changed()
        until(lambda: versions(other.events) == [("alice", 1)])


def test_a_scope_decides_on_the_fields(users: Users) -> None:
    """Addresses are for operators; without a token there is no stream."""
    users.change("alice")
    tokens = (Token(OPERATOR), Token(STATUS, is_operator=False))
    with server(users.database, tokens=tokens) as page:
        assert get(page.port, "/api/v1/stream").status == 401
        for token, has_address in ((OPERATOR, True), (STATUS, False)):
            with EventStream(page.port, **bearer(token)) as stream:
                until(lambda s=stream: s.has("ready"))
                users.change("alice")
                page.statuses_changed()
                until(lambda s=stream: len(s.statuses) == 2)
                assert ["ipAddr" in s["lastLogin"] for s in stream.statuses] == [has_address] * 2


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("users=a/b", "a user is 1 to 128"),
        ("user=a", "'user' is no parameter"),
        ("&".join(f"users=u{n}" for n in range(101)), "100 names and patterns"),
    ],
)
def test_wrong_selections_are_refused(sqlite_url: str, query: str, why: str) -> None:
    """Before the stream begins."""
    made = Users(sqlite_url)
    with server(sqlite_url) as page:
        answer = get(page.port, f"/api/v1/stream?{query}")
        assert (answer.status, why in answer.json["detail"]) == (400, True), answer
    made.store.close()


def test_a_stop_ends_streams_at_once(users: Users, caplog: pytest.LogCaptureFixture) -> None:
    """Of clients that read, and of one that does not; without an error in the log."""
    users.change(*(f"user-{n:05}" for n in range(1_500)), agent="x" * 8000)
    page = server(users.database)
    page.start()
    with EventStream(page.port, "nobody") as stream, EventStream(page.port, reads=False):
        until(lambda: stream.has("ready"))
        page.stop()
        until(lambda: stream.is_over)
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


def test_two_writers_leave_no_gap(users: Users) -> None:
    """Entries of two processes get numbers in the order of commits (PostgreSQL) or wait for each other (SQLite)."""
    other = Users(users.database)
    count = itertools.count()

    def write(by: Users, name: str) -> None:
        for _ in range(40):
            by.change(f"{name}-{next(count) % 5}")

    threads = [threading.Thread(target=write, args=(by, name)) for by, name in ((users, "a"), (other, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.store.close()
    with Reader(users.database) as reader:
        entries = reader.entries_from(1, 200)
    assert entries is not None
    assert [entry.number for entry in entries] == list(range(1, 82))
    assert sum(len(entry.changes) for entry in entries) == 80
