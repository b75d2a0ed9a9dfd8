"""Each broker with its shipped configuration: who may do what, what it keeps, and the real bridge on it.

Not part of `make test`: `make test-brokers` installs the brokers first. What a broker cannot do is asserted as it is, so
that the table in broker_config/README.md stays true.
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_presence.store.reader import Reader
from tests.brokers.rigs import RIGS, TLS, Rig
from tests.support.bridges import BridgeProcess
from tests.support.peer import Peer, RefusedError
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)
VERBS = ("login", "activity", "logout", "will", "time")
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=RIGS, ids=lambda rig: rig.name)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Run each broker once for all tests."""
    with request.param(tmp_path_factory.mktemp(request.param.name)) as started:
        yield started


@pytest.fixture(autouse=True)
def _log_of_failure(rig: Rig, request: pytest.FixtureRequest) -> Iterator[None]:
    """Add the broker's log to a failed test."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        print(rig.log())


def fresh(user: str) -> str:
    """Make an unused client id; RabbitMQ's rights require the user's name at its beginning."""
    return f"{user}-{next(_numbers)}"


# Where it listens.


def test_listens_for_this_machine_alone(rig: Rig) -> None:
    """Listeners without TLS, and ports that presence does not need, are for this machine only."""
    for_the_network = {rig.ports[name] for name in TLS}
    found = rig.listening()
    assert {port for _, port in found} >= {rig.ports[name] for name in rig.transports}
    assert {address for address, port in found if port not in for_the_network} <= {"127.0.0.1", "::1"}


# Who may do what.


def test_client_writes_its_own_topics(rig: Rig) -> None:
    """Each verb of a client and its will reach the bridge, on every listener."""
    for transport in rig.transports:
        bridge = rig.peer("bridge", fresh("bridge"), transport, filters=("presence/+/+/+",))
        assert bridge.granted == [True]
        phone = fresh("alice")
        alice = rig.peer("alice", phone, transport, will=(f"presence/alice/{phone}/will", b"lost"))
        for verb in VERBS:
            assert alice.publish(f"presence/alice/{phone}/{verb}", b"said")
        alice.die()
        bridge.wait_for(f"presence/alice/{phone}/will", b"lost")
        heard = [(topic, payload) for topic, payload, _ in bridge.heard]
        assert heard[:5] == [(f"presence/alice/{phone}/{verb}", b"said") for verb in VERBS]
        assert heard[5:] == [(f"presence/alice/{phone}/will", b"lost")]
        bridge.close()


def forgeries(me: str, alice: str) -> list[str]:
    return [
        f"presence/alice/{alice}/login",
        f"presence/mallory/{me}/status",
        f"presence/mallory/{me}/login/more",
        f"presence/mallory/{me}",
        "status/alice",
        "events/alice/userOnline",
        "bridge/state",
        "bridge/announce",
        f"reply/alice/{alice}/time",
        f"reply/mallory/{me}/time",
    ]


class Readers:
    """Connections that would receive a forgery."""

    def __init__(self, rig: Rig) -> None:
        self.phone = fresh("alice")
        self._rig = rig
        self._bridge = rig.peer("bridge", fresh("bridge"), filters=("presence/+/+/+", "status/+", "bridge/+"))
        self._operator = rig.peer("operator", fresh("operator"), filters=("events/+/+",))
        self._alice = rig.peer("alice", self.phone, filters=(f"reply/alice/{self.phone}/+",))
        self._marks = itertools.count()

    def forged(self) -> list[str]:
        """Return the topics of all messages so far, after a message that follows them."""
        mark = f"mark-{next(self._marks)}"
        speaker = self._rig.peer("bridge", fresh("bridge"))
        for topic, reader in (
            (f"status/{mark}", self._bridge),
            (f"events/{mark}/userOnline", self._operator),
            (f"reply/alice/{self.phone}/{mark}", self._alice),
        ):
            assert speaker.publish(topic, mark.encode())
            reader.wait_for(topic)
        self._alice.publish(f"presence/alice/{self.phone}/time", mark.encode())
        self._bridge.wait_for(f"presence/alice/{self.phone}/time", mark.encode())
        speaker.close()
        everything = (*self._bridge.heard, *self._operator.heard, *self._alice.heard)
        return [topic for topic, payload, _ in everything if payload == b"forged"]


def test_client_writes_no_other_topics(rig: Rig) -> None:
    """Messages and wills, retained or not, pass only on the client's own topics."""
    readers = Readers(rig)
    for number, _ in enumerate(forgeries("", "")):
        for retain in (False, True):
            me = fresh("mallory")
            topic = forgeries(me, readers.phone)[number]
            mallory = rig.peer("mallory", me)
            mallory.publish(topic, b"forged", retain=retain)
            mallory.close()
    assert readers.forged() == []
    for number, _ in enumerate(forgeries("", "")):
        me = fresh("mallory")
        will = (forgeries(me, readers.phone)[number], b"forged")
        dies_with(rig, me, will)
    assert readers.forged() == []
    later = rig.peer("alice", fresh("alice"), filters=("status/alice", "bridge/state", "status/mark-0"))
    assert [payload for _, payload, _ in later.heard if payload == b"forged"] == []


def dies_with(rig: Rig, client_id: str, will: tuple[str, bytes]) -> None:
    """Die as mallory with this will, and wait until the broker has noticed."""
    try:
        mallory = rig.peer("mallory", client_id, will=will)
    except RefusedError:
        return  # ejabberd looks at the will at once
    mallory.die()
    rig.peer("mallory", client_id).close()


def test_another_device_of_the_same_user(rig: Rig) -> None:
    """One device can publish for another only if the rights do not include client ids."""
    readers = Readers(rig)
    for other in ("mallory-other", "mallory-more"):
        mallory = rig.peer("mallory", fresh("mallory"))
        mallory.publish(f"presence/mallory/{other}/login", b"forged")
        mallory.close()
    dies_with(rig, fresh("mallory"), ("presence/mallory/mallory-other/will", b"forged"))
    expected = set() if rig.ties_client_id else {
        "presence/mallory/mallory-other/login",
        "presence/mallory/mallory-more/login",
        "presence/mallory/mallory-other/will",
    }  # fmt: skip
    assert set(readers.forged()) == expected


def may_read(rig: Rig, user: str, client_id: str, topic_filter: str) -> bool:
    """Subscribe on a new connection, which some brokers close at a forbidden subscription."""
    peer = rig.peer(user, client_id, filters=(topic_filter,))
    granted = peer.granted == [True]
    peer.close()
    return granted


def test_who_reads_what(rig: Rig) -> None:
    """All users read statuses, the bridge's state and own replies; operators events; no user presence."""
    me = fresh("alice")
    if not rig.refuses_subscriptions:
        # What is delivered is tried in tests/integration/test_mosquitto_config.py.
        assert may_read(rig, "alice", me, "presence/#")
        return
    for topic_filter in (
        "status/+",
        "status/#",
        "status/bob",
        "bridge/+",
        "bridge/state",
        f"reply/alice/{me}/+",
    ):
        assert may_read(rig, "alice", me, topic_filter), topic_filter
    for topic_filter in (
        "presence/+/+/+",
        "presence/#",
        "#",
        "+/+",
        "events/+/+",
        "reply/mallory/+/+",
        "reply/+/+/+",
    ):
        assert not may_read(rig, "alice", me, topic_filter), topic_filter
    assert may_read(rig, "operator", fresh("operator"), "events/+/+")
    assert not may_read(rig, "operator", fresh("operator"), "presence/+/+/+")
    assert may_read(rig, "alice", me, "reply/alice/alice-other/time") == (not rig.ties_client_id)


def test_home_assistant_finds_the_bridge_and_no_other_user(rig: Rig) -> None:
    """It reads discovery messages, writes its own state, and only the bridge describes devices."""
    topic = "homeassistant/device/presence_{}/config"
    filters = ("homeassistant/device/+/config", "homeassistant/status", "status/+")
    hass = rig.peer("homeassistant", fresh("homeassistant"), filters=filters)
    for forged in (topic.format("forged"), "homeassistant/status"):
        rig.peer("mallory", fresh("mallory")).publish(forged, b"forged")
    bridge = rig.peer("bridge", fresh("bridge"))
    bridge.publish(topic.format("alice"), b"{}", retain=True)
    hass.publish("homeassistant/status", b"online")
    hass.wait_for(topic.format("alice"), b"{}")
    hass.wait_for("homeassistant/status", b"online")
    assert not [topic for topic, payload, _ in hass.heard if payload == b"forged"]
    bridge.publish(topic.format("alice"), b"", retain=True)
    if rig.refuses_subscriptions:
        assert not may_read(rig, "alice", fresh("alice"), "homeassistant/#")


def test_connections_without_a_password_are_refused(rig: Rig) -> None:
    """No listener accepts anonymous clients."""
    for transport in rig.transports:
        for user, secret in (("alice", "wrong"), ("alice", None), ("nobody", "secret-of-nobody"), ("", "")):
            with pytest.raises(RefusedError):
                rig.peer(user, fresh("alice"), transport, password=secret)


def test_client_id_of_another_user(rig: Rig) -> None:
    """The effect of another user's client id is that of the table."""
    bridge = rig.peer("bridge", fresh("bridge"), filters=("presence/+/+/+",))
    phone = fresh("alice")
    alice = rig.peer("alice", phone, will=(f"presence/alice/{phone}/will", b"lost"))
    if rig.foreign_id == "refused":
        with pytest.raises(RefusedError):
            rig.peer("mallory", phone)
    else:
        rig.peer("mallory", phone)
    if rig.foreign_id == "kicks":
        alice.wait_for_end()
        return
    assert alice.publish(f"presence/alice/{phone}/time", b"still here")
    bridge.wait_for(f"presence/alice/{phone}/time", b"still here")
    assert bridge.said(f"presence/alice/{phone}/will") == []


def test_takeover_by_the_same_client(rig: Rig) -> None:
    """After an early reconnect, the old will and its order are those of the table."""
    bridge = rig.peer("bridge", fresh("bridge"), filters=("presence/+/+/+",))
    for _ in range(5):
        phone = fresh("alice")
        topic = f"presence/alice/{phone}"
        first = rig.peer("alice", phone, will=(f"{topic}/will", b"old"))
        second = rig.peer("alice", phone)
        assert second.publish(f"{topic}/login", b"new")
        first.wait_for_end()
        if rig.takeover != "login":
            bridge.wait_for(f"{topic}/will")
        assert second.publish(f"{topic}/time", b"mark")
        bridge.wait_for(f"{topic}/time", b"mark")
        heard = [t.rpartition("/")[2] for t, _, _ in bridge.heard if t.startswith(topic) and "/time" not in t]
        if rig.takeover == "both":
            assert sorted(heard) == ["login", "will"]
        else:
            assert ", ".join(heard) == rig.takeover
        second.close()


def test_large_messages_are_not_delivered(rig: Rig) -> None:
    """The broker refuses larger messages than presence needs; the largest needed one passes."""
    for transport in rig.transports:
        bridge = rig.peer("bridge", fresh("bridge"), transport, filters=("presence/+/+/+",))
        large = fresh("alice")
        rig.peer("alice", large, transport).publish(f"presence/alice/{large}/activity", b"x" * 100_000)
        phone = fresh("alice")
        assert rig.peer("alice", phone, transport).publish(f"presence/alice/{phone}/login", b"x" * 8192)
        bridge.wait_for(f"presence/alice/{phone}/login", b"x" * 8192)
        heard = len(bridge.said(f"presence/alice/{large}/activity"))
        assert heard == (transport in rig.unlimited), transport
        bridge.close()


# What the broker keeps.


def test_messages_wait_for_an_absent_bridge(rig: Rig) -> None:
    """Twice as many as most brokers keep by default, in order."""
    bridge_id = fresh("bridge")
    rig.peer("bridge", bridge_id, persistent=True, filters=("presence/+/+/+",)).close()
    phone = fresh("alice")
    alice = rig.peer("alice", phone)
    topic = f"presence/alice/{phone}/activity"
    assert alice.publish_all((topic, b"%d" % number) for number in range(2000))
    bridge = rig.peer("bridge", bridge_id, persistent=True)
    bridge.wait_for(topic, b"1999")
    assert bridge.said(topic) == [b"%d" % number for number in range(2000)]
    bridge.close()
    rig.peer("bridge", bridge_id).close()  # clean: the session goes


def test_retained_statuses_come_back(rig: Rig) -> None:
    """A new subscriber gets the status by its exact topic, and by wildcard if the table says so."""
    bridge = rig.peer("bridge", fresh("bridge"))
    assert bridge.publish("status/kept", b"here", retain=True)
    assert bridge.publish("status/kept-too", b"here", retain=True)
    exact = rig.peer("alice", fresh("alice"), filters=("status/kept",))
    exact.wait_for("status/kept", b"here")
    assert ("status/kept", b"here", True) in exact.heard
    for topic_filter in ("status/+", "status/#"):
        wide = rig.peer("alice", fresh("alice"), filters=(topic_filter, "status/kept-too"))
        wide.wait_for("status/kept-too", b"here")
        if rig.has_wildcard_replay:
            wide.wait_for("status/kept", b"here")
        else:
            assert wide.said("status/kept") == []
    for topic in ("status/kept", "status/kept-too"):
        bridge.publish(topic, b"", retain=True)


def test_check_finds_the_known_failures(rig: Rig) -> None:
    """`mqtt-presence check` finds the failures of the table, and no others."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in rig.trust().items()]
    done = subprocess.run(
        [sys.executable, "-m", "mqtt_presence", "check", "--json", "--queue", "5000", *flags],
        env=os.environ
        | {"MQTT_PRESENCE_BROKER": rig.url("bridge"), "MQTT_PRESENCE_CLIENT": rig.url("alice")},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(findings) > 20, done.stderr
    assert findings[0]["evidence"].startswith(rig.recognised)
    assert {found["check"] for found in findings if found["verdict"] == "fail"} == rig.failures
    assert {found["check"]: found["verdict"] for found in findings}["queue"] == "pass"


# The real bridge.


class RunningBridge:
    """The bridge as operators run it, with a watching operator and a client of alice."""

    def __init__(self, rig: Rig, directory: Path, transport: str) -> None:
        self.rig = rig
        self.transport = transport
        self.database = f"sqlite:///{directory / 'presence.db'}"
        self.bridge = BridgeProcess(
            directory / "bridge.log",
            ready=False,
            broker=rig.url("bridge", transport),
            database=self.database,
            **rig.trust(transport),
        )
        self.watch()

    def watch(self) -> None:
        self.operator = self.rig.peer(
            "operator", fresh("operator"), self.transport, filters=("status/+", "events/+/+", "bridge/+")
        )

    def start(self) -> None:
        self.bridge.start(ready=False)
        self.wait_until_heard()

    def wait_until_heard(self) -> None:
        """Ask the bridge for the time until it answers."""
        asking = fresh("alice")
        alice = self.rig.peer("alice", asking, self.transport, filters=(f"reply/alice/{asking}/time",))

        def answered() -> bool:
            assert alice.publish(f"presence/alice/{asking}/time", b'{"t0":1}')
            return bool(alice.said(f"reply/alice/{asking}/time"))

        try:
            until(answered, "the bridge answers", deadline_s=40, every_s=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.bridge.log()}\n{self.rig.log()}") from None
        alice.close()

    def login(self, client_id: str, payload: bytes = b"") -> Peer:
        alice = self.rig.peer(
            "alice", client_id, self.transport, will=(f"presence/alice/{client_id}/will", b"")
        )
        assert alice.publish(f"presence/alice/{client_id}/login", payload)
        return alice

    def is_told(self, part: bytes) -> None:
        try:
            self.operator.wait_for("status/alice", part)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.bridge.log()}") from None

    def records(self) -> list[tuple[str, str | None]]:
        with Reader(self.database) as reader:
            return [(c.client_id, c.reason and c.reason.value) for c in reader.history("alice", limit=1000)]


@pytest.fixture
def running(rig: Rig, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningBridge]:
    made = RunningBridge(rig, tmp_path, getattr(request, "param", ""))
    try:
        made.start()
        yield made
    finally:
        made.bridge.__exit__(None)


def test_bridge_sees_logins_and_ends(rig: Rig, tmp_path: Path) -> None:
    """On every listener, alice is online after a login, and offline after a kill of her client."""
    for transport in rig.transports:
        directory = tmp_path / transport
        directory.mkdir()
        running = RunningBridge(rig, directory, transport)
        with running.bridge:
            running.wait_until_heard()
            phone = fresh("alice")
            alice = running.login(phone)
            running.is_told(b'"state":"online"')
            alice.die()
            running.is_told(b'"state":"offline"')
            late = rig.peer("alice", fresh("alice"), transport, filters=("status/alice",))
            late.wait_for("status/alice", b'"state":"offline"')
            running.operator.wait_for("events/alice/connectionLogout", b'"reason":"lost"')
            assert running.records() == [(phone, "lost")]
            assert ("does not accept MQTT 5" in running.bridge.log()) == (not rig.mqtt5)
            assert running.bridge.stop() == 0
        running.operator.wait_for("bridge/state", b'"offline"')
        assert "rror" not in running.bridge.log(), running.bridge.log()


def test_bridge_away_misses_nothing(rig: Rig, running: RunningBridge) -> None:
    """Logins, logouts and losses during an absence of the bridge are known after its return."""
    gone, lost, here = fresh("alice"), fresh("alice"), fresh("alice")
    leaving = running.login(gone)
    running.is_told(b'"state":"online"')
    assert running.bridge.stop() == 0
    assert leaving.publish(f"presence/alice/{gone}/logout", b"")
    running.login(lost).die()
    running.login(here)
    running.start()
    running.is_told(b'"connections":1')
    assert set(running.records()) == {(gone, "logout"), (lost, "lost"), (here, None)}


def test_bridge_killed_loses_nothing(rig: Rig, running: RunningBridge) -> None:
    """After two kills during hundreds of logins, the bridge has a record of each login."""
    phone = fresh("alice")
    alice = running.login(phone, b'{"connectionId":"0"}')
    for number in range(1, 401):
        assert alice.publish(
            f"presence/alice/{phone}/login", json.dumps({"connectionId": str(number)}).encode()
        )
        if number in {150, 300}:
            running.bridge.kill()
        if number in {200, 350}:
            running.bridge.start(ready=False)
    running.wait_until_heard()
    until(lambda: len(running.records()) == 401, "all are recorded", deadline_s=40, every_s=0.2)
    assert sum(reason is None for _, reason in running.records()) == 1


def test_bridge_survives_a_restart_of_the_broker(rig: Rig, running: RunningBridge) -> None:
    """The broker has the status again after any loss, and the next login counts."""
    phone = fresh("alice")
    running.login(phone)
    running.is_told(b'"state":"online"')
    rig.stop()
    rig.start()
    running.wait_until_heard()
    running.watch()
    late = rig.peer("alice", fresh("alice"), filters=("status/alice",))
    late.wait_for("status/alice", b"")
    alice = running.login(phone, b'{"connectionId":"after"}')
    running.is_told(b'"state":"online"')
    alice.die()
    running.operator.wait_for("events/alice/connectionLogout", b'"reason":"lost"')
    if not rig.keeps_sessions:
        assert running.bridge.log().count("had no session for the bridge") == 2
    assert "Traceback" not in running.bridge.log()
