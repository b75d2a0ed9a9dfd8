"""The shipped settings of the embedded broker, as they are but for address, ports and paths."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.peer import Peer, RefusedError
from tests.support.waiting import free_port, listens, until

SHIPPED = Path(__file__).parents[2] / "broker_config/embedded/up.toml"
USERS = ("operator", "alice", "mallory")


def test_shipped_settings_of_the_embedded_broker(tmp_path: Path) -> None:
    """With passwords: alice comes and goes and the operator is told; nobody else can say so, or read events."""
    ports = {"mqtt": free_port(), "ws": free_port()}
    text = SHIPPED.read_text()
    for old, new in {
        'host = "0.0.0.0"': 'host = "127.0.0.1"',
        "port = 1883": f"port = {ports['mqtt']}",
        "ws_port = 9001": f"ws_port = {ports['ws']}",
        '#password_file = "/etc/mqtt-presence/passwords"': f'password_file = "{tmp_path}/passwords"',
        '#database = "sqlite:////var/lib/mqtt-presence/presence.db"': f'database = "sqlite:///{tmp_path}/p.db"',
    }.items():
        assert text.count(f"\n{old}\n") == 1, old
        text = text.replace(f"\n{old}\n", f"\n{new}\n")
    (tmp_path / "up.toml").write_text(text)
    command = [sys.executable, "-m", "mqtt_presence"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MQTT_PRESENCE_")}
    for user in USERS:
        subprocess.run(
            [*command, "passwd", user, "--stdin", "--password-file", tmp_path / "passwords"],
            input=f"secret-of-{user}\n".encode(), env=kept, check=True,
        )  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        up = subprocess.Popen(
            [*command, "up", "--config", tmp_path / "up.toml"], stdout=log, stderr=log, env=kept
        )
    peers: list[Peer] = []

    def peer(user: str, client_id: str, transport: str = "mqtt", **how) -> Peer:
        path = "/mqtt" if transport == "ws" else None
        how.setdefault("password", f"secret-of-{user}")
        peers.append(Peer(ports[transport], user, client_id, path=path, **how))
        return peers[-1]

    try:
        until(lambda: up.poll() is not None or all(map(listens, ports.values())), "it is up")
        operator = peer("operator", "op", filters=("status/+", "events/+/+", "bridge/state"))
        operator.wait_for("bridge/state", b"online")
        for transport in ports:
            alice = peer(
                "alice", f"a-{transport}", transport, will=(f"presence/alice/a-{transport}/will", b"")
            )
            assert alice.publish(f"presence/alice/a-{transport}/login", b"")
            operator.wait_for("status/alice", b'"state":"online"')
            alice.die()
            operator.wait_for("status/alice", b'"state":"offline"')
            mallory = peer("mallory", f"m-{transport}", transport, filters=("events/+/+",))
            assert mallory.granted == [False]
            heard = len(operator.heard)
            mallory.publish("presence/alice/phone/login", b"")
            mallory.publish(f"presence/mallory/m-{transport}/login", b"")
            operator.wait_for("status/mallory", b'"state":"online"')
            assert not [topic for topic, _, _ in operator.heard[heard:] if "alice" in topic]
            for user, secret in (("alice", "wrong"), ("alice", None)):
                with pytest.raises(RefusedError):
                    peer(user, "x", transport, password=secret)
    finally:
        for one in peers:
            one.close()
        up.send_signal(signal.SIGTERM)
        code = up.wait(20)
    assert code == 0, (tmp_path / "log").read_text()
