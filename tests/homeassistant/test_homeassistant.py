"""Users in a real Home Assistant: they appear by themselves, live, survive restarts, and vanish."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.homeassistant.conftest import USER, ForHomeAssistant
from tests.homeassistant.hass import HomeAssistant
from tests.support.bridges import BridgeProcess, BridgeThread
from tests.support.brokers import PASSWORD
from tests.support.mqtt import Client
from tests.support.waiting import free_port, until

ODD_NAMES = (
    "Zoë Müller",
    "日本",
    "{{ states }}",
    "tasmota:plug-1",
    "a b",
    "a_b",
    "'quoted'",
    '"',
    "x" * 128,
    "$x",
)
ONLINE = {"connected": "on", "state": "online", "connections": "1", "presence": "home"}
OFFLINE = {"connected": "off", "state": "offline", "connections": "0", "presence": "not_home"}
AWAY = dict.fromkeys((*ONLINE, "since"), "unavailable")


@pytest.fixture
def settings(tmp_path: Path, mosquitto: ForHomeAssistant) -> dict[str, Any]:
    return {
        "broker": mosquitto.url,
        "database": f"sqlite:///{tmp_path}/presence.db",
        "homeassistant": True,
    }


@pytest.fixture
def bridge(settings: dict[str, Any]) -> Iterator[BridgeThread]:
    with BridgeThread(**settings) as started:
        yield started


def log_in(mosquitto: ForHomeAssistant, user: str) -> None:
    mosquitto.say(user, "phone", "login", json.dumps({"connectionId": "c1"}).encode())


def report(mosquitto: ForHomeAssistant, user: str, *, idle: bool) -> None:
    mosquitto.say(user, "phone", "activity", json.dumps({"connectionId": "c1", "idle": idle}).encode())


def log_out(mosquitto: ForHomeAssistant, user: str) -> None:
    mosquitto.say(user, "phone", "logout", json.dumps({"connectionId": "c1"}).encode())


def test_user_lives_in_home_assistant(
    mosquitto: ForHomeAssistant, hass: HomeAssistant, bridge: BridgeThread
) -> None:
    """Entities appear without YAML, follow the status, and vanish with the user, without a complaint."""
    log_in(mosquitto, "alice")
    hass.shows("alice", **ONLINE)
    since = hass.entities("alice")["Since"]
    assert since["attributes"]["device_class"] == "timestamp"
    attributes = hass.entities("alice")["Connected"]["attributes"]
    assert attributes["device_class"] == "connectivity"
    assert attributes["userId"] == "alice"
    assert attributes["lastLogin"]
    assert hass.entities("alice")["Presence"]["attributes"]["source_type"] == "router"
    assert hass.entities("alice")["State"]["attributes"]["options"] == ["online", "idle", "offline"]
    report(mosquitto, "alice", idle=True)
    hass.shows("alice", **{**ONLINE, "state": "idle"})
    report(mosquitto, "alice", idle=False)
    hass.shows("alice", **ONLINE)
    log_out(mosquitto, "alice")
    hass.shows("alice", **OFFLINE)
    assert hass.devices() == {"alice"}
    assert bridge.store.forget("alice") == 1
    until(lambda: not hass.entities("alice"), "the entities are gone")
    until(lambda: not hass.devices(), "the device is gone")
    log_in(mosquitto, "alice")
    hass.shows("alice", **ONLINE)
    assert hass.complaints() == []


def test_names_of_all_kinds(mosquitto: ForHomeAssistant, hass: HomeAssistant, bridge: BridgeThread) -> None:
    """Each has a device of its own, under the name as it is."""
    del bridge
    for name in ODD_NAMES:
        log_in(mosquitto, name)
    for name in ODD_NAMES:
        hass.shows(name, **ONLINE)
    assert hass.devices() == set(ODD_NAMES)
    ids = {entity["entity_id"] for name in ODD_NAMES for entity in hass.entities(name).values()}
    assert len(ids) == 5 * len(ODD_NAMES)
    assert hass.complaints() == []


def test_restarts(
    tmp_path: Path, mosquitto: ForHomeAssistant, hass: HomeAssistant, settings: dict[str, Any]
) -> None:
    """The bridge, the broker with and without its store, and Home Assistant restart one after another."""
    flags = {name: value for name, value in settings.items() if name != "homeassistant"}
    on = {"MQTT_PRESENCE_HOMEASSISTANT": "true"}
    with BridgeProcess(tmp_path / "bridge.log", environment=on, **flags) as bridge:
        log_in(mosquitto, "alice")
        hass.shows("alice", **ONLINE)
        # The bridge: killed, as by a failure, and stopped.
        bridge.kill()
        hass.shows("alice", **AWAY)
        bridge.start()
        hass.shows("alice", **ONLINE)
        bridge.stop()
        hass.shows("alice", **AWAY)
        bridge.start()
        hass.shows("alice", **ONLINE)
        # The broker, with its store and without.
        mosquitto.stop()
        hass.shows("alice", **AWAY)
        mosquitto.start()
        hass.shows("alice", **ONLINE)
        connections = bridge.log().count("connected to")
        mosquitto.lose_everything()
        bridge.wait_for_log("connected to", connections + 1)  # the broker drops messages before
        log_in(mosquitto, "bob")
        hass.shows("bob", **ONLINE)
        hass.shows("alice", **ONLINE)
        # Home Assistant: what happens meanwhile is there when it is back; the broker has all messages again.
        hass.stop()
        log_out(mosquitto, "alice")
        log_in(mosquitto, "carol")
        hass.start()
        hass.shows("alice", **OFFLINE)
        hass.shows("bob", **ONLINE)
        hass.shows("carol", **ONLINE)
        assert hass.devices() == {"alice", "bob", "carol"}


def test_home_assistant_that_starts_last(
    tmp_path: Path, mosquitto: ForHomeAssistant, settings: dict[str, Any]
) -> None:
    """Users who were known before the setting appear, and go when it is switched off or matches others."""
    off = settings | {"homeassistant": False}
    with BridgeThread(**off):
        for user in ("alice", "bob"):
            log_in(mosquitto, user)
    with HomeAssistant(tmp_path / "hass", mosquitto.port, USER, PASSWORD) as hass:
        with BridgeThread(**settings):
            hass.shows("alice", **ONLINE)
            hass.shows("bob", **ONLINE)
        with BridgeThread(**settings, homeassistant_match="b*"):
            until(lambda: hass.devices() == {"bob"}, "only bob is left")
            hass.shows("bob", **ONLINE)
        with BridgeThread(**off):
            until(lambda: not hass.devices(), "no user is left")
        assert hass.complaints() == []


class UpProcess(BridgeProcess):
    """`mqtt-presence up` as a process."""

    def _command(self) -> list[str]:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()]
        return [
            *(sys.executable, "-m", "mqtt_presence", "up", "--no-ws", "--no-web", "--homeassistant"),
            *flags,
        ]


def test_up_is_a_broker_for_home_assistant(tmp_path: Path) -> None:
    """Home Assistant connects to the embedded broker; it survives restarts, which lose all retained messages."""
    port = free_port()
    up = UpProcess(tmp_path / "up.log", port=port, database=f"sqlite:///{tmp_path}/presence.db")
    with up, HomeAssistant(tmp_path / "hass", port, USER) as hass:
        alice = Client(port, "alice", "phone")
        alice.publish("presence/alice/phone/login", b"", qos=1)
        hass.shows("alice", **ONLINE)
        alice.publish("presence/alice/phone/activity", b'{"idle":true}', qos=1)
        hass.shows("alice", **{**ONLINE, "state": "idle"})
        alice.close()
        hass.shows("alice", **OFFLINE)
        assert hass.complaints() == []
        up.kill()
        hass.shows("alice", **AWAY)
        up.start()
        hass.shows("alice", **OFFLINE)
        hass.stop()
        hass.start()
        hass.shows("alice", **OFFLINE)
