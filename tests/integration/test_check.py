"""`mqtt-presence check` on correct brokers, faulty brokers, and servers that are no brokers."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mqtt_presence.access import rights
from mqtt_presence.cli.app import app
from mqtt_presence.mqtt.framing import Framer, Kind, Packet
from mqtt_presence.mqtt.listening import network_addresses
from mqtt_presence.mqtt.packets import (
    MQTT_311,
    PINGRESP,
    PUBACK,
    connack_packet,
    id_packet,
    read_connect,
    read_publish,
    read_subscribe,
    suback_packet,
)
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.tools.check import probe_connections, recognition, runner
from mqtt_presence.tools.check.config import CheckConfig
from mqtt_presence.tools.check.findings import Finding, Verdict, failed
from mqtt_presence.tools.check.probe_client import Credentials
from mqtt_presence.tools.check.prober import Prober
from mqtt_presence.tools.check.queue_probes import WINDOW
from mqtt_presence.tools.check.recognition import Hints
from tests.embedded.raw_client import RawClient
from tests.integration.test_bridge_tls import _certify, _openssl
from tests.integration.test_mosquitto_config import PASSWORD, Shipped
from tests.support.bridges import BridgeThread
from tests.support.brokers import BRIDGE_PASSWORD, Embedded, Mosquitto
from tests.support.port_proxy import PortProxy
from tests.support.postgres import query
from tests.support.waiting import free_port, until

NAMES = tuple(probe.name for probe in runner.choose([]))
QUICK = tuple(name for name in NAMES if name != "will-silence")
"""All but the one that waits for seconds."""
ATTACKS = ("passwords", *runner.NAMES[runner.NAMES.index("other-user") : runner.NAMES.index("will-silence")])


def check(
    broker: str, client: str, *flags: str, only: tuple[str, ...] = ()
) -> tuple[int, dict[str, Any], str]:
    """Run the command in this process; return its exit code, the findings by name, and its errors."""
    arguments = ["check", "--broker", broker, "--client", client, "--json", *flags]
    run = CliRunner().invoke(app, [*arguments, *(f"--only={name}" for name in only)])
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run.exit_code, {f["check"]: f for f in map(json.loads, run.stdout.splitlines())}, run.stderr


def named(findings: dict[str, Any], verdict: str) -> set[str]:
    return {name for name, finding in findings.items() if finding["verdict"] == verdict}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    """Mosquitto with the shipped files."""
    made = Shipped(tmp_path_factory.mktemp("shipped"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def sessions(shipped: Shipped) -> set[tuple[str, str]]:
    """Return user and client id of all persistent sessions in mosquitto's log."""
    return set(re.findall(r" as (\S+-check-\S+) \(p\d, c0, k\d+, u'(\w+)'\)", shipped.log()))


def assert_no_leftovers(shipped: Shipped) -> None:
    """Check that the broker has no session and no retained message of the check."""
    made = sessions(shipped)
    assert made
    for client_id, user in made:
        raw_client = RawClient(shipped.port)
        assert raw_client.connect(user, client_id, password=PASSWORD.format(user), clean=False) == 0
        assert not raw_client.session_present, client_id
        raw_client.disconnect()
        clean = RawClient(shipped.port)
        clean.connect(user, client_id, password=PASSWORD.format(user))
        clean.disconnect()
    raw_client = RawClient(shipped.port)
    raw_client.connect("alice", "looks-for-what-is-left", password=PASSWORD.format("alice"))
    raw_client.subscribe("#")
    assert [packet.topic for packet in raw_client.ping() if packet.kind == 3] == []
    raw_client.disconnect()


def test_shipped_mosquitto_passes(shipped: Shipped) -> None:
    """The shipped files pass all that mosquitto can do, within 20 seconds and without leftovers."""
    began = time.monotonic()
    code, found, errors = check(
        shipped.url("bridge"),
        shipped.url("alice"),
        "--websocket",
        f"ws://127.0.0.1:{shipped.ws_port}",
        "--second-client",
        shipped.url("mallory"),
    )
    took_s = time.monotonic() - began
    assert code == 0, found
    assert list(found) == ["broker", *NAMES]
    assert named(found, "warn") == {"client-id-theft"}  # mosquitto cannot tie client ids to users
    assert named(found, "note") == {"broker", "tls", "persistence", "database", "nodes"}
    assert found["broker"]["evidence"].startswith("mosquitto")
    assert "5000 of 5000" in found["queue"]["evidence"]
    assert "persistent to persistent: login, no will" in found["takeover"]["evidence"]
    assert found["database"]["evidence"] == "not tried: no database is given"
    assert "each at one of two members (10 and 10)" in found["shared"]["evidence"]
    assert took_s < 20
    assert errors == ""
    assert_no_leftovers(shipped)


def test_port_that_is_not_local_warns(tmp_path: Path) -> None:
    """The URL names this machine, but the listener has all addresses; a loopback listener is not named."""
    assert network_addresses(), "this test needs a machine with a network"
    open_port = free_port()
    with Mosquitto(tmp_path / "broker", f"listener {open_port}\n", {"bridge": "b", "alice": "a"}) as broker:
        urls = (f"mqtt://bridge:b@127.0.0.1:{broker.port}", f"mqtt://alice:a@localhost:{open_port}")
        code, found, _ = check(*urls, only=("local-ports",))
        local_code, local, _ = check(urls[0], urls[0].replace("bridge:b", "alice:a"), only=("local-ports",))
    assert (code, local_code) == (0, 0)
    assert found["local-ports"]["verdict"] == "warn"
    assert found["local-ports"]["evidence"] == (
        f"without TLS, and open to the network: {open_port} at {', '.join(network_addresses())}"
    )
    assert "socket_domain ipv4" in found["local-ports"]["remedy"]
    assert local["local-ports"]["verdict"] == "pass"


def test_interrupted_check_clears_up(shipped: Shipped) -> None:
    """SIGINT during the queue check ends it without leftovers."""
    before = len(sessions(shipped))
    process = subprocess.Popen(
        [sys.executable, "-m", "mqtt_presence", "check", "--broker", shipped.url("bridge"),
         "--client", shipped.url("alice"), "--queue", "20000", "--only", "retained", "--only", "queue"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(
            lambda: len(sessions(shipped)) > before,
            f"the queue check\n{shipped.log()[-2000:]}",
            every_s=0.05,
        )
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "mqtt-presence: interrupted\n"
    assert re.search(r"^pass +retained ", out, re.MULTILINE)
    assert not re.search(r"^\w+ +queue ", out, re.MULTILINE)
    assert_no_leftovers(shipped)


def test_bridge_at_work_is_not_disturbed(shipped: Shipped, sqlite_url: str) -> None:
    """A bridge on the same broker refuses all messages, stores no record, and its queue is not filled."""
    with BridgeThread(broker=shipped.url("bridge"), database=sqlite_url) as bridge:
        code, found, _ = check(shipped.url("bridge"), shipped.url("alice"), only=QUICK)
        assert code == 0, found
        assert named(found, "warn") == {"client-id-theft"}
        assert found["queue"]["verdict"] == "note"
        assert "a bridge is at work" in found["queue"]["evidence"]
        assert found["queue"]["remedy"] == "--queue 5000 tries it all the same"
        assert query(sqlite_url, "SELECT * FROM connections") == []
        assert query(sqlite_url, "SELECT * FROM users") == []
        assert sum(bridge.bridge.counters.refused.values()) > WINDOW
        code, found, _ = check(shipped.url("bridge"), shipped.url("alice"), "--queue", "300", only=("queue",))
        assert code == 0
        assert "300 of 300" in found["queue"]["evidence"]


def test_bridge_that_is_away_keeps_its_queue(mosquitto: Callable[..., Mosquitto], sqlite_url: str) -> None:
    """An online or offline state means a waiting session, even if only the bridge's user may read it."""
    broker = mosquitto("user bridge\ntopic readwrite #\npattern write presence/%u/%c/+\n", users=USERS)
    alice = f"mqtt://alice:alice-secret@127.0.0.1:{broker.port}"
    with BridgeThread(broker=broker.url, database=sqlite_url):
        _, found, _ = check(broker.url, alice, only=("queue",))
        assert "a bridge is at work here" in found["queue"]["evidence"]
    code, found, _ = check(broker.url, alice, only=("queue", "window"))
    assert code == 0
    for name in ("queue", "window"):
        assert found[name]["verdict"] == "note"
        assert "uses this broker and is away" in found[name]["evidence"]
        assert "--queue 5000 tries it all the same" in found[name]["remedy"]
    _, found, _ = check(broker.url, alice, "--queue", "50", only=("queue", "window"))
    assert named(found, "pass") == {"queue", "window"}


def test_queue_is_not_filled_if_a_bridge_may_be_hidden(mosquitto: Callable[..., Mosquitto]) -> None:
    """Mosquitto grants forbidden subscriptions, so silence on `bridge/state` does not exclude a bridge."""
    broker = mosquitto("user bridge\ntopic read presence/#\npattern write presence/%u/%c/+\n", users=USERS)
    alice = f"mqtt://alice:alice-secret@127.0.0.1:{broker.port}"
    code, found, _ = check(broker.url, alice, only=("queue",))
    assert code == 0
    assert found["queue"]["verdict"] == "note"
    assert "a bridge may use this broker" in found["queue"]["evidence"]


@pytest.mark.parametrize("name", ["mqtt-3.1.1", "passwords", "other-user", "other-will", "bridge-will"])
def test_lost_broker_is_no_finding(
    mosquitto: Callable[..., Mosquitto], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A probe that could not run has no verdict, and the exit code is 2."""
    broker = mosquitto(None)

    def look(opened: Prober) -> Hints:
        broker.kill()
        return Hints({}, {})

    monkeypatch.setattr(recognition, "collect_hints", look)
    code, found, errors = check(broker.url, f"mqtt://alice@127.0.0.1:{broker.port}", only=(name,))
    assert (code, set(found)) == (2, {"broker"}), found
    assert re.match(rf"mqtt-presence: {re.escape(name)} could not be tried: \S+ cannot be reached", errors)


def test_refused_will_is_a_failure_and_no_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some brokers refuse CONNECT without the right to the will: that is a finding, and other probes run."""
    monkeypatch.setattr(rights, "VERBS", rights.VERBS - {"will"})
    with Embedded() as broker:
        code, found, errors = check(
            broker.url,
            f"mqtt://alice@127.0.0.1:{broker.port}",
            only=("will-cut", "will-disconnect", "will-silence"),
        )
    assert code == 1, errors
    assert named(found, "fail") == {"will-cut", "will-silence"}
    assert found["will-cut"]["evidence"] == (
        "a client with a will on its own topic is refused at CONNECT (reason 0x87), without one it is accepted"
    )
    assert found["will-disconnect"]["verdict"] == "warn"
    assert "refuses us" in found["will-disconnect"]["evidence"]
    assert found["will-disconnect"]["remedy"].startswith("try it again")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start mosquitto with the rights that a test needs."""
    started: list[Mosquitto] = []

    def start(acl: str | None, **how: Any) -> Mosquitto:
        config = how.pop("more", "")
        if acl is not None:
            (tmp_path / "acl").write_text(acl)
            (tmp_path / "acl").chmod(0o600)
            config += f"\nacl_file {tmp_path / 'acl'}\n"
        broker = Mosquitto(tmp_path / "mosquitto", config, **how)
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        broker.__exit__(None, None, None)


USERS = {"bridge": BRIDGE_PASSWORD, "alice": "alice-secret"}
_USUAL = """
user bridge
topic readwrite #
pattern write presence/%u/%c/#
pattern read status/+
pattern read bridge/+
pattern read reply/%u/%c/+
"""


def test_common_mosquitto_configuration_fails(mosquitto: Callable[..., Mosquitto]) -> None:
    """With `#` for the verbs, an id with a slash gets rights; the default queue has 1,000 places."""
    broker = mosquitto(_USUAL, users=USERS, more="max_queued_messages 1000\nmax_inflight_messages 20")
    code, found, errors = check(
        broker.url,
        f"mqtt://alice:alice-secret@127.0.0.1:{broker.port}",
        only=("queue", "other-client", "slash-client-id", "client-id-theft"),
    )
    assert code == 1
    assert named(found, "fail") == {"slash-client-id", "queue"}
    assert re.match(r"10\d\d of 5000 messages came", found["queue"]["evidence"]), found["queue"]
    assert "`max_queued_messages 1000000`" in found["queue"]["remedy"]
    assert "`pattern write presence/%u/%c/login`" in found["slash-client-id"]["remedy"]
    assert named(found, "warn") == {"client-id-theft"}
    assert errors == ""


def test_mosquitto_without_rights_fails_all_attacks(mosquitto: Callable[..., Mosquitto]) -> None:
    """Without rights each attack succeeds, and the report has each of them."""
    broker = mosquitto(None)
    code, found, _ = check(broker.url, f"mqtt://alice@127.0.0.1:{broker.port}", only=ATTACKS)
    assert code == 1
    assert named(found, "fail") == {
        "passwords", "other-user", "other-client", "other-will", "slash-client-id", "wildcard-client-id",
        "slash-user", "write-status", "write-bridge", "write-events", "write-replies", "read-presence", "read-events",
        "client-id-theft",
    }  # fmt: skip
    assert named(found, "warn") == {"read-replies"}
    assert all(found[name]["consequence"] and found[name]["remedy"] for name in named(found, "fail"))
    assert found["broker"]["evidence"].startswith("mosquitto 2.")


def test_missing_rights_are_found(mosquitto: Callable[..., Mosquitto]) -> None:
    """The evidence names missing verbs, and topics that bridge or client cannot use."""
    acl = "user bridge\ntopic read presence/#\ntopic write status/+\n"
    acl += "".join(f"pattern write presence/%u/%c/{verb}\n" for verb in ("login", "logout", "time"))
    broker = mosquitto(acl, users=USERS)
    _, found, _ = check(
        broker.url,
        f"mqtt://alice:alice-secret@127.0.0.1:{broker.port}",
        only=("own-topics", "bridge-rights", "client-rights", "write-events"),
    )
    assert named(found, "fail") == {"own-topics", "bridge-rights", "client-rights"}
    assert found["own-topics"]["evidence"] == "activity, will does not arrive"
    assert re.match(r"refused: bridge/\S+, events/\S+, reply/\S+$", found["bridge-rights"]["evidence"])
    assert "status/+" in found["client-rights"]["evidence"]


@pytest.mark.parametrize("prefix", ["", "acme/"])
def test_embedded_broker_passes(prefix: str) -> None:
    """The documented limits are warnings: MQTT 5, storage in memory, and open access on loopback."""
    with Embedded(prefix) as broker:
        code, found, errors = check(
            broker.url,
            f"mqtt://alice@127.0.0.1:{broker.port}",
            "--prefix",
            prefix,
            only=QUICK
            if prefix
            else ("mqtt-5", "passwords", "persistence", "queue", "redelivery", "takeover"),
        )
    assert code == 0, found
    assert named(found, "warn") == {"mqtt-5", "passwords", "persistence"}
    assert found["broker"]["evidence"].startswith("embedded")
    assert "5000 of 5000" in found["queue"]["evidence"]
    assert found["takeover"]["evidence"] == "always: will, then login"
    assert found["redelivery"]["verdict"] == "pass"
    assert errors == ""


def test_broker_without_shares_fails_where_several_bridges_need_them() -> None:
    """The embedded broker refuses them; `seats` needs them, unless the broker moves the messages itself."""
    with Embedded() as broker:
        urls = (broker.url, f"mqtt://alice@127.0.0.1:{broker.port}")
        code, found, _ = check(*urls, "--seats", "2", only=("shared",))
        assert (code, found["shared"]["verdict"]) == (1, "fail")
        assert found["shared"]["evidence"] == "$share subscriptions are refused; seats = 2 needs them"
        assert found["shared"]["remedy"].startswith("use seats = 1 and a standby")


def test_tls_and_certificates_are_checked(tmp_path: Path, mosquitto: Callable[..., Mosquitto]) -> None:
    """With mqtts, wss and a client certificate: the evidence describes TLS, and warns of an early end."""
    _openssl(tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "ca.key",
             "-out", "ca.crt", "-subj", "/CN=Test ca")  # fmt: skip
    for name in ("server", "client"):
        _certify(tmp_path, name)
    mqtts, wss = free_port(), free_port()
    tls = f"cafile {tmp_path}/ca.crt\ncertfile {tmp_path}/server.crt\nkeyfile {tmp_path}/server.key\n"
    mosquitto(
        None,
        more=f"listener {mqtts} 127.0.0.1\n{tls}require_certificate true\n"
        f"listener {wss} 127.0.0.1\nprotocol websockets\n{tls}",
    )
    files = [f"--ca-file={tmp_path}/ca.crt"]
    for name in ("", "client-"):
        files += [f"--{name}cert-file={tmp_path}/client.crt", f"--{name}key-file={tmp_path}/client.key"]
    code, found, errors = check(
        f"mqtts://bridge@localhost:{mqtts}",
        f"mqtts://alice@localhost:{mqtts}",
        f"--websocket=wss://localhost:{wss}",
        *files,
        only=("tls", "websocket", "passwords", "own-topics", "queue", "will-cut"),
    )
    assert code == 0, (found, errors)
    assert re.match(
        r"TLSv1\.3, .*, certificate for localhost, 127\.0\.0\.1, valid for 1 more days",
        found["tls"]["evidence"],
    )
    assert found["tls"]["verdict"] == "warn"
    assert found["websocket"]["verdict"] == "pass"
    assert found["passwords"]["verdict"] == "note"
    assert found["queue"]["verdict"] == "pass"

    code, found, errors = check(f"mqtts://bridge@localhost:{mqtts}", f"mqtts://alice@localhost:{mqtts}")
    assert (code, found) == (2, {})
    assert "certificate verify failed" in errors


def test_wrong_credentials_and_settings_end_the_check(shipped: Shipped) -> None:
    """The error names the refused user or the silent address, but not the password."""
    good, alice = shipped.url("bridge"), shipped.url("alice")
    here = f"127.0.0.1:{shipped.port}"
    for broker, client, words in (
        (
            f"mqtt://bridge:nonsense@{here}",
            alice,
            f"broker: mqtt://bridge@{here} refuses us: wrong user name or",
        ),
        (
            good,
            f"mqtt://alice:nonsense@{here}",
            f"client: mqtt://alice@{here} refuses us: wrong user name or",
        ),
        (f"mqtt://bridge:nonsense@127.0.0.1:{free_port()}", alice, "cannot be reached"),
        (good, "", "client is not set"),
        (good, f"mqtt://{here}", "the user in client"),
        (good, "alice", "client: the broker URL has no scheme"),
    ):
        code, found, errors = check(broker, client)
        assert (code, found) == (2, {}), errors
        assert words in errors
        assert "nonsense" not in errors
    for flags, words in (
        (["--only", "nothing"], "only=nothing: there is no such check"),
        (["--client", good], "client: must be another user than the bridge's"),
        (["--queue", "0"], "queue=0 must be 1 to"),
        (["--kind", "nothing"], "kind=nothing must be one of"),
        (["--websocket", "mqtt://x"], "must begin with ws://"),
        (["--second-client", alice], "must be another user than client"),
        (["--ca-file", "/nowhere"], "no URL is encrypted"),
    ):
        code, _, errors = check(good, alice, *flags)
        assert code == 2
        assert words in errors


def test_bridge_without_its_rights_fails() -> None:
    """A user without the right to clients' messages cannot be the bridge; other probes do not run."""
    with Embedded() as broker:
        code, found, _ = check(
            f"mqtt://bob@127.0.0.1:{broker.port}", f"mqtt://alice@127.0.0.1:{broker.port}", only=QUICK
        )
    assert code == 1
    assert named(found, "fail") == {"own-topics"}
    assert found["own-topics"]["evidence"] == "the bridge's user may not subscribe to presence/+/+/+"
    assert found["queue"]["evidence"] == "not tried: see own-topics"


def credentials(url: str) -> Credentials:
    return Credentials(BrokerUrl.parse(url))


def test_lost_observer_connection_is_inconclusive(shipped: Shipped) -> None:
    """A missing message without a reader is no fault of the broker; the next probe runs normally."""

    def cut(opened: Prober) -> Finding:
        opened.observer.cut()
        return failed("own-topics", "none of them arrives", "")

    config = CheckConfig(bridge=credentials(shipped.url("bridge")), client=credentials(shipped.url("alice")))
    with Prober(config) as opened:
        probes = [runner.Probe("names", cut), *runner.choose(["own-topics"])]
        found = {f.name: f for f in runner.run(opened, probes)}
    assert found["names"].verdict is Verdict.WARN
    assert "ended the bridge's connection" in found["names"].evidence
    assert found["own-topics"].verdict is Verdict.PASS


# Servers that are no complete brokers.


class SilentBroker:
    """Accepts and acknowledges everything in MQTT 3.1.1, and delivers no message.

    Args:
        answers: False for a server that does not even answer CONNECT.

    """

    def __init__(self, answers: bool) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        framer = Framer()
        with suppress(OSError), sock:
            while data := sock.recv(65_536):
                for packet in framer.feed(data) if self._answers else ():
                    answer = self._answer(packet)
                    if answer is None:
                        return
                    sock.sendall(answer)

    def _answer(self, packet: Packet) -> bytes | None:
        match packet.kind:
            case Kind.CONNECT:
                return connack_packet(0) if read_connect(packet.body).level == MQTT_311 else None
            case Kind.SUBSCRIBE:
                packet_id, _, _ = read_subscribe(packet.body)
                return suback_packet(packet_id, b"\x01")
            case Kind.PUBLISH if packet.flags & 6:
                return id_packet(PUBACK, read_publish(packet.flags, packet.body).packet_id)
            case Kind.PINGREQ:
                return PINGRESP
        return b""

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@contextmanager
def silent_broker(*, answers: bool) -> Iterator[SilentBroker]:
    made = SilentBroker(answers)
    try:
        yield made
    finally:
        made.close()


def test_broker_without_deliveries_fails_and_ends_the_probes() -> None:
    """Without clients' messages at the bridge, the other probes mean nothing."""
    with silent_broker(answers=True) as broker:
        code, found, _ = check(
            f"mqtt://bridge@127.0.0.1:{broker.port}", f"mqtt://alice@127.0.0.1:{broker.port}"
        )
    assert code == 1
    assert found["own-topics"]["verdict"] == "fail"
    assert found["own-topics"]["evidence"] == "none of them arrives"
    assert found["mqtt-5"]["evidence"] == "not spoken"
    untried = {name for name, finding in found.items() if finding["evidence"] == "not tried: see own-topics"}
    assert untried == set(NAMES[NAMES.index("own-topics") + 1 :]) - {
        "persistence",
        "database",
        "nodes",
    }


def test_client_may_use_another_listener_without_mqtt_5(shipped: Shipped) -> None:
    """Bridge and client may use different versions."""
    with silent_broker(answers=True) as gateway:
        code, found, errors = check(
            shipped.url("bridge"),
            f"mqtt://alice@127.0.0.1:{gateway.port}",
            only=("mqtt-3.1.1", "mqtt-5", "own-topics"),
        )
    assert code == 1, errors
    assert {found["mqtt-3.1.1"]["verdict"], found["mqtt-5"]["verdict"]} == {"pass"}
    assert found["own-topics"]["evidence"] == "none of them arrives"


@pytest.mark.parametrize("way", ["broker", "client"])
def test_connection_closed_by_a_proxy_is_no_refusal_of_mqtt_5(shipped: Shipped, way: str) -> None:
    """A port proxy closes the connection while its broker starts."""
    with PortProxy(shipped.port, closes={0}.__contains__) as proxy:
        urls = {name: shipped.url(user) for name, user in (("broker", "bridge"), ("client", "alice"))}
        urls[way] = urls[way].replace(f":{shipped.port}", f":{proxy.port}")
        assert str(proxy.port) in urls[way]
        config = CheckConfig(bridge=credentials(urls["broker"]), client=credentials(urls["client"]))
        with Prober(config) as opened:
            assert opened.connections.mqtt5
            assert opened.connections.client_mqtt5
            assert proxy.accepted >= 3


def test_silent_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be another service, or a broker that hangs."""
    monkeypatch.setattr(probe_connections, "OPEN_S", 1.0)
    with silent_broker(answers=False) as broker:
        code, found, errors = check(
            f"mqtt://bridge@127.0.0.1:{broker.port}", f"mqtt://alice@127.0.0.1:{broker.port}"
        )
    assert (code, found) == (2, {})
    assert "does not answer to CONNECT in 1 s" in errors
