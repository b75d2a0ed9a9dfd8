"""The browser client with the MQTT.js that is shipped, against real brokers over WebSocket and the real bridge."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.access.passwords import add_user
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from tests.support.bridges import BridgeThread
from tests.support.brokers import BRIDGE_PASSWORD, Embedded, Mosquitto
from tests.support.mqtt import Client
from tests.support.node import Page, PageError
from tests.support.recorder import Recorder
from tests.support.waiting import free_port, until

AnyBroker = Mosquitto | Embedded


def mosquitto_for_browsers(directory: Path, **how: Any) -> Mosquitto:
    ws_port = free_port()
    broker = Mosquitto(directory, f"listener {ws_port} 127.0.0.1\nprotocol websockets", **how)
    broker.ws_port = ws_port
    return broker


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyBroker]:
    """Run a fresh broker that browsers can reach, of each kind in turn."""
    kinds = {
        "mosquitto": lambda: mosquitto_for_browsers(tmp_path / "broker"),
        "embedded": lambda: Embedded(ws=True),
    }
    with kinds[request.param]() as started:
        yield started


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto_for_browsers(tmp_path / "broker") as started:
        yield started


@pytest.fixture
def bridge(broker: AnyBroker, sqlite_url: str) -> Iterator[BridgeThread]:
    with BridgeThread(broker=broker.url, database=sqlite_url) as started:
        yield started


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """Open a page that says nothing unasked."""
    with Page(tmp_path / "page.log") as opened:
        yield opened


def ws(broker: Any) -> str:
    return f"ws://127.0.0.1:{broker.ws_port}/mqtt"


def make_client(page: Page, url: str, user: str = "alice", **options: Any) -> None:
    options = {"user": user, "reconnectMin": 50, "reconnectMax": 200, "userAgent": "a page", **options}
    page(f"scope.client = new PresenceClient({json.dumps(url)}, {json.dumps(options)})")


def connect(page: Page, broker: AnyBroker, user: str = "alice", **options: Any) -> str:
    """Connect as a user; return the connection's id."""
    make_client(page, ws(broker), user, **options)
    return str(page("await scope.client.connect(); return scope.client.connectionId"))


def ends(recorder: Recorder, user: str = "alice") -> dict[str, str]:
    """Return the reasons of a user's ended connections."""
    found = recorder.events(user)
    return {event["connectionId"]: event["reason"] for name, event in found if name == "connectionLogout"}


def assert_ends(recorder: Recorder, reasons: dict[str, str]) -> None:
    """Wait for these ends; the events come after the status."""
    recorder.wait_for(lambda: set(ends(recorder)) >= set(reasons), f"the ends of {reasons}")
    assert ends(recorder) == reasons


@pytest.mark.usefixtures("bridge")
def test_client_logs_in_works_and_logs_out(broker: AnyBroker, page: Page) -> None:
    """Login, the server's time, idle and active by the monitor, logout: the bridge makes of it what it should."""
    recorder = broker.recorder()
    connection_id = connect(page, broker)
    login = recorder.wait_for_event("alice", "connectionLogin")
    client_id = page("return scope.client.clientId")
    assert (login["connectionId"], login["clientId"], login["userAgent"]) == (
        connection_id,
        client_id,
        "a page",
    )
    page("await until(() => scope.client.bridgeConnected && scope.client.isSynced)")
    assert page("return scope.client.resync()") is True
    offset, round_trip = page("return [scope.client.offset, scope.client.roundTrip]")
    assert abs(offset) <= round_trip / 2 + 3  # one machine, one clock, in whole milliseconds
    page("scope.client.monitor.start({threshold: 10})")
    recorder.wait_for_event("alice", "connectionActive")
    recorder.wait_for_state("alice", "idle")
    idle_since = recorder.status("alice")["lastActivity"]
    assert page("return scope.client.monitor.lastActivity.toISOString()") == idle_since
    page("scope.client.monitor.ping()")
    recorder.wait_for_state("alice", "online")
    assert page("return scope.client.heartbeat()") is True
    assert page("return scope.client.disconnect()") is True
    recorder.wait_for_state("alice", "offline")
    assert_ends(recorder, {connection_id: "logout"})
    assert page("return scope.client.getSnapshot().connected") is False


@pytest.mark.usefixtures("bridge")
def test_lost_connection_is_lost_and_comes_back_as_a_new_one(broker: AnyBroker, page: Page) -> None:
    """The network fails: the broker publishes the will, the client comes back with a new id, and is idle again."""
    recorder = broker.recorder()
    first = connect(page, broker)
    page("scope.client.monitor.start({threshold: 10})")
    page("await until(() => scope.client.isSynced && scope.client.monitor.isIdle)")
    recorder.wait_for_state("alice", "idle")
    page("sockets.at(-1).terminate()")
    second = page(
        f"return until(() => ![null, {json.dumps(first)}].includes(scope.client.connectionId) && "
        "scope.client.connectionId)"
    )
    assert_ends(recorder, {first: "lost"})

    def idle_again() -> bool:
        events = recorder.events("alice")
        return any(name == "connectionIdle" and event["connectionId"] == second for name, event in events)

    recorder.wait_for(idle_again, "idle after the reconnect")
    recorder.wait_for_state("alice", "idle")


@pytest.mark.usefixtures("bridge")
def test_page_that_goes_away_is_gone_and_one_that_returns_is_back(broker: AnyBroker, page: Page) -> None:
    """The back/forward cache keeps no connection: the will goes out at once, and pageshow logs in anew."""
    recorder = broker.recorder()
    first = connect(page, broker)
    recorder.wait_for_state("alice", "online")
    page("page.turn('pagehide', true)")
    recorder.wait_for_state("alice", "offline")
    assert_ends(recorder, {first: "lost"})
    page("page.turn('pageshow', true)")
    recorder.wait_for_state("alice", "online")
    second = page("return until(() => scope.client.connectionId)")
    assert second != first


@pytest.mark.usefixtures("bridge")
def test_hidden_page_says_what_a_visible_one_does(broker: AnyBroker, page: Page) -> None:
    """Login, idle and logout come from a hidden page too, in this order."""
    recorder = broker.recorder()
    page("page.show(false)")
    connection_id = connect(page, broker)
    page("await until(() => scope.client.isSynced); scope.client.monitor.start({idleOnBlur: true})")
    recorder.wait_for_state("alice", "idle")
    assert page("return scope.client.disconnect()") is True
    recorder.wait_for_state("alice", "offline")
    assert_ends(recorder, {connection_id: "logout"})
    assert [name for name, _ in recorder.events("alice") if name.startswith("connection")] == [
        "connectionLogin",
        "connectionActive",
        "connectionIdle",
        "connectionLogout",
    ]


@pytest.mark.usefixtures("bridge")
def test_browser_that_crashes_is_lost(broker: AnyBroker, tmp_path: Path) -> None:
    """Nobody closed anything: the will says it."""
    recorder = broker.recorder()
    with Page(tmp_path / "crash.log") as page:
        connection_id = connect(page, broker)
        recorder.wait_for_state("alice", "online")
        page.crash()
        recorder.wait_for_state("alice", "offline")
        assert_ends(recorder, {connection_id: "lost"})


@pytest.mark.usefixtures("bridge")
def test_announcement_is_answered(broker: AnyBroker, page: Page) -> None:
    """Asked to, the client logs in again with the same id, which is no new connection."""
    recorder = broker.recorder()
    connection_id = connect(page, broker)
    page("await until(() => scope.client.isSynced)")
    before = recorder.wait_for_state("alice", "online")["version"]
    as_bridge = {"user": "bridge", "password": BRIDGE_PASSWORD}
    watching = Recorder(broker.port, ("presence/+/+/login",), **as_bridge, log=broker.log)
    announcer = Client(broker.port, client_id="announcer", **as_bridge)
    try:
        announcer.publish("bridge/announce", b"{}")
        topic = f"presence/alice/{page('return scope.client.clientId')}/login"
        login = watching.wait_for(lambda: watching.last(topic), "the login")
    finally:
        announcer.disconnect()
        watching.close()
    assert (login["connectionId"], login["announce"]) == (connection_id, True)
    assert isinstance(login["time"], int)
    assert ends(recorder) == {}
    assert recorder.status("alice")["version"] == before


@pytest.mark.usefixtures("bridge")
def test_watcher_converges_to_what_the_broker_has(broker: AnyBroker, page: Page) -> None:
    """Whatever happens, whoever was forgotten: in the end the page shows what the retained messages say."""
    recorder = broker.recorder()
    for user in ("bob", "carol", "dave"):
        broker.say(user, f"{user}-phone", "login")
    connect(page, broker)
    page("scope.users = new StatusWatcher(scope.client)")
    broker.say("carol", "carol-phone", "logout")
    broker.say("dave", "dave-phone", "activity", b'{"idle": true}')
    wanted = {"alice": "online", "bob": "online", "carol": "offline", "dave": "idle"}
    state = "Object.fromEntries(scope.users.getSnapshot().users.map(({userId, state}) => [userId, state]))"
    shown = f"await until(() => JSON.stringify({state}) === {json.dumps(json.dumps(wanted, separators=(',', ':')))})"
    page(shown)
    assert page("return scope.users.stale") is False
    for user, wanted_state in wanted.items():
        recorder.wait_for_state(user, wanted_state)
        told, seen = recorder.status(user), page(f"return scope.users.get({json.dumps(user)})")
        assert {name: value for name, value in seen.items() if value is not None} == {
            name: {"ipAddr": None, "userAgent": None, **value} if name == "lastLogin" else value
            for name, value in told.items()
        }
    page("sockets.at(-1).terminate(); await until(() => scope.users.stale)")
    page("await until(() => !scope.users.stale)")
    wanted["alice"] = "online"
    page(shown)


def test_watcher_of_its_own_needs_no_bridge(broker: AnyBroker, page: Page) -> None:
    """Without a bridge it is connected, and says that what it shows is stale."""
    url = json.dumps(ws(broker))
    page(f"scope.users = new StatusWatcher({url}, {{user: 'bob'}}); await scope.users.connect()")
    snapshot = page("return scope.users.getSnapshot()")
    assert snapshot == {"users": [], "connected": True, "bridge": "unknown", "stale": True, "error": None}
    page("await scope.users.close()")
    assert page("return scope.users.connected") is False


def test_broker_that_is_not_there_is_said_and_waited_for(tmp_path: Path, page: Page) -> None:
    """The first attempt fails with a reason; without waiting for it the client is there when the broker is."""
    broker = mosquitto_for_browsers(tmp_path / "broker")
    make_client(page, ws(broker))
    with pytest.raises(PageError) as failed:
        page("await scope.client.connect()")
    assert failed.value.code == "unreachable"
    page("await scope.client.connect({wait: false}); await until(() => scope.client.error)")
    with broker:
        page("await until(() => scope.client.connected)")
        assert page("return scope.client.error") is None


def test_wrong_password_says_so(tmp_path: Path, page: Page) -> None:
    """Both brokers refuse it, and the client tells why."""
    passwords = tmp_path / "passwords"
    add_user(passwords, "alice", "secret")
    with (
        mosquitto_for_browsers(tmp_path / "broker", users={"alice": "secret"}) as mosquitto,
        EmbeddedBroker(EmbeddedConfig(port=0, ws_port=0, open=False, password_file=passwords)) as embedded,
    ):
        for broker in (mosquitto, embedded):
            make_client(page, ws(broker), password="wrong")
            with pytest.raises(PageError) as refused:
                page("await scope.client.connect()")
            assert refused.value.code == "bad-password"
            assert page("return scope.client.getSnapshot().error.code") == "bad-password"
            page(
                f"const users = new StatusWatcher({json.dumps(ws(broker))}, {{user: 'alice', password: 'secret'}});"
                "await users.connect(); await users.close()"
            )


def test_users_that_may_not_be_read_are_said(page: Page) -> None:
    """The embedded broker refuses the subscription: the watcher says so."""
    with Embedded(ws=True) as broker:
        url = json.dumps(ws(broker))
        with pytest.raises(PageError) as denied:
            page(f"await new StatusWatcher({url}, {{user: 'bob', prefix: 'other'}}).connect()")
    assert denied.value.code == "not-allowed"


def test_connection_that_went_silent_is_noticed(mosquitto: Mosquitto, page: Page) -> None:
    """Pings go out and are answered; when they are not, the connection is lost, and comes back with the broker."""
    first = connect(page, mosquitto, keepAlive=1_000)
    until(lambda: mosquitto.log().count("PINGREQ") >= 3, "pings")
    assert page("return scope.client.connectionId") == first
    assert mosquitto._process is not None
    mosquitto._process.send_signal(signal.SIGSTOP)
    try:
        page("await until(() => !scope.client.connected)")
    finally:
        mosquitto._process.send_signal(signal.SIGCONT)
    assert page("return until(() => scope.client.connectionId)") != first
