"""All shipped profiles at once on a real mosquitto: each stage of a device's life, with recorded-form messages.

`test_profiles.py` has what single fleets do beside it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.adapters.devices.profile_files import load_profile, shipped_names
from mqtt_presence.protocol.topics import Topics
from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.fleets import DEVICES, Device, sparkplug
from tests.support.house import House
from tests.support.waiting import until

PROFILES = {name: load_profile(name, {}, Topics()) for name in shipped_names()}
RETAINED = [device for device in DEVICES if device.births]
NAMED = [device for device in RETAINED if device.profile not in {"frigate", "theengs"}]  # those have one name
TABLES = {
    "esphome": {"where": {"device": "porc.", "component": "sensor"}},
    "espurna": {"where": {"device": "plu."}},
}
"""ESPHome and ESPurna have the same topics."""


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with Mosquitto(tmp_path / "mosquitto", "sys_interval 1") as broker:
        yield House(broker, sqlite_url)


def all_profiles(house: House, **settings: Any) -> BridgeThread:
    return house.bridge(*shipped_names(), profile=TABLES, **settings)


def another_birth(device: Device, bd_seq: int = 4) -> bytes:
    """The payload of a birth after a new connect."""
    return sparkplug(bd_seq) if device.profile == "sparkplug" else device.there


def reasons(house: House, device: Device) -> list[str | None]:
    return [record["reason"] for record in house.records(device.user)]


def test_every_shipped_profile_is_played() -> None:
    """The table has a device for each."""
    assert {device.profile for device in DEVICES} == set(shipped_names())


def test_first_sight_at_the_start_then_renamed(house: House) -> None:
    """Retained messages alone: each device that is there has a record without a login, each that is gone has
    none. Under a new name it is another device, and the cleared topic is a logout.
    """
    for device in RETAINED:
        house.publish(device.topic, device.there, retain=True)
    for device in NAMED:
        house.publish(device.sibling("8").topic, device.gone, retain=True)
    with all_profiles(house) as bridge:
        house.wait_for_all(RETAINED, "online")
        house.mark("later")
        assert {house.state(device.sibling("8").user) for device in NAMED} == {"none"}
        for device in RETAINED:
            (record,) = house.records(device.user)
            assert (record["login_order"], record["origin"]) == (None, f"profile:{device.profile}")
        for device in NAMED:
            house.publish(device.topic, b"", retain=True)
            house.publish(device.sibling("9").topic, device.there, retain=True)
        house.wait_for_all(NAMED, "offline")
        house.wait_for_all([device.sibling("9") for device in NAMED], "online")
        assert {device.profile: reasons(house, device) for device in NAMED} == {
            device.profile: ["logout"] for device in NAMED
        }
        assert not bridge.parts.counters.refused


def test_birth_heartbeat_will_and_return(house: House) -> None:
    """The birth is a login, said again it changes no status; the cut gives the will, and the device returns."""
    with all_profiles(house) as bridge:
        clients = {device: house.connect(device) for device in DEVICES}
        for device, client in clients.items():
            house.give_birth(client, device)
        house.wait_for_all(DEVICES, "online")
        for device, client in clients.items():
            house.give_birth(client, device)
            if device.beat is not None:
                client.publish(*device.beat, qos=0)
            client.close()
        house.wait_for_all(DEVICES, "offline")
        for device in DEVICES:
            *superseded, last = house.records(device.user)
            assert last["reason"] == "lost", device
            assert (last["login_order"] is None) == (device.profile == "owntracks"), device  # it has no birth
            again = [] if PROFILES[device.profile].words.birth == "repeat" else ["superseded"]
            assert [record["reason"] for record in superseded] == again, device
        for device in DEVICES:
            gone = sparkplug(4) if device.profile == "sparkplug" else None
            house.give_birth(house.connect(device, gone=gone), device, another_birth(device))
        house.wait_for_all(DEVICES, "online")
        assert not bridge.parts.counters.refused


def test_late_will(house: House) -> None:
    """The old connection's will comes after the new birth: the next sign of life puts it right. Sparkplug's
    `bdSeq` tells the two apart, so there is nothing to put right.
    """
    with all_profiles(house) as bridge:
        connections = []
        for device in DEVICES:
            old = house.connect(device)
            new = house.connect(device, gone=sparkplug(4) if device.profile == "sparkplug" else None)
            for client, payload in ((old, device.there), (new, another_birth(device))):
                client.publish(device.topic, payload, retain=device.births)  # at QoS 1, for the order
            connections.append((device, old, new))
        house.wait_for_all(DEVICES, "online")
        for _, old, _ in connections:
            old.close()
        deceived = [device for device in DEVICES if device.profile != "sparkplug"]
        house.wait_for_all(deceived, "offline")
        until(lambda: bridge.parts.counters.refused, "the death of the other bdSeq is refused")
        assert house.state("sparkplug:plant.press") == "online"
        before = {device: len(house.records(device.user)) for device in deceived}
        for device, _, new in connections:
            if device.beat is None:
                house.give_birth(new, device)
            else:
                new.publish(*device.beat, qos=0)
        house.wait_for_all(DEVICES, "online")
        for device in deceived:
            revives = device.beat is not None and PROFILES[device.profile].late_will_ms > 0
            revives = revives or device.profile == "owntracks"
            assert len(house.records(device.user)) == before[device] + (not revives), device
        assert dict(bridge.parts.counters.refused) == {"late_will": 1}


def test_clean_stop(house: House) -> None:
    """A fleet with a word for it logs out; the others publish what the will would, and disconnect."""
    with all_profiles(house):
        clients = {device: house.connect(device) for device in DEVICES}
        for device, client in clients.items():
            house.give_birth(client, device)
        house.wait_for_all(DEVICES, "online")
        for device, client in clients.items():
            payload = device.gone if device.left is None else device.left
            client.publish(device.will_topic, payload, retain=device.births)
            client.disconnect()
        house.wait_for_all(DEVICES, "offline")
        house.mark("later")
        for device in DEVICES:
            expected = "lost" if device.left is None else "logout"
            assert house.records(device.user)[-1]["reason"] == expected, device


DEEP_SLEEP = b'{"DeepSleep":{"Time":"2026-11-29T03:00:00","DeepSleep":1795920000,"Wakeup":1795923600}}'
SLEEPS = {
    "tasmota": [("tele/kitchen-lamp/DEEPSLEEP", DEEP_SLEEP), ("tele/kitchen-lamp/LWT", b"Offline")],
    "homie": [("homie/boiler/$state", b"sleeping")],
    "homie5": [("homie/5/boiler/$state", b"sleeping")],
    "valetudo": [("valetudo/robot/$state", b"sleeping")],
    "openhasp": [("hasp/plate/state/idle", b"short")],
}


def test_sleep(house: House) -> None:
    """Fleets that announce a sleep or idleness are idle, with a deadline if they sleep; a birth wakes them."""
    assert {name for name, profile in PROFILES.items() if _can_sleep(profile)} == set(SLEEPS)
    sleepers = [device for device in DEVICES if device.profile in SLEEPS]
    with all_profiles(house) as bridge:
        for device in sleepers:
            house.publish(device.topic, device.there, retain=True)
        house.wait_for_all(sleepers, "online")
        for device in sleepers:
            for topic, payload in SLEEPS[device.profile]:
                house.publish(topic, payload, retain=True)
        house.wait_for_all(sleepers, "idle")
    with all_profiles(house) as bridge:  # what is retained now is no end of the sleep
        house.mark("later")
        assert {house.state(device.user) for device in sleepers} == {"idle"}
        for device in sleepers:
            (record,) = house.records(device.user)
            assert (record["timeout_ms"] is not None) == (device.profile != "openhasp"), device
            payload = b"off" if device.profile == "openhasp" else device.there
            topic = "hasp/plate/state/idle" if device.profile == "openhasp" else device.topic
            house.publish(topic, payload, retain=True)
        house.wait_for_all(sleepers, "online")
        assert not bridge.parts.counters.refused


def _can_sleep(profile: Any) -> bool:
    words = profile.words
    return words.sleep is not None or any(entry.asleep or entry.idle for entry in words.availability)


def test_broker_killed_with_stale_retained_values(house: House) -> None:
    """One device of each fleet publishes again after the restart, its sibling is gone for good and its retained
    value comes back with the broker. It ends where the fleet publishes at each connect.
    """
    ghosts = [device.sibling("8") for device in NAMED]
    with all_profiles(house, confirm_within=3) as bridge:
        for device in (*RETAINED, *ghosts):
            house.publish(device.topic, device.there, retain=True)
        house.wait_for_all((*RETAINED, *ghosts), "online")
        saved = house.broker.store / "mosquitto.db"
        kept = [device for device in (*RETAINED, *ghosts) if device.profile != "mosquitto_bridge"]  # in $SYS
        topics = [device.topic.encode() for device in kept]
        until(lambda: saved.exists() and _has_all(saved, topics), "mosquitto has saved the retained messages")
        house.broker.kill()
        house.broker.start()
        for device in RETAINED:
            house.publish(device.topic, device.there, retain=True)
        forgetful = [ghost for ghost in ghosts if PROFILES[ghost.profile].words.reconnects]
        assert {ghost.profile for ghost in forgetful} == {
            "tasmota", "esphome", "openmqttgateway", "wled", "openhasp", "espresense",
        }  # fmt: skip
        house.wait_for_all(forgetful, "offline", deadline_s=40.0)
        assert {house.records(ghost.user)[-1]["reason"] for ghost in forgetful} == {"unconfirmed"}
        house.mark("later")
        others = [device.user for device in (*RETAINED, *ghosts) if device not in forgetful]
        assert {user: house.state(user) for user in others} == dict.fromkeys(others, "online")
        assert not bridge.parts.counters.refused


def _has_all(path: Path, parts: list[bytes]) -> bool:
    data = path.read_bytes()
    return all(part in data for part in parts)


def test_bridge_away(house: House) -> None:
    """While the bridge is away one device of each fleet is lost and its sibling is born. Retained values and the
    queue of the bridge's session show it; a fleet that retains nothing shows at its next message.
    """
    born = [device.sibling("8") for device in NAMED]
    silent = [device.sibling("8") for device in DEVICES if not device.births]
    with all_profiles(house):
        clients = {device: house.connect(device) for device in DEVICES}
        for device, client in clients.items():
            house.give_birth(client, device)
        house.wait_for_all(DEVICES, "online")
    recorder = house.broker.recorder("#", "$SYS/broker/connection/#")
    for device, client in clients.items():
        client.close()
        recorder.wait_for(lambda device=device: recorder.on(device.will_topic), device.will_topic)
    for device in (*born, *silent):
        house.give_birth(house.connect(device), device)
    until(lambda: all(recorder.on(device.topic) for device in (*born, *silent)), "all births are published")
    with all_profiles(house) as bridge:
        lost = [device for device in DEVICES if device.births or device.will_qos]
        house.wait_for_all(lost, "offline")
        house.wait_for_all(born, "online")
        house.mark("later")
        assert {house.records(device.user)[-1]["reason"] for device in lost} == {"lost"}
        # OwnTracks' will is neither retained nor does it wait, at QoS 0: only `timeout` ends that record.
        assert house.state("owntracks:alice") == "online"
        assert {house.state(device.user) for device in silent} == {"none"}
        for device in silent:
            assert device.beat is not None
            house.publish(*device.beat, qos=0)
        house.wait_for_all(silent, "online")
        assert not bridge.parts.counters.refused
