"""The bridge over TLS and WebSocket, with a certificate authority made for the occasion."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.playing import settle
from tests.support.waiting import free_port, until


@dataclass
class Secure:
    broker: Mosquitto
    ports: dict[str, int]
    files: Path


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def _certify(directory: Path, name: str) -> None:
    _openssl(directory, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
             "-subj", f"/CN={name}")  # fmt: skip
    (directory / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    _openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
             "-CAcreateserial", "-days", "2", "-out", f"{name}.crt", "-extfile", f"{name}.ext")  # fmt: skip


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """Run a mosquitto with mqtts (a client certificate is asked for), ws and wss listeners."""
    files = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other"):
        _openssl(files, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", f"{name}.key",
                 "-out", f"{name}.crt", "-subj", f"/CN=Test {name}")  # fmt: skip
    _certify(files, "server")
    _certify(files, "client")
    ports = {scheme: free_port() for scheme in ("mqtts", "ws", "wss")}
    tls = f"cafile {files}/ca.crt\ncertfile {files}/server.crt\nkeyfile {files}/server.key\n"
    listeners = (
        f"listener {ports['mqtts']} 127.0.0.1\n{tls}require_certificate true\n"
        f"listener {ports['ws']} 127.0.0.1\nprotocol websockets\n"
        f"listener {ports['wss']} 127.0.0.1\nprotocol websockets\n{tls}"
    )
    with Mosquitto(files / "mosquitto", listeners) as broker:
        yield Secure(broker, ports, files)


@pytest.mark.parametrize("scheme", ["mqtts", "ws", "wss"])
def test_bridge_works_over(secure: Secure, scheme: str, sqlite_url: str) -> None:
    """The bridge trusts its CA, shows its certificate, and carries hundreds of messages over each transport."""
    recorder = secure.broker.recorder()
    flags = {"ca_file": secure.files / "ca.crt"} if scheme != "ws" else {}
    if scheme == "mqtts":
        flags |= {"cert_file": secure.files / "client.crt", "key_file": secure.files / "client.key"}
    url = f"{scheme}://bridge@localhost:{secure.ports[scheme]}"
    with BridgeThread(broker=url, database=sqlite_url, **flags):
        logins = [(f"presence/{scheme}-u{n}/{scheme}-c{n}/login", b"") for n in range(500)]
        secure.broker.publisher("", "").publish_all(logins)
        settle(secure.broker, recorder, scheme)
        online = [u for u, s in recorder.statuses().items() if u.startswith(f"{scheme}-u") and s["online"]]
        assert len(online) == 500
    assert recorder.wait_for(lambda: recorder.last("bridge/state")["state"] == "offline", "offline")


def test_bridge_does_not_trust_another_ca(secure: Secure, sqlite_url: str, caplog) -> None:
    """A broker whose certificate is not from the CA of the setting is not talked to, and the log says why."""
    flags = {"ca_file": secure.files / "other.crt"}
    url = f"wss://bridge@localhost:{secure.ports['wss']}"
    bridge = BridgeThread(broker=url, database=sqlite_url, **flags)
    bridge._thread.start()
    until(lambda: "certificate" in caplog.text.lower(), "the log tells of the certificate")
    assert not bridge.is_ready
    bridge.bridge.stop()
    bridge._thread.join(10)
    assert not bridge._thread.is_alive()
    assert bridge.error is None
