"""The bridge on real brokers: what comes in, what is kept, what goes out."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from mqtt_presence.errors import BrokerError
from tests.cases import CASES
from tests.conftest import BROKERS, make_broker
from tests.support.bridges import BridgeProcess, BridgeThread, tuned
from tests.support.brokers import Embedded, Mosquitto
from tests.support.checker import assert_consistent, read
from tests.support.playing import Stage, settle
from tests.support.postgres import query
from tests.support.recorder import Recorder
from tests.support.waiting import now_ms, until

WIRE_CASES = [case for case in CASES if case.wire]

AnyBroker = Mosquitto | Embedded


@contextmanager
def bridge_on(broker: AnyBroker, database: str, **settings: Any) -> Iterator[BridgeThread]:
    peer = broker.broker.client_address if isinstance(broker, Embedded) else None
    flags = {"broker": broker.url, "database": database, "prefix": broker.prefix, **settings}
    with BridgeThread({"address_of": peer}, **flags) as bridge:
        yield bridge


def retained(broker: AnyBroker, user: str = "x") -> dict[str, Any]:
    """Ask as a new subscriber: all retained statuses."""
    recorder = broker.recorder()
    settle(broker, recorder, user)
    return {u: s for u, s in recorder.statuses().items() if not u.startswith("mark")}


# Every case of the table.


@pytest.fixture(scope="module", params=BROKERS)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Play all cases once, through one bridge."""
    directory = tmp_path_factory.mktemp("stage")
    database = f"sqlite:///{directory / 'presence.db'}"
    with (
        make_broker(request.param, directory) as broker,
        closing(broker.recorder()) as recorder,
        bridge_on(broker, database, publish_private=True),
    ):
        stage = Stage(broker, recorder, database)
        stage.play(WIRE_CASES)
        yield stage


@pytest.mark.parametrize("case", WIRE_CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_case_comes_to_what_the_contract_says(stage: Stage, case) -> None:
    """Every case of the rules, through the broker and the bridge: records, retained status, events."""
    stage.assert_as_told(case)


def test_cases_leave_one_consistent_story(stage: Stage) -> None:
    """After all cases every status is the function of its user's records, and versions only grew."""
    recorder = stage.recorder
    assert_consistent(stage._database, recorder.statuses(), recorder.versions(), private=True)


# Time.


def test_time_request_is_answered_to_who_asked(broker: AnyBroker, sqlite_url: str) -> None:
    """A time request is answered at once, on the asking client's own topic, with what it sent along."""
    with bridge_on(broker, sqlite_url):
        asking = Recorder(broker.port, ("reply/alice/asker/time",), user="alice", client_id="asker")
        before = now_ms()
        topic = "presence/alice/asker/time"
        asking._client.publish(topic, b'{"t0": {"n": [1, "\\u00e9"]}}', 1)
        asking._client.publish(topic, b"", 0)
        asking.wait_for(lambda: len(asking.heard) == 2, "two answers")
        asking.close()
        first, second = (m.json for m in asking.heard)
        assert first["t0"] == {"n": [1, "é"]}
        assert second["t0"] is None
        assert before <= first["t1"] <= first["t2"] <= now_ms()
        assert not any(m.retained for m in asking.heard)


# The bridge's own state.


def test_bridge_state_is_retained_online_then_offline(broker: AnyBroker, sqlite_url: str) -> None:
    """`bridge/state` says online while the bridge is there, offline when it has left, and its version grows."""
    recorder = broker.recorder("bridge/state")
    with bridge_on(broker, sqlite_url):
        recorder.wait_for(lambda: recorder.last("bridge/state"), "birth")
        late = broker.recorder("bridge/state")
        late.wait_for(lambda: late.last("bridge/state"), "birth, retained")
        assert late.heard[0].retained
        assert late.last("bridge/state")["state"] == "online"
    recorder.wait_for(lambda: recorder.last("bridge/state")["state"] == "offline", "offline")
    with bridge_on(broker, sqlite_url):
        recorder.wait_for(lambda: recorder.last("bridge/state")["state"] == "online", "online again")
    versions = [m.json["version"] for m in recorder.on("bridge/state")]
    assert versions == sorted(set(versions))


def test_bridge_state_is_offline_by_will_when_the_bridge_is_killed(
    broker: AnyBroker, sqlite_url: str, tmp_path
) -> None:
    """A bridge that dies is told of by its will, which is newer than its birth."""
    recorder = broker.recorder()
    with BridgeProcess(tmp_path / "bridge.log", broker=broker.url, database=sqlite_url) as bridge:
        recorder.wait_for(lambda: recorder.last("bridge/state"), "birth")
        bridge.kill()
        recorder.wait_for(lambda: recorder.last("bridge/state")["state"] == "offline", "the will")
        bridge.start()
        recorder.wait_for(lambda: recorder.last("bridge/state")["state"] == "online", "the next birth")
    versions = [m.json["version"] for m in recorder.on("bridge/state")]
    assert versions == sorted(set(versions))


# What is refused.


def test_retained_input_is_refused(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """A login left retained by mistake logs nobody in, neither at once nor with every restart of the bridge."""
    mosquitto.say("alice", "phone", "login", b"{}", retain=True)
    recorder = mosquitto.recorder()
    with bridge_on(mosquitto, sqlite_url) as bridge:
        settle(mosquitto, recorder)
        assert bridge.bridge.counters.refused == {"retained": 1}
        assert recorder.status("alice") is None
        # Live it comes without the flag (MQTT 3.1.1 §3.3.1.3), and is a login.
        mosquitto.say("bob", "phone", "login", b"{}", retain=True)
        recorder.wait_for(lambda: recorder.status("bob"), "bob")


JUNK_PAYLOADS = (
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b'{"connectionId": 7}',
    b'{"connectionId": ""}',
    b'{"connectionId": "%s"}' % (b"x" * 65),
    b'{"connectionId": "a\\u0000b"}',
    b'{"connectionId": "a", "connectionId": 1}',
    b"[" * 5000,
    b'{"a":' * 1500,
    b'{"connectionId": NaN}',
    b"x" * 9000,
)
JUNK_LOGINS = (
    b'{"time": "yesterday"}',
    b'{"time": 1e300}',
    b'{"meta": []}',
    b'{"timeout": -1}',
    b'{"announce": 1}',
)


def test_junk_is_counted_and_changes_nothing(broker: AnyBroker, sqlite_url: str) -> None:
    """Random topics and payloads are refused by reason; nothing changes, and the next good message counts."""
    recorder = broker.recorder()
    rng = random.Random(4711)  # the seed is the test's
    with bridge_on(broker, sqlite_url) as bridge:
        broker.say("alice", "phone", "login", b'{"connectionId": "c1"}')
        settle(broker, recorder)
        before = read(sqlite_url)
        told = len(recorder.heard)
        bad = 0
        for verb in ("login", "activity", "logout", "will"):
            for payload in (*JUNK_PAYLOADS, *(JUNK_LOGINS if verb == "login" else ())):
                broker.say("alice", "phone", verb, payload)
                bad += 1
        for _ in range(200):
            # Bytes that are no JSON object, of any length.
            broker.say("alice", "phone", "activity", b"\x00" + rng.randbytes(rng.randrange(300)))
            bad += 1
        if isinstance(broker, Mosquitto):  # the embedded broker lets none of these through
            for topic in (
                "presence/alice/phone/loginn",
                "presence/alice/phone/LOGIN",
                "presence//phone/login",
                "presence/alice//login",
                f"presence/{'a' * 129}/phone/login",
            ):
                broker.publisher("", "").publish(topic, b"")
                bad += 1
        until(lambda: bridge.bridge.counters.refused.total() == bad, f"{bad} refused")
        assert set(bridge.bridge.counters.refused) <= {"bad_payload", "too_large", "bad_topic"}
        assert read(sqlite_url) == before
        assert len(recorder.heard) == told
        broker.say("alice", "phone", "logout", b'{"connectionId": "c1"}')
        recorder.wait_for_state("alice", "offline")


def test_what_is_refused_makes_what_may_come_again_older(broker: AnyBroker, sqlite_url: str) -> None:
    """Packet ids go round by it, too; and no line of those that are too old is left in the database."""
    with BridgeThread(configure=tuned(kept_packet_ids=5), broker=broker.url, database=sqlite_url) as bridge:
        counters = bridge.bridge.counters

        broker.say("alice", "phone", "login")
        until(lambda: lines(sqlite_url), "the login is committed")
        (old,) = lines(sqlite_url)
        for _ in range(5):
            broker.say("alice", "phone", "login", payload=b"junk")
        until(lambda: counters.refused.total() == 5, "all are refused")
        broker.say("alice", "phone", "activity")
        until(lambda: old not in lines(sqlite_url), "the entry of the login is deleted")
        assert len(lines(sqlite_url)) == 1


def lines(database: str) -> list[int]:
    return [row["number"] for row in query(database, "SELECT number FROM redeliveries")]


def test_unusual_names_are_users_like_others(broker: AnyBroker, sqlite_url: str) -> None:
    """Any name the contract allows is a user: other scripts, spaces, quotes, $, the longest."""
    names = ("zoë kühn", "用户", "o'neil\"; DROP TABLE users; --", "$SYS", "%41", "a" * 128, "🙂")
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url):
        for number, name in enumerate(names):
            broker.say(name, f"{name[:100]} {number}", "login")
        for name in names:
            recorder.wait_for(lambda name=name: recorder.status(name), name)
        assert_consistent(sqlite_url, recorder.statuses())


def test_another_users_connection_id_touches_nothing(broker: AnyBroker, sqlite_url: str) -> None:
    """Mallory knows alice's connection id and uses it in everything: alice stays as she is."""
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url):
        broker.say("alice", "phone", "login", b'{"connectionId": "secret"}')
        recorder.wait_for(lambda: recorder.status("alice"), "alice")
        before = recorder.status("alice")
        for verb in ("will", "logout", "login", "activity", "will"):
            broker.say("mallory", "phone2", verb, b'{"connectionId": "secret"}')
        settle(broker, recorder)
        assert recorder.status("alice") == before
        assert [name for name, _ in recorder.events("alice")] == ["connectionLogin", "userOnline"]
        alice = query(sqlite_url, "SELECT logout_time FROM connections WHERE user_id = 'alice'")
        assert alice == [{"logout_time": None}]


# Privacy.


def test_status_tells_no_address_no_agent_no_ids(broker: AnyBroker, sqlite_url: str) -> None:
    """The public status names neither clients nor connections, addresses nor user agents."""
    login = b'{"connectionId": "conn-secretA", "userAgent": "Agent/1.0", "meta": {"room": "attic"}}'
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url):
        broker.say("alice", "phone-secretB", "login", login)
        broker.say("alice", "phone-secretB", "activity", b'{"connectionId": "conn-secretA", "idle": true}')
        broker.say("alice", "phone-secretB", "logout", b'{"connectionId": "conn-secretA"}')
        settle(broker, recorder)
        told = b"".join(m.payload for m in recorder.on("status/alice"))
        for private in (b"secretA", b"secretB", b"Agent", b"127.0.0.1", b"attic", b"ipAddr", b"userAgent"):
            assert private not in told
        assert recorder.status("alice")["lastLogin"].keys() == {"date"}
        login_event = recorder.wait_for_event("alice", "connectionLogin")
        assert login_event["userAgent"] == "Agent/1.0"
        assert login_event.get("ipAddr") == ("127.0.0.1" if isinstance(broker, Embedded) else None)


def test_publish_private_tells_address_and_agent(broker: AnyBroker, sqlite_url: str) -> None:
    """With `publish_private` the status tells user agent and address, and still no ids."""
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url, publish_private=True):
        broker.say(
            "alice", "phone-secretB", "login", b'{"connectionId": "conn-secretA", "userAgent": "Agent/1.0"}'
        )
        recorder.wait_for(lambda: recorder.status("alice"), "alice")
        last = recorder.status("alice")["lastLogin"]
        assert last["userAgent"] == "Agent/1.0"
        assert last.get("ipAddr") == ("127.0.0.1" if isinstance(broker, Embedded) else None)
        told = recorder.on("status/alice")[-1].payload
        assert b"secretA" not in told
        assert b"secretB" not in told


def test_bridges_client_id_is_in_no_message(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """The bridge's client id is long, random, the same after a restart, and published nowhere."""
    recorder = mosquitto.recorder("#")
    ids = set()
    for _ in range(2):
        with bridge_on(mosquitto, sqlite_url) as bridge:
            mosquitto.say("alice", "phone", "login")
            settle(mosquitto, recorder)
            with bridge.store.transaction() as tx:
                ids.add(tx.client_id())
    (client_id,) = ids
    assert len(client_id) > 20
    assert not any(client_id.encode() in m.payload or client_id in m.topic for m in recorder.heard)


# Settings.


@pytest.mark.parametrize("kind", BROKERS)
def test_prefix_stands_before_every_topic(kind: str, sqlite_url: str, tmp_path) -> None:
    """With a prefix everything is below it, and nothing without it is heard."""
    prefix = "acme/north/"
    with Embedded(prefix) if kind == "embedded" else Mosquitto(tmp_path / "m") as broker:
        broker.prefix = prefix
        recorder = broker.recorder() if kind == "embedded" else broker.recorder("#")
        with bridge_on(broker, sqlite_url):
            broker.say("alice", "phone", "login")
            recorder.wait_for(lambda: recorder.status("alice"), "alice")
            if isinstance(broker, Mosquitto):
                broker.publisher("", "").publish("presence/bob/phone/login", b"")
            settle(broker, recorder)
            assert query(sqlite_url, "SELECT user_id FROM users WHERE user_id = 'bob'") == []
        ours = [m.topic for m in recorder.heard if not m.topic.startswith("presence/")]
        assert ours
        assert all(topic.startswith(prefix) for topic in ours)


# Time makes things happen.


def test_idle_check_makes_idle(broker: AnyBroker, sqlite_url: str) -> None:
    """B1: whoever sends heartbeats, or declared a threshold, and falls silent becomes idle as of then."""
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url, idle_threshold=0.4):
        broker.say("alice", "a", "login", b'{"connectionId": "c1"}')
        broker.say("alice", "a", "activity", b'{"connectionId": "c1"}')
        broker.say("bob", "b", "login", b'{"idleThreshold": 0.3}')
        broker.say("carol", "c", "login")
        for user in ("alice", "bob"):
            recorder.wait_for(lambda user=user: (recorder.status(user) or {}).get("state") == "idle", user)
        assert recorder.status("carol")["state"] == "online"
        broker.say("alice", "a", "activity", b'{"connectionId": "c1"}')
        recorder.wait_for(
            lambda: "connectionActive" in [n for n, _ in recorder.events("alice")][3:], "active"
        )
        recorder.wait_for_state("alice", "idle")
        expected = ["connectionIdle", "userIdle"]
        recorder.wait_for(lambda: [n for n, _ in recorder.events("alice")][-2:] == expected, "events")
        alice = query(sqlite_url, "SELECT last_activity, last_seen FROM connections WHERE user_id = 'alice'")[
            0
        ]
        assert alice["last_activity"] == alice["last_seen"]
        settle(broker, recorder)
        assert_consistent(sqlite_url, recorder.statuses(), recorder.versions())


def test_expiry_check_ends_the_silent(broker: AnyBroker, sqlite_url: str) -> None:
    """B2: silent for longer than its timeout, a connection ends; the next sign of life takes it back."""
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url, expire_after=0.5):
        broker.say("alice", "a", "login", b'{"connectionId": "c1"}')
        broker.say("bob", "b", "login", b'{"connectionId": "c2", "timeout": 60}')
        recorder.wait_for_state("alice", "offline")
        assert recorder.wait_for_event("alice", "connectionLogout")["reason"] == "timeout"
        assert recorder.status("bob")["state"] == "online"
        broker.say("alice", "a", "activity", b'{"connectionId": "c1"}')
        recorder.wait_for_state("alice", "online")
        rows = query(sqlite_url, "SELECT COUNT(*) AS n FROM connections WHERE user_id = 'alice'")
        assert rows == [{"n": 1}]


def test_grace_hides_a_short_loss(broker: AnyBroker, sqlite_url: str) -> None:
    """Within the grace a lost connection still counts for the status; record and event are there at once."""
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url, grace=1.0):
        broker.say("alice", "a", "login", b'{"connectionId": "c1"}')
        lost_at = time.monotonic()
        broker.say("alice", "a", "will", b'{"connectionId": "c1"}')
        recorder.wait_for(lambda: "connectionLogout" in dict(recorder.events("alice")), "the event")
        assert query(sqlite_url, "SELECT reason FROM connections WHERE user_id = 'alice'") == [
            {"reason": "lost"}
        ]
        if time.monotonic() - lost_at < 0.8:  # else the machine was too busy to see the grace
            assert recorder.status("alice")["state"] == "online"
        recorder.wait_for_state("alice", "offline")
        offline = recorder.on("status/alice")[-1]
        assert offline.at - lost_at >= 0.9
        assert recorder.wait_for_event("alice", "userOffline")
        # And back in time: nobody sees it go.
        broker.say("bob", "b", "login", b'{"connectionId": "c1"}')
        broker.say("bob", "b", "will", b'{"connectionId": "c1"}')
        broker.say("bob", "b", "login", b'{"connectionId": "c2"}')
        until(
            lambda: not query(sqlite_url, "SELECT 1 AS x FROM connections WHERE check_at IS NOT NULL"),
            "no grace is left",
        )
        settle(broker, recorder)
        assert {m.json["state"] for m in recorder.on("status/bob")} == {"online"}


def test_who_does_not_answer_the_announcement_ends(broker: AnyBroker, sqlite_url: str) -> None:
    """B3: a new session with the broker is announced; who answers announcements and is silent is gone."""
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url):
        for user in ("silent", "faithful"):
            broker.say(user, f"{user}-1", "login", b'{"connectionId": "c", "announce": true}')
        broker.say("simple", "simple-1", "login", b"")
        settle(broker, recorder)
    broker.lose_everything()
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url, confirm_within=1.0):
        recorder.wait_for(lambda: recorder.on("bridge/announce"), "the announcement")
        broker.say("faithful", "faithful-1", "login", b'{"connectionId": "c", "announce": true}')
        recorder.wait_for_state("silent", "offline")
        assert recorder.wait_for_event("silent", "connectionLogout")["reason"] == "unconfirmed"
        settle(broker, recorder)
        assert recorder.status("faithful")["state"] == "online"
        assert recorder.status("simple")["state"] == "online"
        broker.say("silent", "silent-1", "activity", b'{"connectionId": "c"}')
        recorder.wait_for_state("silent", "online")


def test_restart_with_the_session_kept_announces_nothing(broker: AnyBroker, sqlite_url: str) -> None:
    """A bridge that finds its session has missed nothing, and asks nobody to log in again."""
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url, confirm_within=0.05):
        recorder.wait_for(lambda: recorder.on("bridge/announce"), "the first announcement")
        broker.say("alice", "phone", "login")
        settle(broker, recorder)
        until(
            lambda: not query(sqlite_url, "SELECT 1 AS x FROM bridge WHERE name = 'announced_at'"),
            "it is over",
        )
    with bridge_on(broker, sqlite_url):
        broker.say("alice", "phone", "logout")
        settle(broker, recorder)
        assert len(recorder.on("bridge/announce")) == 1
        assert_consistent(sqlite_url, recorder.statuses(), recorder.versions())


def test_retention_deletes_what_ended_long_ago(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """With `retention` ended records go when they are old enough; open ones and users stay."""
    recorder = mosquitto.recorder()
    with bridge_on(mosquitto, sqlite_url):
        mosquitto.say("alice", "phone", "login", b'{"connectionId": "old"}')
        mosquitto.say("alice", "phone", "logout", b'{"connectionId": "old"}')
        mosquitto.say("bob", "phone2", "login", b'{"connectionId": "open"}')
        settle(mosquitto, recorder)
    ended = query(sqlite_url, "SELECT logout_time FROM connections WHERE connection_id = 'old'")[0][
        "logout_time"
    ]
    until(lambda: now_ms() > ended + 50, "it is old")
    with bridge_on(mosquitto, sqlite_url, retention=0.05):
        until(
            lambda: not query(sqlite_url, "SELECT 1 AS x FROM connections WHERE connection_id = 'old'"),
            "the old record is gone",
        )
        settle(mosquitto, recorder)
        assert (
            query(sqlite_url, "SELECT COUNT(*) AS n FROM connections WHERE connection_id = 'open'")[0]["n"]
            == 1
        )
        assert recorder.status("alice")["state"] == "offline"


# Forgetting.


def test_forgotten_user_leaves_no_status_and_comes_back_newer(broker: AnyBroker, sqlite_url: str) -> None:
    """A forgotten user's retained status is cleared; coming back, the version goes on growing."""
    from mqtt_presence.store import Store

    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url):
        for _ in range(3):
            broker.say("alice", "phone", "login", b"")
            broker.say("alice", "phone", "logout", b"")
        settle(broker, recorder)
        version = recorder.status("alice")["version"]
        store = Store(sqlite_url)
        with store.transaction() as tx:
            assert tx.forget("alice") == 3
        store.close()
        recorder.wait_for(lambda: recorder.status("alice") is None, "the status is cleared")
        assert "alice" not in retained(broker)
        until(
            lambda: not query(sqlite_url, "SELECT 1 AS x FROM tombstones WHERE buried_at IS NULL"),
            "the tombstone is buried",
        )
        broker.say("alice", "phone", "login", b"")
        recorder.wait_for(lambda: recorder.status("alice"), "alice is back")
        assert recorder.status("alice")["version"] > version


# Getting in.


def test_wrong_password_is_a_broker_error(sqlite_url: str, tmp_path) -> None:
    """A bridge with the wrong password ends with an error that says so, and does not try for ever."""
    with Mosquitto(tmp_path / "m", users={"bridge": "right"}) as broker:
        flags = {"broker": f"mqtt://bridge:wrong@127.0.0.1:{broker.port}", "database": sqlite_url}
        with pytest.raises(BrokerError) as caught, BridgeThread(**flags):
            pass
        assert "wrong user name or password" in str(caught.value) or "may not connect" in str(caught.value)
        assert "wrong@" not in str(caught.value)


def test_status_follows_within_a_moment(broker: AnyBroker, sqlite_url: str) -> None:
    """A plugged-out client's will becomes its user's offline status, without any clock's help."""
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url):
        will = ("presence/alice/plug/will", b'{"connectionId": "c9"}')
        client = broker.client("alice", "plug", will=will)
        client.publish("presence/alice/plug/login", b'{"connectionId": "c9"}')
        recorder.wait_for(lambda: recorder.status("alice"), "alice is online")
        client.close()
        recorder.wait_for_state("alice", "offline")
        assert recorder.wait_for_event("alice", "connectionLogout")["reason"] == "lost"


def test_payloads_are_what_the_contract_says(broker: AnyBroker, sqlite_url: str) -> None:
    """Field for field: the retained status and the events of a login, a report of idle, and a logout."""
    recorder = broker.recorder()
    with bridge_on(broker, sqlite_url):
        base = now_ms()
        broker.say("alice", "phone", "login", b'{"connectionId": "c1", "userAgent": "A"}')
        recorder.wait_for_state("alice", "online")
        idle = json.dumps({"connectionId": "c1", "idle": True, "lastActivity": base - 5000}).encode()
        broker.say("alice", "phone", "activity", idle)
        recorder.wait_for_state("alice", "idle")
        recorder.wait_for(lambda: len(recorder.events("alice")) == 4, "its events")
        status = recorder.status("alice")
        assert status.keys() == {
            "userId", "state", "online", "idle", "since", "lastLogin", "lastActivity", "lastSeen", "connections",
            "version",
        }  # fmt: skip
        broker.say("alice", "phone", "logout", b'{"connectionId": "c1"}')
        recorder.wait_for(lambda: len(recorder.events("alice")) == 6, "all events")
        events = recorder.events("alice")
        assert [name for name, _ in events] == [
            "connectionLogin", "userOnline", "connectionIdle", "userIdle", "connectionLogout", "userOffline",
        ]  # fmt: skip
        ip = {"ipAddr"} if isinstance(broker, Embedded) else set()
        who = {"userId", "connectionId", "clientId"}
        assert events[0][1].keys() == who | {"userAgent", "loginTime"} | ip
        assert events[1][1].keys() == {"userId", "version", "time", "connections"}
        assert events[2][1].keys() == who | {"lastActivity"}
        assert events[4][1].keys() == who | {"logoutTime", "lastActivity", "reason"}
        assert "idle" not in recorder.status("alice")
        row = query(sqlite_url, "SELECT * FROM users")[0]
        assert row["state"] == "offline"
        assert row["idle"] is None
        public = {
            "user_id", "state", "online", "idle", "since", "last_login", "last_login_ip_addr",
            "last_login_user_agent", "last_activity", "last_seen", "version",
        }  # fmt: skip
        assert public <= row.keys()
        assert row["version"] == recorder.status("alice")["version"] == 3
