"""A clock that is set back or forward by an hour: who is here is shown, who is silent ends in time."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.bridge.part import Due
from mqtt_presence.client import PresenceClient
from tests.support.bridges import BridgeThread
from tests.support.brokers import PASSWORD, Mosquitto, Shipped
from tests.support.checker import assert_consistent, read
from tests.support.playing import hello, settle
from tests.support.postgres import query
from tests.support.waiting import now_ms, until

HOUR = 3_600_000


class House:
    """A bridge by a clock that the test sets, and who listens to it.

    Args:
        mosquitto: its broker.
        database: its database.
        settings: its settings.

    """

    def __init__(self, mosquitto: Mosquitto, database: str, **settings: float) -> None:
        self.set_by = 0
        self.broker = mosquitto
        self.database = database
        self.recorder = mosquitto.recorder()
        self.bridge = BridgeThread({"clock": self}, broker=mosquitto.url, database=database, **settings)

    def now(self) -> int:
        return now_ms() + self.set_by

    monotonic = staticmethod(time.monotonic)

    def error_ms(self) -> int:
        return 0

    def say(self, user: str, verb: str, **fields: object) -> None:
        body = json.dumps({"connectionId": f"{user}-c1"} | fields).encode()
        self.broker.say(user, f"{user}-phone", verb, body)

    def settle(self) -> None:
        settle(self.broker, self.recorder)

    def reasons(self) -> dict[str, str | None]:
        return {r.user_id: r.reason and r.reason.value for r in read(self.database)[0]}

    def assert_true(self) -> dict[str, Any]:
        """Let all come to rest, and have statuses compared with records; returns the retained ones by user."""
        hello(self.broker)
        fresh = self.broker.recorder()
        settle(self.broker, fresh, "end")
        assert_consistent(self.database, fresh.statuses(), self.recorder.versions())
        return fresh.statuses()

    def announcements(self) -> int:
        return len(self.recorder.on("bridge/announce"))

    def have_all_asked(self) -> None:
        before = self.announcements()
        self.bridge.parts.announcements.request("a test")
        self.bridge.bridge.request(Due.CHECK)
        self.recorder.wait_for(lambda: self.announcements() > before, "the announcement")

    def wait_until_nobody_is_awaited(self) -> None:
        sql = "SELECT 1 AS x FROM bridge WHERE name = 'announced_at'"
        until(lambda: not query(self.database, sql), "the time for an answer is over")


@pytest.mark.parametrize("first", ["will", "logout", None])
def test_who_logs_in_after_the_clock_was_set_back_is_here(
    mosquitto: Mosquitto, sqlite_url: str, first: str | None
) -> None:
    """A login that tells its time is not taken for an older one of a connection before, ended or not."""
    house = House(mosquitto, sqlite_url)
    with house.bridge:
        hello(mosquitto)
        house.say("alice", "login", time=house.now())
        house.recorder.wait_for_state("alice", "online")
        if first is not None:
            house.say("alice", first)
            house.recorder.wait_for_state("alice", "offline")
        house.set_by = -HOUR
        for connection in ("c2", "c3"):
            house.say("alice", "login", connectionId=connection, time=house.now())
        house.say("alice", "activity", connectionId="c3")
        house.settle()
        assert {r.connection_id for r in read(sqlite_url)[0] if r.is_open and r.user_id == "alice"} == {"c3"}
        assert house.assert_true()["alice"]["state"] == "online"


def test_a_client_that_comes_again_after_the_clock_was_set_back_is_here(
    tmp_path: Path, sqlite_url: str
) -> None:
    """As our own client does it, which tells its time as soon as it knows the server's."""
    with Shipped(tmp_path / "mosquitto", users=["alice"]) as broker:
        house = House(broker, sqlite_url)
        with house.bridge:
            hello(broker)
            url = f"mqtt://alice:{PASSWORD}@127.0.0.1:{broker.port}"
            client = PresenceClient(url, user="alice", client_id="phone")
            for set_by in (0, 0, -HOUR, -HOUR, -HOUR):
                house.set_by = set_by
                client.connect()
                house.recorder.wait_for_state("alice", "online")
                client.server_time.resync()  # or it asks in ten minutes, if its last questions were all answered
                until(lambda: abs(client.server_time.now() - house.now()) < 1_000, "it knows the time")
                client.disconnect()
                house.recorder.wait_for_state("alice", "offline")
            assert len([r for r in read(sqlite_url)[0] if r.user_id == "alice"]) == 5
            house.assert_true()


def test_who_answers_around_a_jump_back_is_here(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """All are asked again, for who has answered, and when, is no longer to be told; who does not answer then ends."""
    house = House(mosquitto, sqlite_url, confirm_within=1.5)
    with house.bridge:
        hello(mosquitto)
        for user in ("faithful", "silent"):
            house.say(user, "login", announce=True)
        house.say("simple", "login")
        house.settle()
        house.have_all_asked()
        before = house.announcements()
        house.set_by = -HOUR
        house.say("faithful", "login", announce=True)
        house.recorder.wait_for(lambda: house.announcements() > before, "they are asked again")
        house.say("faithful", "login", announce=True)
        house.recorder.wait_for_state("silent", "offline")
        house.wait_until_nobody_is_awaited()
        reasons = house.reasons()
        assert (reasons["faithful"], reasons["simple"], reasons["silent"]) == (None, None, "unconfirmed")
        assert house.announcements() == before + 1
        house.assert_true()


def test_who_has_not_answered_when_the_clock_is_set_forward_has_its_time(
    mosquitto: Mosquitto, sqlite_url: str
) -> None:
    """The time for an answer is not over because the clock says so."""
    house = House(mosquitto, sqlite_url, confirm_within=3)
    with house.bridge:
        hello(mosquitto)
        until(lambda: house.bridge.parts.progress.until, "what has waited with the broker is read")
        for user in ("faithful", "silent"):
            house.say(user, "login", announce=True)
        house.settle()
        house.have_all_asked()
        house.set_by = HOUR
        until(lambda: house.bridge.parts.progress.until > now_ms() + HOUR // 2, "the new time is known")
        house.say("faithful", "login", announce=True)
        house.recorder.wait_for_state("silent", "offline")
        house.wait_until_nobody_is_awaited()
        reasons = house.reasons()
        assert (reasons["faithful"], reasons["silent"]) == (None, "unconfirmed")
        assert [name for name, _ in house.recorder.events("faithful")] == ["connectionLogin", "userOnline"]


USERS = [f"user-{n}" for n in range(450)]  # more than two pages


def have_all_come(house: House) -> None:
    """Have all log in and send a heartbeat, by the clock as it is."""
    hello(house.broker)
    house.broker.publisher("", "").publish_all(
        (f"presence/{user}/{user}-phone/{verb}", b'{"connectionId":"c1"}')
        for user in USERS
        for verb in ("login", "activity")
    )
    house.settle()
    assert not any(house.reasons().values()), "all are here"


def assert_all_end(house: House) -> None:
    """Wait until all have ended; they have become idle before."""

    def have_ended() -> bool:
        statuses = house.recorder.statuses()
        return all(user in statuses and statuses[user]["state"] == "offline" for user in USERS)

    house.recorder.wait_for(have_ended, "all have ended")
    reasons = house.reasons()
    assert {reasons[user] for user in USERS} == {"timeout"}
    events = [name for name, _ in house.recorder.events("user-0")]
    assert events[-4:] == ["connectionIdle", "userIdle", "connectionLogout", "userOffline"]
    house.assert_true()


def test_silence_after_the_clock_was_set_back_ends_in_time(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """B1 and B2 do not wait until the time that it was before has come again."""
    house = House(mosquitto, sqlite_url, idle_threshold=1, expire_after=4)
    with house.bridge:
        have_all_come(house)
        house.set_by = -HOUR
        assert_all_end(house)


def test_a_bridge_that_was_away_when_the_clock_was_set_back_ends_silence_in_time(
    mosquitto: Mosquitto, sqlite_url: str
) -> None:
    """It finds records of a time that has not come yet."""
    before = House(mosquitto, sqlite_url, idle_threshold=1, expire_after=4)
    before.set_by = HOUR
    with before.bridge:
        have_all_come(before)
    house = House(mosquitto, sqlite_url, idle_threshold=1, expire_after=4)
    with house.bridge:
        assert_all_end(house)


def test_nobody_looks_silent_because_the_clock_was_set_forward(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """A machine without a clock of its own learns the time late: B2 counts what was, not what the clock says."""
    house = House(mosquitto, sqlite_url, expire_after=15)
    with house.bridge:
        have_all_come(house)
        began = house.now()
        house.set_by = HOUR
        until(lambda: min(r.last_seen for r in read(sqlite_url)[0]) >= began, "all are moved")
        moved = house.now()
        until(lambda: house.bridge.parts.progress.until > moved + 200, "there were checks since")
        house.say("bob", "login")
        house.settle()
        assert not any(house.reasons().values()), "all are here still"

        def is_empty() -> bool:
            return {s["state"] for s in house.recorder.statuses().values()} == {"offline"}

        house.recorder.wait_for(is_empty, "silence ends", 60)
        records = [r for r in read(sqlite_url)[0] if r.user_id in USERS]
        assert {r.reason and r.reason.value for r in records} == {"timeout"}
        assert all(r.login_time < began and r.last_seen < house.now() - 15_000 for r in records)
        house.assert_true()


def test_reports_after_the_clock_was_set_back_are_heard(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """What a client's own monitor tells is not taken for older than what it told while the clock was ahead."""
    house = House(mosquitto, sqlite_url)
    with house.bridge:
        hello(mosquitto)
        house.say("alice", "login", time=house.now())
        house.say("alice", "activity", idle=False, lastActivity=house.now())
        house.recorder.wait_for_state("alice", "online")
        house.settle()
        house.set_by = -HOUR
        until(lambda: max(r.last_seen for r in read(sqlite_url)[0]) <= house.now(), "it is noticed")
        house.say("alice", "activity", idle=True, lastActivity=house.now())
        house.recorder.wait_for_state("alice", "idle")
        house.say("alice", "activity", idle=False, lastActivity=house.now())
        house.recorder.wait_for_state("alice", "online")
