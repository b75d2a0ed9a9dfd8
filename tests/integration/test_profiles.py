"""Fleets of devices on a real mosquitto: their whole life, with a bridge that follows them by profiles."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bridges import BridgeProcess, BridgeThread
from tests.support.brokers import BRIDGE_PASSWORD, Mosquitto
from tests.support.fleets import DEVICES, STATE, Device, sparkplug
from tests.support.mqtt import Client
from tests.support.postgres import cursor, query
from tests.support.waiting import until

BY_PROFILE = {device.profile: device for device in DEVICES}
REAL = [BY_PROFILE[name] for name in ("tasmota", "esphome", "zigbee2mqtt", "homie", "sparkplug", "owntracks")]
RETAINED = [device for device in REAL if device.births]
TASMOTA = BY_PROFILE["tasmota"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "mosquitto", "sys_interval 1") as started:
        yield started


class House:
    """Devices on a broker, and the database of the bridge that follows them."""

    def __init__(self, broker: Mosquitto, database: str) -> None:
        self.broker, self.database = broker, database
        self.number = 0

    def bridge(self, *profiles: str, **settings: Any) -> BridgeThread:
        return BridgeThread(broker=self.broker.url, database=self.database, profiles=profiles, **settings)

    def connect(self, device: Device, *, gone: bytes | None = None) -> Client:
        """Connect a device with its will, as its firmware does; it has not published its birth yet."""
        self.number += 1
        topic = device.topic.replace("NBIRTH", "NDEATH")
        will = (topic, device.gone if gone is None else gone, 1, device.births)
        return self.broker.client("devices", f"device-{self.number}", will=will)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        self.broker.publisher("", "").publish(topic, payload, retain=retain, qos=qos)

    def records(self, user: str) -> list[dict[str, Any]]:
        rows = query(self.database, "SELECT * FROM connections ORDER BY id")
        return [row for row in rows if row["user_id"] == user]

    def state(self, user: str) -> str:
        rows = query(self.database, "SELECT user_id, state FROM users")
        return next((row["state"] for row in rows if row["user_id"] == user), "none")

    def wait(self, user: str, state: str, deadline_s: float = 20.0) -> None:
        until(
            lambda: self.state(user) == state,
            f"{user} is {state}\n{self.broker.log()}",
            deadline_s=deadline_s,
        )

    def mark(self, name: str) -> None:
        """Wait until the bridge has committed everything that was published before."""
        self.broker.say(name, "marker", "login")
        self.wait(name, "online")


@pytest.fixture
def house(broker: Mosquitto, sqlite_url: str) -> House:
    return House(broker, sqlite_url)


def of(devices: list[Device]) -> Any:
    return pytest.mark.parametrize("device", devices, ids=lambda device: device.profile)


@of(REAL)
def test_life(house: House, device: Device) -> None:
    """Birth, heartbeat, will by a cut, return, removal; each seen by subscribers too."""
    with house.bridge(device.profile) as bridge:
        operator = house.broker.recorder()
        client = house.connect(device)
        client.publish(device.topic, device.there, retain=device.births)
        operator.wait_for_state(device.user, "online")
        login = operator.wait_for_event(device.user, "connectionLogin")
        if device.beat is not None:
            client.publish(*device.beat, qos=0)
        client.close()
        operator.wait_for_state(device.user, "offline")
        assert operator.wait_for_event(device.user, "connectionLogout")["reason"] == "lost"
        (record,) = house.records(device.user)
        assert (record["origin"], record["connection_id"]) == (
            f"profile:{device.profile}",
            login["connectionId"],
        )
        again = house.connect(device, gone=sparkplug(4) if device.profile == "sparkplug" else None)
        there = sparkplug(4) if device.profile == "sparkplug" else device.there
        again.publish(device.topic, there, retain=device.births)
        operator.wait_for_state(device.user, "online")
        if device.left is not None:
            again.publish(device.topic, device.left, retain=True)
            operator.wait_for_state(device.user, "offline")
            assert house.records(device.user)[-1]["reason"] == "logout"
        elif device.births:
            again.publish(device.topic, b"", retain=True)
            operator.wait_for_state(device.user, "offline")
            assert house.records(device.user)[-1]["reason"] == "logout"
        assert not bridge.parts.counters.refused


@of(RETAINED)
def test_first_sight_within_a_second(house: House, device: Device) -> None:
    """A bridge that starts on a broker with retained messages alone shows each device right."""
    house.publish(device.topic, device.there, retain=True)
    house.publish(
        device.topic.replace(device.user.split(":")[1].split(".")[-1], "other"), device.gone, retain=True
    )
    with house.bridge(device.profile):
        house.wait(device.user, "online", deadline_s=1.0)
        house.mark("later")
        (record,) = house.records(device.user)
        assert record["login_order"] is None
        assert [row["user_id"] for row in query(house.database, "SELECT user_id FROM users")] == [
            *sorted({device.user, "later"})
        ]


def test_late_will_then_heartbeat(broker: Mosquitto, database: str) -> None:
    """The will of the old connection comes after the birth of the new one: the next heartbeat puts it right."""
    house = House(broker, database)
    with house.bridge("tasmota"):
        old = house.connect(TASMOTA)
        new = house.connect(TASMOTA)
        old.publish(TASMOTA.topic, b"Online", retain=True)
        new.publish(TASMOTA.topic, b"Online", retain=True)
        house.wait(TASMOTA.user, "online")
        old.close()
        house.wait(TASMOTA.user, "offline")
        new.publish("tele/kitchen-lamp/STATE", STATE, qos=0)
        house.wait(TASMOTA.user, "online")
        assert [record["reason"] for record in house.records(TASMOTA.user)] == ["superseded", None]
    # The retained value is stuck at Offline: after a restart of the bridge, again until the next heartbeat.
    with house.bridge("tasmota"):
        house.wait(TASMOTA.user, "offline")
        new.publish("tele/kitchen-lamp/STATE", STATE, qos=0)
        house.wait(TASMOTA.user, "online")


def test_a_stuck_retained_will_is_no_end_on_a_new_connection(house: House) -> None:
    """The bridge connects again, gets the retained `Offline` again, and knows better."""
    with house.bridge("tasmota") as bridge:
        house.publish(TASMOTA.topic, b"Offline", retain=True)
        house.publish("tele/kitchen-lamp/STATE", STATE, qos=0)
        house.wait(TASMOTA.user, "online")
        house.publish(TASMOTA.topic, b"Offline", retain=True)
        house.publish("tele/kitchen-lamp/STATE", STATE, qos=0)
        house.mark("sooner")
        assert [record["reason"] for record in house.records(TASMOTA.user)] == [None]
        bridge.links[0]._client.drop_connection()
        until(lambda: not bridge.is_ready, "the connection ends")
        until(lambda: bridge.is_ready, "the bridge is back")
        house.mark("later")
        assert [record["reason"] for record in house.records(TASMOTA.user)] == [None]


@of(RETAINED)
def test_bridge_away(house: House, device: Device) -> None:
    """What happened while the bridge was away: the queue of its session, then the retained values."""
    with house.bridge(device.profile):
        client = house.connect(device)
        client.publish(device.topic, device.there, retain=True)
        house.wait(device.user, "online")
    client.close()
    until(lambda: device.topic in _retained(house, device), "the will is retained")
    with house.bridge(device.profile):
        house.wait(device.user, "offline")
        assert house.records(device.user)[-1]["reason"] == "lost"
    client = house.connect(device)
    client.publish(device.topic, device.there, retain=True)
    with house.bridge(device.profile):
        house.wait(device.user, "online")


def _retained(house: House, device: Device) -> list[str]:
    recorder = house.broker.recorder(device.topic)
    recorder.wait_for(lambda: recorder.on(device.topic), "a retained value")
    return [device.topic for heard in recorder.on(device.topic) if heard.payload == device.gone]


def test_broker_killed_with_stale_retained_values(house: House) -> None:
    """Both devices were there when the broker was killed; one is back, the other is gone for good. Its retained
    `Online` comes again, and it ends all the same; the one without `reconnects` is left alone.
    """
    lamp = ("tele/lamp/LWT", b"Online")
    with house.bridge("tasmota", "zigbee2mqtt", confirm_within=2):
        house.publish(*lamp, retain=True)
        house.publish("tele/ghost/LWT", b"Online", retain=True)
        house.publish("zigbee2mqtt/plug/availability", b'{"state":"online"}', retain=True)
        for user in ("tasmota:lamp", "tasmota:ghost", "zigbee2mqtt:plug"):
            house.wait(user, "online")
        until(lambda: _is_saved(house, b"tele/ghost/LWT"), "mosquitto has saved the retained messages")
        house.broker.kill()
        house.broker.start()
        house.publish(*lamp, retain=True)
        house.wait("tasmota:ghost", "offline", deadline_s=40.0)
        assert house.records("tasmota:ghost")[-1]["reason"] == "unconfirmed"
        assert (house.state("tasmota:lamp"), house.state("zigbee2mqtt:plug")) == ("online", "online")


def test_broker_that_lost_everything(broker: Mosquitto, database: str) -> None:
    """No session and nothing retained: a device that publishes again stays, another one ends."""
    house = House(broker, database)
    with house.bridge("tasmota", confirm_within=2):
        for name in ("lamp", "ghost"):
            house.publish(f"tele/{name}/LWT", b"Online", retain=True)
            house.wait(f"tasmota:{name}", "online")
        house.broker.lose_everything()
        house.publish("tele/lamp/LWT", b"Online", retain=True)
        house.wait("tasmota:ghost", "offline", deadline_s=40.0)
        assert house.records("tasmota:ghost")[-1]["reason"] == "unconfirmed"
        assert house.state("tasmota:lamp") == "online"


def test_start_of_the_bridge_asks_no_device(house: House) -> None:
    """Only a restart of the broker asks for a new birth: devices that are there say nothing at a bridge's start."""
    house.publish(TASMOTA.topic, b"Online", retain=True)
    for _ in range(2):
        with house.bridge("tasmota") as bridge:
            house.wait(TASMOTA.user, "online")
            until(lambda: bridge.parts.progress.until, "the bridge has caught up")
            assert bridge.parts.device_confirmations._restarted_at is None


def _is_saved(house: House, part: bytes) -> bool:
    saved = house.broker.store / "mosquitto.db"
    return saved.exists() and part in saved.read_bytes()


def test_zigbee2mqtt_gateway(house: House) -> None:
    """The gateway is cut: its devices are lost, with the cause; and back when it is."""
    gateway = Device("zigbee2mqtt", "zigbee2mqtt:bridge", "zigbee2mqtt/bridge/state",
                     b'{"state":"online"}', b'{"state":"offline"}')  # fmt: skip
    devices = b"[" + b",".join(
        b'{"friendly_name":"lamp%d","definition":{"model":"LED1"},"padding":"%s"}' % (n, b"x" * 400)
        for n in range(600)
    ) + b"]"  # fmt: skip
    assert len(devices) > 200_000
    with house.bridge("zigbee2mqtt") as bridge:
        client = house.connect(gateway)
        client.publish(gateway.topic, gateway.there, retain=True)
        client.publish("zigbee2mqtt/bridge/devices", devices, retain=True)
        client.publish("zigbee2mqtt/lamp1/availability", b'{"state":"online"}', retain=True)
        house.wait("zigbee2mqtt:lamp1", "online")
        until(lambda: house.records("zigbee2mqtt:lamp1")[0]["meta"] == '{"model":"LED1"}', "it is described")
        client.close()
        house.wait("zigbee2mqtt:lamp1", "offline")
        record = house.records("zigbee2mqtt:lamp1")[0]
        assert (record["reason"], record["cause"]) == ("lost", "parent")
        house.wait("zigbee2mqtt:bridge", "offline")
        client = house.connect(gateway)
        client.publish(gateway.topic, gateway.there, retain=True)
        house.wait("zigbee2mqtt:lamp1", "online")
        assert len(house.records("zigbee2mqtt:lamp1")) == 1
        assert not bridge.parts.counters.refused


def test_large_births_wait_without_their_bytes(house: House) -> None:
    """While the database is locked, 60 births of 0.9 MB each wait; the bridge does not keep their bytes."""
    birth = sparkplug(3, metrics=20_000)
    assert 600_000 < len(birth) < 1_000_000
    with house.bridge("sparkplug") as bridge, cursor(house.database) as locking:
        locking.execute("BEGIN IMMEDIATE")
        for number in range(60):
            house.publish(f"spBv1.0/plant/NBIRTH/press{number}", birth)
        until(lambda: len(bridge.parts.intake.pending) >= 60, "all births wait")
        waiting = [entry.message.payload for entry in bridge.parts.intake.pending]
        locking.execute("ROLLBACK")
        assert sum(map(len, waiting)) < 60_000
        house.wait("sparkplug:plant.press59", "online")
        assert not bridge.parts.counters.refused


def test_profile_that_is_off_again_leaves_no_subscription(house: House) -> None:
    """The broker's session of the bridge forgets the filters of a profile that the settings no longer name."""
    with house.bridge("wled", "tasmota"):
        house.publish(TASMOTA.topic, b"Online", retain=True)
        house.wait(TASMOTA.user, "online")
    with house.bridge("wled") as bridge:
        house.mark("one")
        house.publish(TASMOTA.topic, b"Offline", retain=True)
        house.mark("two")
        assert house.state(TASMOTA.user) == "online"
        assert not bridge.parts.counters.refused


def test_a_real_bridge_between_two_brokers(house: House, tmp_path: Path) -> None:
    """A mosquitto that is connected to ours: seen, lost when it is killed, and back when it is started again."""
    connection = (
        f"connection cabin\naddress 127.0.0.1:{house.broker.port}\nremote_clientid cabin.house\n"
        "topic cabin/# out 1\nrestart_timeout 1 1\nbridge_protocol_version mqttv311"
    )
    with house.bridge("mosquitto_bridge"), Mosquitto(tmp_path / "cabin", connection) as cabin:
        house.wait("mosquitto_bridge:cabin.house", "online")
        cabin.kill()
        house.wait("mosquitto_bridge:cabin.house", "offline")
        assert house.records("mosquitto_bridge:cabin.house")[-1]["reason"] == "lost"
        cabin.start()
        house.wait("mosquitto_bridge:cabin.house", "online")


ACL = """
user bridge
topic readwrite presence/#
topic readwrite status/#
topic readwrite events/#
topic readwrite bridge/#
topic read tele/#
user marker
topic write presence/#
pattern write tele/%u/#
"""


def test_rights_tie_a_device_to_its_login(tmp_path: Path, sqlite_url: str) -> None:
    """With an account for each device, as docs/devices.md has it, a device cannot speak for another one; and the
    bridge needs to read its topics, no more.
    """
    (tmp_path / "acl").write_text(ACL)
    users = {"bridge": BRIDGE_PASSWORD, "lamp": "secret", "plug": "secret", "marker": "secret"}
    with Mosquitto(tmp_path / "mosquitto", f"acl_file {tmp_path / 'acl'}", users) as broker:
        house = House(broker, sqlite_url)
        with house.bridge("tasmota", source="none") as bridge:
            plug = broker.client(
                "plug", "DVES_2", password="secret", will=("tele/lamp/LWT", b"Offline", 1, True)
            )
            lamp = broker.client("lamp", "DVES_1", password="secret")
            plug.publish("tele/lamp/LWT", b"Online", retain=True)
            marker = broker.client("marker", "marker", password="secret")
            marker.publish("presence/one/marker/login")
            house.wait("one", "online")
            assert house.state("tasmota:lamp") == "none"
            lamp.publish("tele/lamp/LWT", b"Online", retain=True)
            house.wait("tasmota:lamp", "online")
            plug.publish("tele/plug/LWT", b"Online", retain=True)
            house.wait("tasmota:plug", "online")
            plug.close()
            until(lambda: "Client DVES_2 closed its connection" in broker.log(), "the plug is cut")
            marker.publish("presence/two/marker/login")
            house.wait("two", "online")
            assert house.state("tasmota:lamp") == "online"
            assert not bridge.parts.counters.refused


FLEET = [
    ("tele/lamp/LWT", b"Online"), ("tele/plug/LWT", b"Offline"), ("porch/status", b"online"),
    ("zigbee2mqtt/bridge/state", b'{"state":"online"}'), ("zigbee2mqtt/motion/availability", b'{"state":"online"}'),
    ("homie/boiler/$state", b"sleeping"), ("homeassistant/status", b"online"), ("some/other/topic", b"1"),
]  # fmt: skip
STATES = {
    "tasmota:lamp": "online", "esphome:porch": "online", "zigbee2mqtt:bridge": "online",
    "zigbee2mqtt:motion": "online", "homie:boiler": "idle",
}  # fmt: skip


def test_try_names_four_fleets_and_run_shows_them(house: House, tmp_path: Path) -> None:
    """`profiles try` on a broker with nothing but retained messages; its lines are settings that work."""
    for topic, payload in FLEET:
        house.publish(topic, payload, retain=True)
    done = cli("profiles", "try", "--broker", house.broker.url, "--seconds", "2")
    assert done.returncode == 0, done.stderr
    assert "2 Tasmota (1 offline, 1 online): tasmota:lamp, tasmota:plug" in done.stdout
    assert "1 ESPHome (1 online): esphome:porch" in done.stdout
    assert "2 Zigbee2MQTT (2 online)" in done.stdout
    assert "1 Homie 3 and 4 (1 idle): homie:boiler" in done.stdout
    _, _, lines = done.stdout.partition("settings file:")
    settings = tmp_path / "presence.toml"
    settings.write_text(f'broker = "{house.broker.url}"\ndatabase = "{house.database}"\n{lines}')
    assert re.search(r'profiles = \["esphome", "homie", "tasmota", "zigbee2mqtt"\]', settings.read_text())
    with BridgeProcess(tmp_path / "log", config=settings):
        for user, state in STATES.items():
            house.wait(user, state, deadline_s=1.0)
        house.mark("later")
        rows = query(house.database, "SELECT user_id, state FROM users")
        assert {row["user_id"]: row["state"] for row in rows} == STATES | {"later": "online"}


def test_try_gives_overlapping_profiles_a_where(house: House, tmp_path: Path) -> None:
    """ESPHome and ESPurna use the same topics: the printed lines tell them apart by name."""
    house.publish("porch/status", b"online", retain=True)
    house.publish("plug/status", b"1", retain=True)
    done = cli("profiles", "try", "--broker", house.broker.url, "--seconds", "2")
    _, _, lines = done.stdout.partition("settings file:")
    settings = tmp_path / "presence.toml"
    settings.write_text(f'broker = "{house.broker.url}"\ndatabase = "{house.database}"\n{lines}')
    with BridgeProcess(tmp_path / "log", config=settings):
        house.wait("esphome:porch", "online")
        house.wait("espurna:plug", "online")


def test_try_on_an_empty_broker_and_on_none(house: House) -> None:
    """No device is no failure; no broker is one; a name that does not exist is a wrong setting."""
    done = cli("profiles", "try", "tasmota", "--broker", house.broker.url, "--seconds", "1")
    assert (done.returncode, done.stdout) == (0, "No profile recognises a device on this broker.\n")
    house.broker.kill()
    assert cli("profiles", "try", "--broker", house.broker.url, "--seconds", "1").returncode == 1
    done = cli("profiles", "try", "tasmotta")
    assert (done.returncode, done.stdout) == (2, "")
    house.broker.start()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            '[profile.mine]\navailability = [{ topic = "#", there = ["1"] }]',
            "profile.mine.availability[0].topic",
        ),
        ('profiles = ["esphome", "espurna"]', "is also read by profile.esphome"),
        ('profiles = ["tasmotta"]', "there is no profile 'tasmotta'"),
        ('[profile.tasmota]\ntimout = "5m"', "profile.tasmota: object contains unknown field `timout`"),
    ],
)
def test_wrong_profile_ends_the_command(tmp_path: Path, table: str, message: str) -> None:
    """Exit code 2, one line that names the key, and the broker is not asked."""
    settings = tmp_path / "presence.toml"
    settings.write_text(f'database = "sqlite:///{tmp_path}/presence.db"\n{table}\n')
    done = cli("run", "--config", str(settings))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def cli(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MQTT_PRESENCE_")}
    return subprocess.run(
        [sys.executable, "-m", "mqtt_presence", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
