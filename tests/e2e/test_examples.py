"""The examples do what they say on top; those in Python are run by tests/integration/test_clients.py."""

import os
import subprocess
from pathlib import Path

from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.playing import hello

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_every_example_has_a_test():
    """No example is left without a test that runs it."""
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == {
        "device.sh",
        "hello_presence.py",
        "watch.py",
    }
    clients = (EXAMPLES.parent / "tests" / "integration" / "test_clients.py").read_text()
    assert "hello_presence.py" in clients
    assert "watch.py" in clients


def device(broker: Mosquitto, *arguments: str, **variables: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PORT": str(broker.port), "EVERY": "1", **variables}
    return subprocess.Popen([EXAMPLES / "device.sh", *arguments], env=environment, start_new_session=True)


def test_device_is_shown_and_its_plug_is_pulled(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path):
    """Nothing but mosquitto_pub and empty payloads: online while it runs, offline by its will when it is killed."""
    watched = mosquitto.recorder()
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url):
        hello(mosquitto)
        process = device(mosquitto, "lamp", "esp1")
        try:
            watched.wait_for_state("lamp", "online")
        finally:
            os.killpg(process.pid, 9)
            process.wait(10)
        watched.wait_for_state("lamp", "offline")
        assert watched.wait_for_event("lamp", "connectionLogout")["reason"] == "lost"


def test_device_leaves_politely(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path):
    """After so many signs of life it says logout: one connection, ended on purpose."""
    watched = mosquitto.recorder()
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=sqlite_url):
        hello(mosquitto)
        assert device(mosquitto, "lamp", "esp1", "2").wait(30) == 0
        watched.wait_for_state("lamp", "offline")
        assert watched.wait_for_event("lamp", "connectionLogout")["reason"] == "logout"
        assert [name for name, _ in watched.events("lamp")].count("connectionLogin") == 1
