"""Certificates that are renewed under a running mosquitto, bridge and clients."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence import PresenceClient, StatusWatcher
from mqtt_presence.mqtt.framing import Packet
from mqtt_presence.mqtt.packets import MQTT_311, Connect, connect_packet, read_connack
from mqtt_presence.mqtt.tls_files import TlsFiles
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.tools.check.config import CheckConfig
from mqtt_presence.tools.check.probe_client import Credentials
from mqtt_presence.tools.check.prober import Prober
from mqtt_presence.tools.simulate.socket_loop import Loop, SocketConnection, find_target
from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.certificates import Authority
from tests.support.playing import hello
from tests.support.port_proxy import PortProxy
from tests.support.waiting import free_port, listens, until


@dataclass
class Secure:
    """A mosquitto that wants client certificates, and its authority."""

    broker: Mosquitto
    authority: Authority
    port: int

    def url(self, user: str) -> str:
        return f"mqtts://{user}@localhost:{self.port}"

    def renew(self) -> None:
        """Renew everything, and restart the broker with it."""
        self.authority.renew()
        self.restart()

    def restart(self) -> None:
        self.broker.hang_up()
        self.broker.stop()
        self.broker.start()
        self.wait()

    def wait(self) -> None:
        """Wait until the broker listens for TLS too."""
        until(lambda: listens(self.port), "the listener with TLS")


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Secure]:
    """Run a mosquitto that asks for a client certificate."""
    authority, port = Authority(tmp_path / "tls"), free_port()
    with Mosquitto(tmp_path / "mosquitto", authority.listener(port)) as broker:
        made = Secure(broker, authority, port)
        made.wait()
        yield made


def test_bridge_comes_back_with_renewed_certificates(secure: Secure, sqlite_url: str) -> None:
    """Authority, server and client certificate are new, and the bridge was not restarted."""
    files = secure.authority.client_files
    with BridgeThread(broker=secure.url("bridge"), database=sqlite_url, **files):
        hello(secure.broker)
        secure.renew()
        hello(secure.broker)


@pytest.mark.parametrize("kind", [PresenceClient, StatusWatcher])
def test_client_comes_back_with_renewed_certificates(secure: Secure, kind: Any) -> None:
    """As the bridge does."""
    with kind(secure.url("alice"), **secure.authority.client_files, reconnect_max=1.0) as client:
        assert client.connected
        secure.broker.stop()
        until(lambda: not client.connected, "the connection is lost")
        secure.authority.renew()
        secure.broker.start()
        until(lambda: client.connected, "the client is back")


def test_check_goes_on_with_renewed_certificates(secure: Secure) -> None:
    """Its connections are many, and come one after another."""
    access = Credentials(BrokerUrl.parse(secure.url("alice")), TlsFiles(**secure.authority.client_files))
    with Prober(CheckConfig(bridge=access, client=access)) as opened:
        secure.renew()
        assert opened.connections.client().is_accepted


def test_simulated_clients_come_back_with_renewed_certificates(secure: Secure) -> None:
    """A simulation may last for days."""
    url = BrokerUrl.parse(secure.url("alice"))
    target = find_target(url, TlsFiles(**secure.authority.client_files))
    for round_ in range(2):
        if round_:
            secure.renew()
        loop, came, lost = Loop(), list[Packet](), list[str]()
        connection = SocketConnection(loop, target, came.append, lost.append)
        connection.send(connect_packet(Connect(MQTT_311, True, 60, "phone", None, "alice", None)))
        until(lambda loop=loop, came=came, lost=lost: loop.run_once(0.1) or came or lost, "an answer")
        assert not lost
        assert read_connack(came[0].body)[1] == 0
        loop.close()


def half(path: Path) -> None:
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def other_key(path: Path) -> None:
    path.write_bytes(path.with_name("server.key").read_bytes())


def encrypt(path: Path) -> None:
    encrypted = path.with_suffix(".encrypted")
    command = ["openssl", "pkey", "-in", path, "-out", encrypted, "-aes256", "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    encrypted.rename(path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("client.crt", half),
        ("client.crt", Path.unlink),
        ("client.key", other_key),
        ("client.key", encrypt),
        ("ca.crt", half),
        ("ca.crt", lambda path: path.write_text("")),
    ],
    ids=["half", "missing", "other key", "encrypted key", "half authority", "empty authority"],
)
def test_bridge_goes_on_with_the_old_files_while_the_new_ones_are_broken(
    secure: Secure,
    sqlite_url: str,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    """A renewal is seen half done: the bridge logs one line, however often it connects, and then takes the new files."""
    kept = secure.authority.directory / name
    good = kept.read_bytes()
    files = secure.authority.client_files

    def warnings() -> list[str]:
        return [r.message for r in caplog.records if "going on with the files as they were" in r.message]

    with (
        PortProxy(secure.port) as proxy,
        BridgeThread(broker=f"mqtts://bridge@localhost:{proxy.port}", database=sqlite_url, **files) as house,
    ):
        link = house.links[-1]
        damage(kept)
        for _ in range(2):
            before = proxy.accepted
            proxy.cut()
            until(lambda before=before: proxy.accepted > before and link.is_connected, "the bridge is back")
        assert len(warnings()) == 1, caplog.text
        assert name in warnings()[0]
        kept.write_bytes(good)
        secure.renew()
        hello(secure.broker)
        assert len(warnings()) == 1
