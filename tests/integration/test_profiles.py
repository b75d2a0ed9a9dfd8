"""Fleets of devices on a real mosquitto, with a bridge that follows them by profiles: what single fleets do.

`test_fleet_lives.py` has the life that all of them share.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridges import BridgeProcess
from tests.support.brokers import BRIDGE_PASSWORD, Mosquitto
from tests.support.fleets import DEVICES, STATE, Device, sparkplug
from tests.support.house import House
from tests.support.postgres import cursor, query
from tests.support.waiting import until

BY_PROFILE = {device.profile: device for device in DEVICES}
TASMOTA = BY_PROFILE["tasmota"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "mosquitto", "sys_interval 1") as started:
        yield started


@pytest.fixture
def house(broker: Mosquitto, sqlite_url: str) -> House:
    return House(broker, sqlite_url)


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
        epoch = bridge.links[0]._collector.epoch
        bridge.links[0]._client.drop_connection()
        until(lambda: bridge.links[0]._collector.epoch > epoch and bridge.is_ready, "the bridge is back")
        house.mark("later")
        assert [record["reason"] for record in house.records(TASMOTA.user)] == [None]


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
        until(lambda: len(bridge.parts.pending) >= 60, "all births wait")
        waiting = [entry.message.payload for entry in bridge.parts.pending.messages]
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
    """A mosquitto that is connected to ours, for its whole life: seen at the start, killed, started again, stopped,
    away while we are away, and there again after our broker was killed.
    """
    cabin_user = "mosquitto_bridge:cabin.house"
    connection = (
        f"connection cabin\naddress 127.0.0.1:{house.broker.port}\nremote_clientid cabin.house\n"
        "topic cabin/# out 1\nrestart_timeout 1 1\nbridge_protocol_version mqttv311"
    )
    state = "$SYS/broker/connection/cabin.house/state"
    recorder = house.broker.recorder(state)
    with Mosquitto(tmp_path / "cabin", connection) as cabin:
        recorder.wait_for(lambda: recorder.on(state), "the connection is reported")
        with house.bridge("mosquitto_bridge"):
            house.wait(cabin_user, "online")
            (record,) = house.records(cabin_user)
            assert record["login_order"] is None
            cabin.kill()
            house.wait(cabin_user, "offline")
            assert house.records(cabin_user)[-1]["reason"] == "lost"
            cabin.start()
            house.wait(cabin_user, "online")
            assert house.records(cabin_user)[-1]["login_order"] is not None
            cabin.stop()
            house.wait(cabin_user, "offline")
            cabin.start()
            house.wait(cabin_user, "online")
        cabin.kill()
        recorder.wait_for(lambda: recorder.on(state)[-1].payload == b"0", "the loss is reported")
        with house.bridge("mosquitto_bridge") as bridge:
            house.wait(cabin_user, "offline")
            cabin.start()
            house.wait(cabin_user, "online")
            house.broker.kill()
            until(lambda: not bridge.is_ready, "the connection ends")
            before = len(recorder.on(state))
            house.broker.start()
            until(lambda: bridge.is_ready, "the bridge is connected again")
            recorder.wait_for(lambda: len(recorder.on(state)) > before, "the cabin is connected again")
            house.mark("later")
            assert house.state(cabin_user) == "online"
            cabin.kill()
            house.wait(cabin_user, "offline")


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
