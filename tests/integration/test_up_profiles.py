"""`mqtt-presence up` with device profiles: the embedded broker takes the fleets' topics, and the bridge follows them."""

import signal
from pathlib import Path

import pytest

from mqtt_presence.adapters.devices.profile_files import shipped_names
from tests.support.fleets import DEVICES, Device
from tests.support.mqtt import Client
from tests.support.postgres import query
from tests.support.waiting import until
from tests.support.web import Page

USED = [name for name in shipped_names() if name != "espurna"]  # it has the topics of ESPHome
PLAYED = [device for device in DEVICES if device.profile in USED]
DEEP_SLEEP = b'{"DeepSleep":{"Time":"2026-11-29T03:00:00","DeepSleep":1795920000,"Wakeup":1795923600}}'


class Up:
    """The command on one port and database, which can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.page = Page(directory, "up", *(f"--profiles={name}" for name in USED))
        self.database = f"sqlite:///{directory}/mqtt-presence/presence.db"

    def client(self, device: Device) -> Client:
        will = (device.will_topic, device.gone, device.will_qos, device.births)
        return Client(self.page.mqtt_port, "devices", f"of-{device.profile}", will=will)

    def states(self) -> dict[str, str]:
        return {
            row["user_id"]: row["state"] for row in query(self.database, "SELECT user_id, state FROM users")
        }

    def wait(self, expected: dict[str, str]) -> None:
        until(
            lambda: expected.items() <= self.states().items(), lambda: f"{self.states()}\n{self.page.log()}"
        )


def test_wrong_profile_ends_the_command(tmp_path: Path) -> None:
    """Exit code 2 and one line, before anything is served."""
    page = Page(tmp_path, "up", "--profiles=tasmotta")
    with pytest.raises(AssertionError):  # it is no page
        page.__enter__()
    assert page.process is not None
    assert page.process.wait(20) == 2
    assert page.log() == (
        "mqtt-presence: profiles: there is no profile 'tasmotta' (mqtt-presence profiles lists them)\n"
    )


def test_fleets_on_the_embedded_broker(tmp_path: Path) -> None:
    """Birth, will by a cut, and the return, for each fleet; a long list of devices is no reason to hang up. After
    a kill -9 of everything who was there is lost, and a device that sleeps is still asleep.
    """
    up = Up(tmp_path)
    users = [device.user for device in PLAYED]
    with up.page:
        clients = [(device, up.client(device)) for device in PLAYED]
        for device, client in clients:
            client.publish(device.topic, device.there, retain=device.births, qos=1)
        up.wait(dict.fromkeys(users, "online"))
        for _, client in clients:
            client.close()
        up.wait(dict.fromkeys(users, "offline"))
        with Client(up.page.mqtt_port, "z2m", "zigbee2mqtt") as gateway:
            gateway.publish("zigbee2mqtt/bridge/state", b'{"state":"online"}', retain=True)
            gateway.publish("zigbee2mqtt/bridge/devices", b"[" + b" " * 700_000 + b"]", retain=True)
            gateway.publish("zigbee2mqtt/hall/motion/availability", b'{"state":"online"}', retain=True)
            gateway.publish("tele/kitchen-lamp/LWT", b"Online", retain=True)
            gateway.publish("tele/kitchen-lamp/DEEPSLEEP", DEEP_SLEEP)
            gateway.publish("tele/kitchen-lamp/LWT", b"Offline", retain=True)
            up.wait({"zigbee2mqtt:bridge": "online", "tasmota:kitchen-lamp": "idle"})
            assert up.page.process is not None
            up.page.process.send_signal(signal.SIGKILL)
            up.page.process.wait(20)
    with up.page:
        up.wait({"zigbee2mqtt:hall.motion": "offline", "tasmota:kitchen-lamp": "idle"})
        again = up.client(PLAYED[0])
        again.publish("tele/kitchen-lamp/LWT", b"Online", retain=True)
        up.wait({"tasmota:kitchen-lamp": "online"})
        assert up.page.stop() == 0
        again.close()
    assert up.states()["tasmota:kitchen-lamp"] == "offline"
