"""Fleets as real programs speak, on a real mosquitto: the bridge follows each by its profile.

Not part of `make test`: `make test-fleets` installs the programs first. `tests/integration/test_profiles.py` has a bridge
between two mosquittos.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mqtt_presence.cli.app import app
from tests.programs import programs
from tests.support.brokers import Mosquitto
from tests.support.house import House
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)
START_S = 120.0
"""The time that a program may take until it is there; Home Assistant takes half a minute on a small machine."""
HOME_ASSISTANT = {
    "availability": [
        {"topic": "homeassistant/status", "device": "core", "there": ["online"], "gone": ["offline"]}
    ],
}
"""The profile of docs/devices.md."""


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield House(broker, sqlite_url)


LIVES = [
    (programs.node_red, "generic", "generic:plant.nodered"),
    (programs.zigbee2mqtt, "zigbee2mqtt", "zigbee2mqtt:bridge"),
    (programs.home_assistant, "homeassistant", "homeassistant:core"),
    (programs.theengs_gateway, "theengs", "theengs:gateway"),
    (programs.homie_device, "homie", "homie:boiler"),
    (programs.sparkplug_node, "sparkplug", "sparkplug:plant.press"),
]


@pytest.mark.parametrize(("make", "profile", "user"), LIVES, ids=[life[1] for life in LIVES])
def test_life_of_a_program(
    house: House,
    tmp_path: Path,
    make: Callable[[Path, int], programs.Program],
    profile: str,
    user: str,
) -> None:
    """Started, killed, started again, and stopped as a person does; and what it retains shows at the bridge's start."""
    own = {"profile": {profile: HOME_ASSISTANT}} if profile == "homeassistant" else {}
    names = () if own else (profile,)
    program = make(tmp_path / "program", house.broker.port)
    with ExitStack() as programs_to_end:
        with house.bridge(*names, **own) as bridge:
            programs_to_end.enter_context(program)
            house.wait(user, "online", START_S)
            until(lambda: house.records(user)[-1]["login_order"] is not None, "its birth is a login")
            program.kill()
            house.wait(user, "offline")
            assert house.records(user)[-1]["reason"] == "lost"
            program.start()
            house.wait(user, "online", START_S)
            assert not set(bridge.parts.counters.refused) - {"no_match"}
        with house.bridge(*names, **own):
            house.mark("later")
            assert house.state(user) == "online"
            program.stop()
            house.wait(user, "offline", 60.0)


def test_zigbee2mqtt_devices(house: House, tmp_path: Path) -> None:
    """Its devices are described by its list; one that answers no more is offline, and all are lost with the gateway."""
    lamp, plug = "zigbee2mqtt:hall.lamp", "zigbee2mqtt:plug"
    with (
        programs.zigbee2mqtt(tmp_path / "program", house.broker.port) as program,
        house.bridge("zigbee2mqtt") as bridge,
    ):
        house.wait(lamp, "online", START_S)
        house.wait(plug, "online", START_S)
        until(lambda: programs.PLUG in house.records(plug)[-1]["meta"], "the plug is described")
        (program.directory / "unreachable").write_text(programs.PLUG)
        house.wait(plug, "offline", 60.0)
        assert house.records(plug)[-1]["cause"] is None
        assert house.state(lamp) == "online"
        (program.directory / "unreachable").write_text("")
        house.wait(plug, "online", 60.0)
        program.kill()
        house.wait(lamp, "offline")
        house.wait(plug, "offline")
        assert {house.records(user)[-1]["cause"] for user in (lamp, plug)} == {"parent"}
        program.start()
        house.wait(lamp, "online", START_S)
        house.wait(plug, "online", START_S)
        assert not bridge.parts.counters.refused


def test_sparkplug_devices(house: House, tmp_path: Path) -> None:
    """The device of a node is lost with it, and returns by its own birth; after our absence, by its data."""
    arm = "sparkplug:plant.press.arm"
    program = programs.sparkplug_node(tmp_path / "program", house.broker.port)
    with ExitStack() as programs_to_end:
        with house.bridge("sparkplug"):
            programs_to_end.enter_context(program)
            house.wait(arm, "online", START_S)
            program.kill()
            house.wait(arm, "offline")
            assert house.records(arm)[-1]["cause"] == "parent"
            program.start()
            house.wait(arm, "online", START_S)
        program.kill()
        program.start()
        until(lambda: house.broker.log().count("DDATA") > 1, "the node publishes data")
        with house.bridge("sparkplug"):
            house.wait(arm, "online")
            house.wait("sparkplug:plant.press", "online")


def test_all_at_once_are_named(house: House, tmp_path: Path) -> None:
    """`profiles try` with no name finds each of them on one broker."""
    port = house.broker.port
    with (
        programs.node_red(tmp_path / "node_red", port),
        programs.zigbee2mqtt(tmp_path / "zigbee2mqtt", port),
        programs.theengs_gateway(tmp_path / "theengs", port),
        programs.homie_device(tmp_path / "homie", port),
        programs.sparkplug_node(tmp_path / "sparkplug", port),
    ):
        recorder = house.broker.recorder("#")
        for topic in (
            "plant/nodered/availability", "zigbee2mqtt/plug/availability", "home/TheengsGateway/LWT",
            "homie/boiler/$state", "spBv1.0/plant/DDATA/press/arm",
        ):  # fmt: skip
            recorder.wait_for(lambda topic=topic: recorder.on(topic), topic, START_S)
        run = CliRunner().invoke(app, ["profiles", "try", "--broker", house.broker.url, "--seconds", "4"])
    assert run.exit_code == 0, run.stderr
    for line in (
        "1 any <name>/availability (1 online): generic:plant.nodered", "3 Zigbee2MQTT (3 online)", "1 Theengs Gateway",
        "1 Homie 3 and 4 (1 online): homie:boiler", "2 Sparkplug B (2 online)",
    ):  # fmt: skip
        assert line in run.stdout, run.stdout
