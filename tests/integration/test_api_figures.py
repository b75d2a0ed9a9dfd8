"""Figures of a period and forgetting a user, over HTTP, on both databases."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.protocol.times import from_iso, to_iso
from mqtt_presence.rules.model import Connection, Outcome, Reason, State, Status, UserPresence
from mqtt_presence.store import Store
from tests.integration.test_web_operators import run_beside_mosquitto
from tests.support.mqtt import Client
from tests.support.recorder import Recorder
from tests.support.waiting import now_ms, until
from tests.support.web import Answer, Page, bearer, get

TOKEN = "0123456789abcdef"
HOUR = 3_600_000
SAID = {"content_type": "application/json", **bearer(TOKEN)}


def connections(now: int) -> list[Connection]:
    """Return connections of forty users around the last day: overlapping, adjacent, open, before and after."""
    chance = random.Random(7)
    found = []
    for number in range(400):
        began = now - chance.randint(-2, 30) * HOUR - chance.randint(0, HOUR)
        is_open = number % 11 == 0
        ended = began + chance.choice([0, 1, 60_000, HOUR, 5 * HOUR, 40 * HOUR])
        found.append(
            Connection(
                user_id=f"user-{number % 40}",  # type: ignore[arg-type]
                client_id=f"client-{number}",  # type: ignore[arg-type]
                connection_id=f"c{number}",  # type: ignore[arg-type]
                last_seen=began,
                login_time=began,
                logout_time=None if is_open else ended,
                reason=None if is_open else chance.choice(list(Reason)),
            )
        )
    return found


def fill(database: str, records: list[Connection]) -> None:
    """Save the connections, with a status for each user."""
    by_user: dict[Any, list[Connection]] = {}
    for record in records:
        by_user.setdefault(record.user_id, []).append(record)
    store = Store(database)
    store.open()
    with store.transaction() as tx:
        tx.save(
            Outcome(
                user=UserPresence(
                    user_id=user,
                    status=Status(state=State.ONLINE, since=1, connections=1),
                    version=1,
                    last_seen=1,
                ),
                changed=tuple(of_user),
                touched=(),
                events=(),
                status_changed=True,
                ignored=(),
            )
            for user, of_user in by_user.items()
        )
    store.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Page, list[Connection], int]]:
    """Run `run --web` with a token, on a database of either kind with a history."""
    directory = tmp_path_factory.mktemp("figures")
    database = f"sqlite:///{directory / 'presence.db'}"
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres").database()
    now = now_ms() // 1000 * 1000
    records = connections(now)
    fill(database, records)
    with run_beside_mosquitto(directory, database, MQTT_PRESENCE_WEB_TOKEN=TOKEN) as page:
        yield page, records, now


@pytest.mark.parametrize("hours", [1, 24, 7 * 24])
def test_figures_are_those_of_the_connections(served: tuple[Page, list[Connection], int], hours: int) -> None:
    """Each moment has the users with an open connection, counted one by one here."""
    page, records, now = served
    since = now - hours * HOUR
    found = page.api(
        "v1", "figures", headers=bearer(TOKEN), **{"from": to_iso(since), "to": to_iso(now)}
    ).json
    assert len(found["points"]) == 121
    assert (from_iso(found["points"][0]["time"]), from_iso(found["points"][-1]["time"])) == (since, now)

    def is_in(record: Connection) -> bool:
        return record.login_time <= now and (record.logout_time is None or record.logout_time >= since)  # type: ignore[operator]

    within = [record for record in records if is_in(record)]
    for point in found["points"]:
        at = from_iso(point["time"])
        there = {
            r.user_id
            for r in within
            if max(r.login_time or 0, since) <= at and (r.logout_time is None or r.logout_time > at)
        }
        assert point["online"] == len(there), point
    drops = [
        r
        for r in within
        if r.logout_time is not None
        and r.logout_time <= now
        and r.reason in {Reason.LOST, Reason.TIMEOUT, Reason.UNCONFIRMED}
    ]
    assert found["users"] == len({r.user_id for r in within}) > 0
    assert (found["connections"], found["drops"]) == (len(within), len(drops))


def test_a_period_has_an_order_and_a_length(served: tuple[Page, list[Connection], int]) -> None:
    """Others are refused, and so are visitors who are no operators."""
    page, _, now = served

    def ask(since: int, end: int, **how: Any) -> Answer:
        return page.api("v1", "figures", **how, **{"from": to_iso(since), "to": to_iso(end)})

    for since, end in ((now, now), (now, now - 1), (now - 367 * 24 * HOUR, now)):
        answer = ask(since, end, headers=bearer(TOKEN))
        assert answer.status == 400
        assert "to must be later than from" in json.loads(answer.body)["detail"]
    assert ask(now - 1, now).status == 401


# Forgetting.


def forget(page: Page, user: str, **headers: str) -> Answer:
    """Ask the server to forget a user."""
    body = json.dumps({"user": user}).encode()
    return get(
        page.port, "/api/v1/forgotten", method="POST", body=body, content_length=str(len(body)), **headers
    )


def test_a_forgotten_user_is_gone_everywhere(served: tuple[Page, list[Connection], int]) -> None:
    """The records are deleted, and the bridge clears the status; a second call finds nobody."""
    page, records, _ = served
    count = len([record for record in records if record.user_id == "user-7"])
    answer = forget(page, "user-7", **SAID)
    assert (answer.status, json.loads(answer.body)) == (200, {"user": "user-7", "records": count})
    assert forget(page, "user-7", **SAID).status == 404
    names = [
        user["userId"] for user in page.api("v1", "users", headers=bearer(TOKEN), q="user-7").json["users"]
    ]
    assert "user-7" not in names
    assert page.api("v1", "users", "user-7", "connections", headers=bearer(TOKEN)).status == 404
    assert "forgotten from the page user=user-7" in page.log()


def test_the_status_of_a_forgotten_user_is_cleared(tmp_path: Path) -> None:
    """Subscribers receive the empty status, as after `mqtt-presence forget`."""
    with Page(tmp_path, "up") as page:
        recorder = Recorder(page.mqtt_port, ("status/#",), user="audit", log=page.log)
        try:
            with Client(page.mqtt_port, "pump", "p") as pump:
                pump.publish("presence/pump/p/login", b'{"connectionId":"c"}')
                recorder.wait_for_state("pump", "online")
                pump.publish("presence/pump/p/logout", b'{"connectionId":"c"}')
                recorder.wait_for_state("pump", "offline")
            assert forget(page, "pump", content_type="application/json").status == 200
            until(lambda: recorder.on("status/pump")[-1].payload == b"", "the status is cleared")
        finally:
            recorder.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer("another-token-of-16"), 401),
        (SAID | {"origin": "http://evil.example"}, 403),
        (SAID | {"origin": "https://listed.example"}, 403),
        (SAID | {"origin": "null"}, 403),
        (SAID | {"sec_fetch_site": "cross-site"}, 403),
        (SAID | {"sec_fetch_site": "same-site"}, 403),
        (bearer(TOKEN) | {"content_type": "text/plain"}, 400),
    ],
)
def test_only_operators_and_the_own_page_forget(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """Neither strangers, nor pages of other origins, whichever the settings list for reading."""
    flags = ("--web-token", TOKEN, "--insecure", "--web-origin", "https://listed.example")
    with Page(tmp_path, "up", *flags) as page, Client(page.mqtt_port, "pump", "p") as pump:
        pump.publish("presence/pump/p/login", b'{"connectionId":"c"}')
        until(lambda: page.api("v1", "users", headers=bearer(TOKEN)).json["users"])
        assert forget(page, "pump", **headers).status == status
        assert page.api("v1", "users", headers=bearer(TOKEN)).json["users"]
        own = {"origin": f"http://127.0.0.1:{page.port}", "sec_fetch_site": "same-origin"}
        assert forget(page, "pump", **(SAID | own)).status == 200
