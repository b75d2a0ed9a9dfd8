"""The shipped configuration of mosquitto, as it is but for ports, paths and passwords, and what its rules allow."""

import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mqtt_presence.bridge.link.config import MAX_PACKET
from tests.support.bridges import BridgeThread
from tests.support.mqtt import Client
from tests.support.peer import Peer
from tests.support.postgres import query
from tests.support.recorder import Recorder
from tests.support.sockets import listening
from tests.support.waiting import free_port, listens, until

SHIPPED = Path(__file__).parents[2] / "broker_config/mosquitto"
USERS = ("bridge", "operator", "alice", "mallory")
PASSWORD = "secret of {}"


class Shipped:
    """mosquitto with the shipped files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.ws_port = free_port()
        self._clients: list[Client] = []
        self._recorders: list[Recorder] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        config = (SHIPPED / "mosquitto.conf").read_text()
        for line, ours in {
            "password_file /etc/mosquitto/passwd": f"password_file {self.directory / 'passwd'}",
            "acl_file /etc/mosquitto/acl": f"acl_file {self.directory / 'acl'}",
            "persistence_location /var/lib/mosquitto/": f"persistence_location {self.directory}/",
            "listener 1883 127.0.0.1": f"listener {self.port} 127.0.0.1",
            "listener 9001 127.0.0.1": f"listener {self.ws_port} 127.0.0.1",
        }.items():
            assert config.count(f"\n{line}\n") == 1, line
            config = config.replace(f"\n{line}\n", f"\n{ours}\n")
        config += "\nlog_type subscribe\nlog_type debug\n"  # for us to wait for; it changes nothing else
        if os.getuid() == 0:
            config += "user root\n"
        (self.directory / "mosquitto.conf").write_text(config)
        shutil.copy(SHIPPED / "acl", self.directory / "acl")
        (self.directory / "acl").chmod(0o600)
        passwords = self.directory / "passwd"
        passwords.touch(0o600)
        for user in USERS:
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, PASSWORD.format(user)], check=True)
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "-c", self.directory / "mosquitto.conf"], stdout=log, stderr=log
            )
        until(self._is_up, "mosquitto listens on both ports")

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        return listens(self.port) and listens(self.ws_port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        for thing in (*self._clients, *self._recorders):
            thing.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def client(self, user: str, client_id: str, **how) -> Client:
        client = Client(self.port, user, client_id, password=PASSWORD.format(user), **how)
        self._clients.append(client)
        return client

    def url(self, user: str) -> str:
        return f"mqtt://{user}:{PASSWORD.format(user).replace(' ', '%20')}@127.0.0.1:{self.port}"


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[Shipped]:
    made = Shipped(tmp_path / "shipped")
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Listener:
    """A mosquitto_sub, which takes a user, a password and several filters."""

    def __init__(self, shipped: Shipped, user: str, client_id: str, *filters: str) -> None:
        self._said = shipped.directory / f"{uuid.uuid4().hex}.heard"
        before = shipped.log().count(f" {client_id} 1 ")
        command = ["mosquitto_sub", "-p", str(shipped.port), "-u", user, "-P", PASSWORD.format(user)]
        command += ["-i", client_id, "-q", "1", "-v"]
        for topic_filter in filters:
            command += ["-t", topic_filter]
        with self._said.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        until(
            lambda: shipped.log().count(f" {client_id} 1 ") >= before + len(filters),
            f"{client_id} is subscribed\n{shipped.log()[-2000:]}",
        )

    @property
    def heard(self) -> list[str]:
        # What has no end yet is still being written: a large message comes in pieces.
        return self._said.read_text(errors="replace").split("\n")[:-1]

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.fixture
def listen(shipped: Shipped) -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def start(*arguments: str) -> Listener:
        made.append(Listener(shipped, *arguments))
        return made[-1]

    yield start
    for listener in made:
        listener.close()


def test_shipped_listeners_are_for_this_machine_alone(shipped: Shipped) -> None:
    """As the file says of both ports; 2.0.11 with Debian's libwebsockets needs a line for it."""
    assert listening(shipped.pid) == {("127.0.0.1", shipped.port), ("127.0.0.1", shipped.ws_port)}


VERBS = ("login", "activity", "logout", "will", "time")
MARK = "presence/alice/phone/time end"


def heard_until_mark(shipped: Shipped, listener: Listener, alice: Client) -> list[str]:
    """What was delivered before a message that is known to be allowed: no need to wait for what never comes."""
    alice.publish("presence/alice/phone/time", b"end")
    until(lambda: MARK in listener.heard, f"the mark is heard\n{shipped.log()[-2000:]}")
    return [line for line in listener.heard if line != MARK]


def test_client_writes_its_own_topics(shipped: Shipped, listen: Callable[..., Listener]) -> None:
    """Each verb of a client's own reaches the bridge."""
    bridge = listen("bridge", "bridge-x", "presence/+/+/+")
    alice = shipped.client("alice", "phone")
    for verb in VERBS:
        alice.publish(f"presence/alice/phone/{verb}", b"{}")
    assert heard_until_mark(shipped, bridge, alice) == [f"presence/alice/phone/{verb} {{}}" for verb in VERBS]


@pytest.mark.parametrize(
    "topic",
    [
        "presence/alice/phone/login",
        "presence/mallory/other/login",
        "presence/mallory/m1/status",
        "presence/mallory/m1/login/more",
        "presence/mallory/m1",
        "status/alice",
        "events/alice/userOnline",
        "bridge/state",
        "bridge/announce",
        "reply/alice/phone/time",
        "reply/mallory/m1/time",
    ],
)
def test_client_writes_nothing_else(shipped: Shipped, listen: Callable[..., Listener], topic: str) -> None:
    """Neither as a message nor as a will does anything but its own topics get through."""
    bridge = listen("bridge", "bridge-x", "presence/#", "status/#", "bridge/#")
    operator = listen("operator", "op", "events/#", "status/#", "bridge/#")
    alice = shipped.client("alice", "phone")
    mallory = shipped.client("mallory", "m1", will=(topic, b"forged"))
    mallory.publish(topic, b"forged")
    mallory.publish(topic, b"forged", retain=True)
    mallory.close()
    until(lambda: re.search(r"Client m1 .*(closed|disconnected)", shipped.log()), "mallory is gone")
    assert heard_until_mark(shipped, bridge, alice) == []
    assert operator.heard == []
    assert "Denied PUBLISH from m1" in shipped.log()  # so its absence elsewhere says something


def test_slash_in_a_client_id_reaches_nothing(shipped: Shipped, listen: Callable[..., Listener]) -> None:
    """A client called phone/login cannot write another client's topic."""
    bridge = listen("bridge", "bridge-x", "presence/+/+/+")
    alice = shipped.client("alice", "phone")
    try:
        sneaky = shipped.client("alice", "phone/login")
    except AssertionError:
        return  # 2.1 does not let it in at all
    sneaky.publish("presence/alice/phone/login", b"forged")
    assert heard_until_mark(shipped, bridge, alice) == []


def test_who_reads_what(shipped: Shipped, listen: Callable[..., Listener]) -> None:
    """Everybody reads statuses, the bridge's state and the own replies; operators events; nobody presence."""
    alice = listen("alice", "phone", "#", "$SYS/#")
    operator = listen("operator", "op", "#")
    bridge = shipped.client("bridge", "bridge-x")
    said = {
        "events/alice/userOnline": {"operator"},
        "reply/alice/phone/time": {"alice"},
        "reply/alice/tablet/time": set(),
        "reply/mallory/m1/time": set(),
        "bridge/announce": {"alice", "operator"},
        "status/alice": {"alice", "operator"},
    }
    shipped.client("mallory", "m1").publish("presence/mallory/m1/login", b"x")
    for topic in said:
        bridge.publish(topic, b"x")
    for name, listener in (("alice", alice), ("operator", operator)):
        until(lambda heard=listener: "status/alice x" in heard.heard, "the last of it")
        assert listener.heard == [f"{topic} x" for topic, readers in said.items() if name in readers]


def test_bridge_reads_log_and_dropped_count(shipped: Shipped, listen: Callable[..., Listener]) -> None:
    """The bridge may know who connects from where, and whether messages were dropped."""
    bridge = listen("bridge", "bridge-x", "$SYS/broker/log/#", "$SYS/broker/publish/messages/dropped")
    shipped.client("alice", "phone")
    until(lambda: any("as phone (" in line for line in bridge.heard), "the connect is told")
    until(lambda: any("/dropped " in line for line in bridge.heard), "the count is told")


def test_messages_wait_for_the_bridge_and_survive_a_crash(shipped: Shipped) -> None:
    """More than mosquitto keeps by default wait for an absent bridge; and once saved, a kill takes none of them."""
    bridge_password = PASSWORD.format("bridge")
    Peer(
        shipped.port,
        "bridge",
        "bridge-x",
        password=bridge_password,
        persistent=True,
        filters=("presence/+/+/+",),
    ).close()
    alice = shipped.client("alice", "phone")
    topic = "presence/alice/phone/activity"
    alice.publish_all((topic, b"%d" % number) for number in range(3000))
    said_at = time.time()
    store = shipped.directory / "mosquitto.db"
    until(lambda: store.exists() and store.stat().st_mtime > said_at, "the store is saved")
    shipped.kill()
    shipped.start()
    bridge = Peer(shipped.port, "bridge", "bridge-x", password=bridge_password, persistent=True)
    try:
        bridge.wait_for(topic, b"2999")
        assert bridge.said(topic) == [b"%d" % number for number in range(3000)]
    finally:
        bridge.close()


@pytest.mark.parametrize("path", [None, "/mqtt"])
def test_what_is_too_large_reaches_nobody(
    shipped: Shipped, listen: Callable[..., Listener], path: str | None
) -> None:
    """Over TCP and WebSocket; the largest that the protocol allows passes, as a message and as a will."""
    bridge = listen("bridge", "bridge-x", "presence/+/+/+")
    port, password = shipped.ws_port if path else shipped.port, PASSWORD.format("alice")
    large = Peer(port, "alice", "large", password=password, path=path)
    large.publish("presence/alice/large/activity", b"x" * 100_000)
    large.close()
    client_id = "😀" * 128
    topic = f"presence/alice/{client_id}/"
    largest = Peer(port, "alice", client_id, password=password, path=path, will=(topic + "will", b"w" * 8192))
    assert largest.publish(topic + "login", b"l" * 8192)
    largest.die()
    until(lambda: len(bridge.heard) >= 2, f"the login and the will\n{shipped.log()[-2000:]}")
    assert bridge.heard == [f"{topic}login {'l' * 8192}", f"{topic}will {'w' * 8192}"]


def test_nobody_comes_in_without_a_password(shipped: Shipped) -> None:
    """No anonymous access, on no listener."""
    with pytest.raises(AssertionError, match="refused with return code 5"):
        Client(shipped.port, "alice", "phone", password="wrong")
    with pytest.raises(AssertionError, match="refused with return code 5"):
        Client(shipped.port, "alice", "phone")


def test_bridge_works_with_these_rights(
    shipped: Shipped, listen: Callable[..., Listener], tmp_path: Path
) -> None:
    """The real bridge: a login, the status, an event, the time, the will; nothing is denied to it."""
    alice = listen("alice", "desk", "status/+", "bridge/state")
    operator = listen("operator", "op", "events/+/+")
    database = f"sqlite:///{tmp_path / 'presence.db'}"
    with BridgeThread(broker=shipped.url("bridge"), database=database):
        until(lambda: any('bridge/state {"state":"online"' in x for x in alice.heard), "the bridge's birth")
        client = shipped.client("alice", "pad", will=("presence/alice/pad/will", b""))
        client.publish("presence/alice/pad/login")
        until(lambda: any('"ipAddr":"127.0.0.1"' in x for x in operator.heard), "the address, from the log")
        until(lambda: any('"state":"online"' in x and "status/" in x for x in alice.heard), "alice is online")
        until(lambda: any("userOnline" in x for x in operator.heard), "the event")
        client.publish("presence/alice/pad/time", b'{"t0":1}')
        answered = re.compile(r"Received PUBLISH from bridge-.*'reply/alice/pad/time'")
        until(lambda: answered.search(shipped.log()), "the answer")
        client.close()
        until(
            lambda: any('"state":"offline"' in x and "status/" in x for x in alice.heard), "alice is offline"
        )
        until(lambda: any('"cause":"closed"' in x for x in operator.heard), "the cause, from the log")
        dialect = "SELECT value FROM bridge WHERE name = 'source_dialect'"
        until(lambda: query(database, dialect), "the version, which tells how to read the log")
    until(lambda: any('bridge/state {"state":"offline"' in x for x in alice.heard), "the bridge's farewell")
    assert "Denied" not in shipped.log()


def test_configuration_has_no_known_trap() -> None:
    """What loses messages on some version is not in it."""
    lines = [
        line for line in (SHIPPED / "mosquitto.conf").read_text().splitlines() if not line.startswith("#")
    ]
    settings = dict(
        line.split(" ", 1) for line in lines if line and not line.startswith(("log_", "listener"))
    )
    assert "per_listener_settings" not in settings
    assert "autosave_on_changes" not in settings
    assert settings["autosave_interval"] == "1"
    assert settings["persistence"] == "true"
    assert int(settings["max_queued_messages"]) >= 100_000
    # 2.0 looks at the first over TCP alone, and what the bridge reads past would be in memory and store all the same.
    assert int(settings["max_packet_size"]) == int(settings["message_size_limit"]) == MAX_PACKET
    assert settings["allow_anonymous"] == "false"
    rights = [x for x in (SHIPPED / "acl").read_text().splitlines() if not x.startswith("#")]
    assert [x for x in rights if "#" in x] == ["topic read $SYS/broker/log/#"]
