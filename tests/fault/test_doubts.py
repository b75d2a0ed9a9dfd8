"""What is in doubt when something fails in the middle, or ends the bridge there: it comes out right."""

import json
import socket
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
import pytest

from mqtt_presence.errors import StoreError
from mqtt_presence.rules.events import Activity, End, Event, Login
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import ClientId, Reason, RuleSettings, UserId
from mqtt_presence.store import Store, Transaction
from tests.support.bridges import BridgeProcess, BridgeThread
from tests.support.brokers import BRIDGE_PASSWORD, BRIDGE_USER, Mosquitto
from tests.support.playing import hello, settle
from tests.support.postgres import Postgres, query
from tests.support.recorder import Recorder
from tests.support.waiting import until


class Proxy:
    """Before PostgreSQL; on demand it loses the answer to a COMMIT, which is done all the same."""

    def __init__(self, port: int) -> None:
        self._behind = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.armed_by: bytes | None = None
        """The commit whose answer is lost is the next on a connection that has said this."""
        self.cuts = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._behind)
                has_said: list[bool] = []
                for work in (self._up, self._down):
                    threading.Thread(target=work, args=(client, server, has_said), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, has_said: list[bool]) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if self.armed_by is not None and self.armed_by in data:
                    has_said.append(True)
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket, has_said: list[bool]) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if has_said and b"COMMIT\0" in data:  # the tag of CommandComplete
                    self.armed_by = None
                    self.cuts += 1
                    break
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # to close is not enough while the other thread reads


@contextmanager
def answers_lost(monkeypatch: pytest.MonkeyPatch, *, is_done: bool) -> Any:
    """Have the next commit of something to publish fail: done, or not done."""
    transaction = Store.transaction
    failed: list[bool] = []

    @contextmanager
    def failing(store: Store) -> Any:
        put: list[bool] = []
        with transaction(store) as tx:
            put_outbox = tx.put_outbox
            tx.put_outbox = lambda body: (put.append(True), put_outbox(body))[1]  # type: ignore[method-assign]
            yield tx
            if put and not failed and not is_done:
                failed.append(True)
                raise StoreError("cannot use the database: it went away")
        if put and not failed:
            failed.append(True)
            raise StoreError("cannot use the database: it went away")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", failing)
        yield failed


def alice_came(recorder: Recorder) -> None:
    """What one login of hers comes to, once."""
    recorder.wait_for_event("alice", "userOnline")
    assert [name for name, _ in recorder.events("alice")] == ["connectionLogin", "userOnline"]
    assert [told[0] for told in recorder.versions()["alice"]] == [1]
    assert recorder.status("alice")["connections"] == 1


def test_a_commit_whose_answer_is_lost(mosquitto: Mosquitto, postgres: Postgres) -> None:
    """PostgreSQL has committed, and the connection breaks before it says so: all is told, once."""
    real = postgres.database()
    with Proxy(postgres.port) as proxy:
        url = real.replace(f":{postgres.port}/", f":{proxy.port}/")
        with BridgeThread(broker=mosquitto.url, database=url) as bridge:
            hello(mosquitto)
            recorder = mosquitto.recorder()
            settle(mosquitto, recorder)
            proxy.armed_by = b"alice"
            mosquitto.say("alice", "phone", "login", b'{"connectionId":"a1"}')
            alice_came(recorder)
            assert proxy.cuts == 1
            settle(mosquitto, recorder)
            alice_came(recorder)
            until(lambda: not query(real, "SELECT 1 AS x FROM outbox"), "the outbox is empty")
            assert bridge.bridge.counters.refused.total() == 0
    assert query(real, "SELECT COUNT(*) AS n FROM connections WHERE user_id = 'alice'") == [{"n": 1}]


@pytest.mark.parametrize("is_done", [True, False])
def test_nameless_messages_of_a_commit_in_doubt(
    mosquitto: Mosquitto, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    """A login, a will and a login without ids make two records, whether the commit that failed was done or not."""
    with BridgeThread(broker=mosquitto.url, database=sqlite_url):
        hello(mosquitto)
        recorder = mosquitto.recorder()
        settle(mosquitto, recorder)
        client = mosquitto.publisher("", "")
        with answers_lost(monkeypatch, is_done=is_done) as failed:
            client.publish_all((f"presence/alice/phone/{verb}", b"") for verb in ("login", "will", "login"))
            until(lambda: failed, "a commit has failed")
            settle(mosquitto, recorder)
        records = query(
            sqlite_url,
            "SELECT reason FROM connections WHERE user_id = 'alice' ORDER BY login_time, reason DESC",
        )
        assert [r["reason"] for r in records] == ["lost", None]
        names = [name for name, _ in recorder.events("alice")]
        assert names.count("connectionLogin") == 2
        assert names.count("connectionLogout") == 1
        assert recorder.status("alice")["state"] == "online"


def test_asking_the_clients_outlives_a_crash(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """The broker has lost the session, and the bridge is killed before it asks: the next one asks, and ends a ghost."""
    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=sqlite_url, confirm_within=1
    ) as bridge:
        hello(mosquitto)
        recorder = mosquitto.recorder()
        mosquitto.say("alice", "phone", "login", b'{"connectionId":"a1","announce":true}')
        recorder.wait_for_state("alice", "online")
        until(lambda: not remembered(sqlite_url, "announced_at"), "it has no question open")
        assert bridge.stop() == 0
        lose_session(mosquitto, query(sqlite_url, "SELECT client_id FROM seats")[0]["client_id"])
        mosquitto.say("alice", "phone", "will", b'{"connectionId":"a1"}')  # nobody has a session for it
        asked = mosquitto.recorder("bridge/announce")
        with closing(
            sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
        ) as database:
            # What it would write to ask is what it cannot write: it is stopped exactly there.
            database.execute(
                "CREATE TRIGGER stop BEFORE INSERT ON bridge WHEN new.name = 'announced_at' "
                "BEGIN SELECT RAISE(FAIL, 'stopped'); END"
            )
            bridge.start()
            until(lambda: remembered(sqlite_url, "must_announce"), "it knows that it must ask")
            bridge.kill()
            database.execute("DROP TRIGGER stop")
        assert not asked.on("bridge/announce")
        bridge.start()
        asked.wait_for(lambda: asked.on("bridge/announce"), "the clients are asked")
        recorder.wait_for_state("alice", "offline")


def remembered(url: str, name: str) -> Any:
    rows = query(url, f"SELECT value FROM bridge WHERE name = '{name}'")
    return rows[0]["value"] if rows else None


def lose_session(broker: Mosquitto, client_id: str) -> None:
    """Have the broker forget the bridge's session, and nothing else."""
    gone = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=True)
    client.username_pw_set(BRIDGE_USER, BRIDGE_PASSWORD)
    client.on_connect = lambda *_: client.disconnect()
    client.on_disconnect = lambda *_: gone.set()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert gone.wait(10)
    client.loop_stop()


def test_nobody_is_silent_whose_messages_wait(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """The bridge was away for longer than `expire_after`, and heartbeats have waited: nobody goes offline in between.
    Who was silent does.
    """
    users = [f"user{n}" for n in range(50)]
    flags = {"broker": mosquitto.url, "database": sqlite_url, "expire_after": 1, "idle_threshold": 60}
    with BridgeProcess(tmp_path / "log", **flags) as bridge:
        hello(mosquitto)
        recorder = mosquitto.recorder()
        client = mosquitto.publisher("", "")
        named = json.dumps({"connectionId": "c1", "timeout": 30}).encode()
        client.publish_all((f"presence/{user}/{user}-phone/login", named) for user in users)
        client.publish_all([("presence/ghost/ghost-phone/login", b'{"connectionId":"g1"}')])
        settle(mosquitto, recorder)
        bridge.kill()
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database, database:
            # As if it had been away for a minute.
            database.execute(
                "UPDATE connection_records SET check_at = check_at - 60000, opened_at = opened_at - 60000"
            )
            database.execute("UPDATE pulses SET last_seen = last_seen - 60000")
        beat = b'{"connectionId":"c1"}'
        client.publish_all((f"presence/{user}/{user}-phone/activity", beat) for user in users)
        bridge.start()
        recorder.wait_for_state("ghost", "offline")
        settle(mosquitto, recorder)
        for user in users:
            assert "connectionLogout" not in [name for name, _ in recorder.events(user)]
            assert recorder.status(user)["online"]


def test_a_killed_broker_does_not_bring_back_who_is_forgotten(
    mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path
) -> None:
    """The broker acknowledged that a status is cleared, and is killed before it has that on its disk: it is cleared
    again.
    """
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url) as bridge:
        hello(mosquitto)
        recorder = mosquitto.recorder()
        mosquitto.say("alice", "phone", "login", b"")
        mosquitto.say("alice", "phone", "will", b"")
        recorder.wait_for_state("alice", "offline")
        saved = mosquitto.store / "mosquitto.db"
        until(lambda: saved.exists() and b"status/alice" in saved.read_bytes(), "the broker has saved it")
        store = Store(sqlite_url)
        with store.transaction() as tx:
            assert tx.forget("alice")
        store.close()
        recorder.wait_for(lambda: any(not m.payload for m in recorder.on("status/alice")), "it is cleared")
        mosquitto.kill()
        mosquitto.start()
        bridge.wait_for_log("connected to", 2)
        until(
            lambda: mosquitto_retains(mosquitto, "status/alice") is None, "it is cleared again", every_s=0.5
        )


def mosquitto_retains(broker: Mosquitto, topic: str) -> Any:
    """Ask as a newcomer; a topic that always is there tells when all has come."""
    recorder = broker.recorder(topic, "bridge/state")
    recorder.wait_for(lambda: recorder.on("bridge/state"), "what is retained")
    return next((m.payload for m in recorder.on(topic) if m.payload), None)


def test_forgetting_who_gives_a_sign_of_life_is_done_at_the_second_attempt(
    postgres: Postgres,
) -> None:
    """The bridge locks the connection first and then, there being more to it, the user: the other way round."""
    database = postgres.database()
    bridge, command = Store(database), Store(database)
    bridge.open()
    user_id = UserId("alice")
    login = Login(user_id=user_id, client_id=ClientId("phone"), connection_id="c1", now=1_800_000_000_000)
    beat = Activity(user_id=user_id, client_id=login.client_id, connection_id="c1", now=login.now + 1)
    with bridge.transaction() as tx:
        tx.save([fold(tx.load({user_id: [login]})[user_id], [login], RuleSettings())])
    deleted: list[int | None] = []
    forgetting = threading.Thread(target=lambda: deleted.append(command.forget(user_id)))
    with bridge.transaction() as tx:
        assert tx.load_activity({user_id: [beat]})[user_id]
        forgetting.start()
        until(
            lambda: query(database, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"),
            "the command waits for the bridge",
        )
        assert tx.load({user_id: [beat]})[user_id].connections
    forgetting.join(10)
    assert deleted == [1]
    command.close()
    bridge.close()


@pytest.mark.parametrize("first", ["login", "forget"])
@pytest.mark.parametrize("second", ["login", "logout", "report"])
def test_two_who_decide_on_one_user_decide_one_after_the_other(
    postgres: Postgres, first: str, second: str
) -> None:
    """The user's row is locked before anything else of the user is read: a status is that of its records."""
    database = postgres.database()
    here, there = Store(database), Store(database)
    here.open()
    alice, phone = UserId("alice"), ClientId("phone")
    at = 1_800_000_000_000
    events: dict[str, Event] = {
        "login": Login(user_id=alice, client_id=ClientId("web"), connection_id="c2", now=at + 1),
        "another login": Login(user_id=alice, client_id=ClientId("tv"), connection_id="c3", now=at + 2),
        "logout": End(user_id=alice, client_id=phone, connection_id="c1", now=at + 2, reason=Reason.LOGOUT),
        "report": Activity(user_id=alice, client_id=phone, connection_id="c1", now=at + 2, idle=True),
    }

    def decide(tx: Transaction, event: Event) -> None:
        tx.save([fold(tx.load({alice: [event]})[alice], [event], RuleSettings())])

    def decide_there() -> None:
        with there.transaction() as tx:
            decide(tx, events["another login" if second == "login" else second])

    with here.transaction() as tx:
        decide(tx, Login(user_id=alice, client_id=phone, connection_id="c1", now=at))
    other = threading.Thread(target=decide_there)
    with here.transaction() as tx:
        if first == "forget":
            tx.forget(alice)
        else:
            decide(tx, events[first])
        other.start()
        until(
            lambda: query(database, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"),
            "one waits for the other",
        )
    other.join(20)
    users = query(database, "SELECT connections FROM users")
    is_open = query(database, "SELECT connection_id FROM connections WHERE logout_time IS NULL")
    assert sum(user["connections"] for user in users) == len(is_open)
    here.close()
    there.close()
