"""The recipes of docs/devices.md, as they stand there: those for which a compiler or a checker can be installed."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.programs import PROGRAMS, ROOT, Program
from tests.support.brokers import PASSWORD, Shipped
from tests.support.house import House
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)


def recipe(name: str) -> str:
    """Return the code below the recipe's name."""
    text = (ROOT / "docs/devices.md").read_text("utf-8")
    found = re.search(rf"^\*\*{re.escape(name)}\*\*.*?^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    """A broker with the shipped rights, where the device has its own account."""
    with Shipped(tmp_path / "mosquitto", users=("pump",)) as broker:
        yield House(broker, sqlite_url)


def test_esphome_accepts_its_recipe(tmp_path: Path) -> None:
    """`esphome config` validates it, and knows the messages of birth, will and shutdown."""
    device = "esphome: {name: pump}\nesp8266: {board: d1_mini}\nwifi: {ssid: plant, password: of-the-plant}\n"
    (tmp_path / "pump.yaml").write_text(device + recipe("ESPHome"))
    (tmp_path / "secrets.yaml").write_text("mqtt: secret\n")
    done = subprocess.run(
        [PROGRAMS / "esphome" / "bin" / "esphome", "config", tmp_path / "pump.yaml"],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for verb in ("login", "will", "logout"):
        assert f"topic: presence/pump/main/{verb}" in done.stdout


_MAIN = """
#include <MQTTClient.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *password = argv[2];
    MQTTClient client;
    if (argc != 3 || MQTTClient_create(&client, argv[1], "main", MQTTCLIENT_PERSISTENCE_NONE, NULL)) return 1;
%s
    for (;;) MQTTClient_yield();
}
"""


def test_paho_c_is_online_and_lost(house: House, tmp_path: Path) -> None:
    """Compiled and run with the rights of broker_config: its login is seen, and its end by a kill."""
    (tmp_path / "pump.c").write_text(_MAIN % recipe("paho C"))
    compiler = ["gcc", "-Wall", "-Werror", "-o", tmp_path / "pump", tmp_path / "pump.c", "-lpaho-mqtt3c"]
    subprocess.run(compiler, check=True, timeout=60)
    url = f"tcp://127.0.0.1:{house.broker.port}"
    with (
        house.bridge() as bridge,
        Program(tmp_path / "program", [tmp_path / "pump", url, PASSWORD]) as program,
    ):
        house.wait("pump", "online")
        (record,) = house.records("pump")
        assert (record["client_id"], record["origin"]) == ("main", "login")
        program.kill()
        house.wait("pump", "offline")
        until(lambda: house.records("pump")[0]["reason"] == "lost", "it is lost")
        assert not bridge.parts.counters.refused


def test_micropython_recipe_is_python() -> None:
    """MicroPython itself is in no registry with sockets; its recipe is at least a program."""
    compile(recipe("MicroPython, umqtt"), "recipe", "exec")
