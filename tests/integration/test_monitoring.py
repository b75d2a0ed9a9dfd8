"""Metrics and health of a real bridge: each state is caused for real, and told apart from the others."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_presence.bridge.monitoring import vitals
from mqtt_presence.web import WebConfig, WebServer
from mqtt_presence.web.config import Monitoring
from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.monitored import Monitored, MonitoredProcess, Stuck
from tests.support.postgres import cursor, query
from tests.support.small_disk import small_disk
from tests.support.waiting import until
from tests.support.web import Page, bearer, get

READY = {"ready": True, "broker": True, "database": True, "caughtUp": True, "repaired": True}
TOKEN = "a-token-of-the-operators"


def without(*conditions: str) -> dict[str, bool]:
    return READY | dict.fromkeys(("ready", *conditions), False)


@pytest.fixture
def bridge(mosquitto: Mosquitto, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitored]:
    """Run a bridge whose signs of life are old after a second, so that tests wait for less."""
    monkeypatch.setattr(vitals, "CAUGHT_UP_S", 1.5)
    monkeypatch.setattr(vitals, "WRITTEN_S", 1.0)
    with Monitored(sqlite_url, broker=mosquitto.url) as started:
        until(lambda: started.ready() == (200, READY), "it is ready")
        yield started


# Health.


def test_broker_that_is_away_is_not_ready_but_alive(bridge: Monitored, mosquitto: Mosquitto) -> None:
    """The bridge works, and statuses may be old: no reason to start it again."""
    mosquitto.kill()
    until(lambda: bridge.ready() == (503, without("broker")) or bridge.ready()[1], "the broker is missed")
    until(lambda: bridge.ready() == (503, without("broker", "caughtUp")), "and its messages")
    assert bridge.alive() == 200
    assert bridge.value("broker_connected") == 0
    assert bridge.value("behind_seconds") > 1
    mosquitto.start()
    until(lambda: bridge.ready() == (200, READY), "it is ready again")
    assert bridge.value("broker_connected") == 1
    assert bridge.value("seat_held") == 1


def test_locked_database_is_not_ready_but_alive(bridge: Monitored, sqlite_url: str) -> None:
    """Another program holds the database: a commit waits, and the loop turns."""
    with cursor(sqlite_url) as cur:
        cur.execute("BEGIN EXCLUSIVE")
        until(lambda: bridge.ready() == (503, without("database")), "the database is missed")
        assert bridge.alive() == 200
        cur.execute("ROLLBACK")
    until(lambda: bridge.ready() == (200, READY), "it is ready again")


def test_full_disk_is_not_ready_but_alive(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Reading works, so only a commit shows that the disk is full."""
    running: list[MonitoredProcess] = []
    with small_disk(tmp_path / "disk", lambda: running[0]) as (directory, fill, free):
        database = f"sqlite:///{directory / 'presence.db'}"
        with MonitoredProcess(tmp_path / "log", broker=mosquitto.url, database=database) as bridge:
            running.append(bridge)
            until(lambda: bridge.ready() == (200, READY), "it is ready")
            fill()
            until(lambda: bridge.ready() == (503, without("database")), "the database is missed")
            assert bridge.alive() == 200
            free()
            until(lambda: bridge.ready() == (200, READY), "it is ready again")


def test_database_that_was_moved_is_not_ready_but_alive(bridge: Monitored, sqlite_url: str) -> None:
    """SQLite refuses to write a file that was moved away: it is read-only until it is back."""
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    file.rename(file.with_suffix(".away"))
    until(lambda: bridge.ready() == (503, without("database")), "the database is missed")
    assert bridge.alive() == 200
    file.with_suffix(".away").rename(file)
    until(lambda: bridge.ready() == (200, READY), "it is ready again")


def test_bridge_is_ready_when_everything_that_waited_is_processed(
    mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path
) -> None:
    """After an absence: connected at once, ready only when no message waits any more."""
    count = 15_000
    with MonitoredProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url) as bridge:
        assert bridge.stop() == 0
        client = mosquitto.publisher("", "")
        client.publish_all(
            (f"presence/user-{n}/phone/login", f'{{"connectionId":"id-{n}"}}'.encode()) for n in range(count)
        )
        bridge.start()
        seen: list[dict[str, bool]] = []
        while not seen or not seen[-1]["ready"]:
            status, conditions = bridge.ready()
            assert (status == 200) is conditions["ready"]
            assert bridge.alive() == 200
            seen.append(conditions)
            assert len(seen) < 10_000
        assert query(sqlite_url, "SELECT COUNT(*) AS n FROM users") == [{"n": count}]
        assert without("caughtUp") in seen, "it was connected before it had caught up"
        assert bridge.value("users", state="online") == count


def test_stuck_loop_is_not_alive(
    mosquitto: Mosquitto, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that does no turn can be cured only by a new start."""
    monkeypatch.setattr(vitals, "STUCK_AFTER_S", 1.5)
    monkeypatch.setattr(vitals, "CAUGHT_UP_S", 1.5)
    stuck = Stuck()
    with Monitored(sqlite_url, stuck, broker=mosquitto.url) as bridge:
        until(lambda: bridge.ready() == (200, READY), "it is ready")
        stuck.holds.set()
        until(lambda: bridge.alive() == 503, "it is stuck")
        assert bridge.get("/healthz").body == b'{"alive":false}'
        until(lambda: bridge.ready()[0] == 503, "it is not ready either")
        stuck.holds.clear()
        stuck.released.set()
        until(lambda: bridge.alive() == 200, "it goes on")


def test_bridge_that_has_not_started_is_alive_but_not_ready(sqlite_url: str) -> None:
    """A start may take long, as for a migration: health must not end it."""
    with WebServer(WebConfig(sqlite_url, port=0, monitoring=Monitoring.ALONE)) as server:
        assert get(server.port, "/healthz").status == 200
        assert json.loads(get(server.port, "/readyz").body) == without(
            "broker", "database", "caughtUp", "repaired"
        )
        assert b"mqtt_presence_build_info" in get(server.port, "/metrics").body


def test_writes_for_health_are_few(bridge: Monitored, sqlite_url: str) -> None:
    """A hundred questions in a moment are one commit, and no question is none."""
    with cursor(sqlite_url) as cur:
        cur.execute("SELECT value FROM bridge WHERE name = 'write_test'")
        before = cur.fetchone()
    for _ in range(100):
        assert bridge.ready()[0] == 200
    values = {row["value"] for row in query(sqlite_url, "SELECT value FROM bridge WHERE name = 'write_test'")}
    assert len(values | {before[0]}) <= 2
    assert bridge.alive() == 200


# Metrics.


def test_metrics_follow_the_users(bridge: Monitored, mosquitto: Mosquitto) -> None:
    """Users and connections by state, logins, ends with their reasons, refusals and ignored messages."""
    mosquitto.say("alice", "phone", "login", b'{"connectionId":"a1"}')
    mosquitto.say("alice", "tablet", "login", b'{"connectionId":"a2"}')
    mosquitto.say("alice", "tablet", "activity", b'{"connectionId":"a2","idle":true}')
    mosquitto.say("bob", "phone", "login", b'{"connectionId":"b1"}')
    mosquitto.say("bob", "phone", "activity", b'{"connectionId":"b1","idle":true}')
    mosquitto.say("carol", "phone", "login", b'{"connectionId":"c1"}')
    mosquitto.say("carol", "phone", "will", b'{"connectionId":"c1"}')
    mosquitto.say("carol", "phone", "will", b'{"connectionId":"c1"}')
    mosquitto.say("carol", "phone", "logout", b"no JSON")
    until(lambda: bridge.value("refused_total", reason="bad_payload") == 1, "all is processed")
    until(lambda: bridge.value("users", state="offline") == 1, "all is committed")
    until(lambda: bridge.value("last_message_timestamp_seconds"), "the turn is over")
    expected = {
        ("users", ("state", "online")): 1,
        ("users", ("state", "idle")): 1,
        ("connections", ("state", "active")): 1,
        ("connections", ("state", "idle")): 2,
        ("logins_total",): 4,
        ("ends_total", ("reason", "lost"), ("cause", "none")): 1,
        ("ends_total", ("reason", "logout"), ("cause", "none")): 0,
        ("transitions_total", ("from", "offline"), ("to", "online")): 3,
        ("transitions_total", ("from", "online"), ("to", "idle")): 1,
        ("transitions_total", ("from", "online"), ("to", "offline")): 1,
        ("messages_total", ("verb", "login"), ("outcome", "accepted")): 4,
        ("messages_total", ("verb", "logout"), ("outcome", "refused")): 1,
        ("ignored_total", ("reason", "end_after_end")): 1,
        ("detection_seconds_count",): 1,
        ("unacknowledged",): 0,
    }
    found = bridge.series()
    for (name, *labels), value in expected.items():
        assert found["mqtt_presence_" + name, tuple(sorted(labels))] == value, (name, labels)
    assert found["mqtt_presence_batch_messages_sum", ()] >= 9  # and the broker's own
    assert time.time() - found["mqtt_presence_last_message_timestamp_seconds", ()] < 60
    until(lambda: bridge.value("outbox") == 0, "all is published")


def test_metrics_are_as_prometheus_wants_them(bridge: Monitored) -> None:
    """Promtool finds nothing wrong with names, types and texts; both text formats are offered."""
    answer = bridge.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=answer.body, capture_output=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    modern = bridge.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.body.endswith(b"# EOF\n")


def test_on_the_page_metrics_are_for_operators(tmp_path: Path) -> None:
    """Visitors of a page get no figures of the service; health is for everybody."""
    database = f"sqlite:///{tmp_path / 'presence.db'}"
    with Page(tmp_path, "up", "--database", database, MQTT_PRESENCE_WEB_TOKEN=TOKEN) as page:
        until(lambda: page.get("/readyz").status == 200, "it is ready")
        assert page.get("/healthz").status == 200
        assert page.get("/metrics").status == 401
        answer = page.get("/metrics", **bearer(TOKEN))
        assert answer.status == 200
        assert b"mqtt_presence_users" in answer.body
        assert page.stop() == 0


def test_on_a_trial_machine_metrics_need_no_token(tmp_path: Path) -> None:
    """`up` without settings; but a page of another site, by a name of its own, gets nothing."""
    with Page(tmp_path, "up", "--database", f"sqlite:///{tmp_path / 'presence.db'}") as page:
        assert page.get("/metrics").status == 200
        assert page.get("/metrics", host="evil.example").status == 421
        assert page.get("/metrics", x_forwarded_for="192.0.2.1").status == 403


def test_port_of_its_own_leaves_the_page_without_metrics(tmp_path: Path) -> None:
    """`monitor_port` moves them: the page may be public, and the port of metrics is not."""
    with Page(
        tmp_path, "up", "--database", f"sqlite:///{tmp_path / 'presence.db'}", "--monitor-port", "0"
    ) as page:
        until(lambda: "metrics are at" in page.log())
        port = int(page.log().split("metrics are at http://127.0.0.1:")[1].split("/")[0])
        assert get(port, "/metrics").status == 200
        assert get(port, "/metrics", host="evil.example").status == 421
        assert get(port, "/").status == 404
        assert get(port, "/api/users").status == 404
        for path in ("/metrics", "/healthz", "/readyz"):
            assert page.get(path).status == 404
        assert page.stop() == 0


def test_monitor_port_in_use_ends_the_command(tmp_path: Path, mosquitto: Mosquitto, sqlite_url: str) -> None:
    """With a message that names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bridge = MonitoredProcess(
            tmp_path / "log", broker=mosquitto.url, database=sqlite_url, monitor_port=port
        )
        assert bridge.start(ready=False).wait() == 1
        assert f"monitor_port={port} on 127.0.0.1 is in use" in bridge.log()


# The health topic.


def test_health_is_published_and_retained(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """A subscriber that comes later has it at once; after a clean stop it is offline."""
    with BridgeThread(broker=mosquitto.url, database=sqlite_url):
        watched = mosquitto.recorder("bridge/health")
        until(lambda: watched.on("bridge/health"), "it is published")
        health = watched.on("bridge/health")[-1].json
        assert health["state"] == "online"
        figures = {"users", "connections", "outbox", "behindMs", "refused", "changes", "changeLog"}
        assert set(health) == {"state", "version", *figures}
    until(lambda: watched.on("bridge/health")[-1].json["state"] == "offline", "it says so")
    assert watched.on("bridge/health")[-1].json["version"] > health["version"]
