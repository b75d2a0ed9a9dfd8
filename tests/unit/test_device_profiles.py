"""The shipped device profiles: the life of a device of each fleet, from its first message to its removal."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_presence.adapters.devices.fleet import MAX_DEVICES
from mqtt_presence.adapters.devices.profile_files import load_profiles, shipped_names
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.events import Login, Sighting
from tests.support.fleets import DEVICES, LOCATION, STATE, Device, Presence, sparkplug

BEATING = [device for device in DEVICES if device.beat is not None]
RETAINED = [device for device in DEVICES if device.births]
NOW = 1_795_944_000_000
PARENT = b'{"state":"offline"}'


def of(devices: list[Device]) -> Any:
    return pytest.mark.parametrize("device", devices, ids=lambda device: device.profile)


def gone_topic(device: Device) -> str:
    return device.topic.replace("NBIRTH", "NDEATH")


def there(device: Device, now: int) -> bytes:
    """The birth of a device; that of a Sparkplug node has a time."""
    return sparkplug(3, now) if device.profile == "sparkplug" else device.there


def test_each_shipped_profile_has_a_device_here() -> None:
    """The table covers all profiles that are shipped, and those are the ones that are promised."""
    assert sorted(device.profile for device in DEVICES) == list(shipped_names())
    assert len(shipped_names()) == 21


# The life that is the same in each fleet.


@of(RETAINED)
def test_first_sight_of_a_retained_message(device: Device) -> None:
    """At the first start, a retained `there` opens a record without a login; a retained `gone` opens none."""
    world = Presence(device.profile)
    world.hear(device.topic, device.gone, retain=True)
    assert world.state(device.user) == "none"
    world.hear(device.topic, device.there, retain=True)
    assert world.state(device.user) == "online"
    status = world.users[device.user].status
    assert status is not None
    assert status.last_login is None
    assert world.record(device.user).origin == f"profile:{device.profile}"
    before = len(world.events)
    world.pass_time(30)
    world.hear(device.topic, device.there, retain=True)
    assert len(world.events) == before
    assert world.record(device.user).last_seen == world.now - 30_000


@of(DEVICES)
def test_birth_and_will(device: Device) -> None:
    """A live birth is a login, a repeated one changes nobody's state, and the will ends it as lost."""
    world = Presence(device.profile)
    world.hear(device.topic, device.there)
    assert world.state(device.user) == "online"
    status = world.users[device.user].status
    assert status is not None
    assert (status.last_login is not None) == (device.births or device.profile == "sparkplug")
    world.pass_time(5)
    world.hear(device.topic, device.there)
    status = world.users[device.user].status
    assert status is not None
    assert (status.connections, status.state) == (1, "online")
    assert world.events.count("userOnline") == 1
    world.hear(gone_topic(device), device.gone)
    assert world.state(device.user) == "offline lost"
    world.hear(gone_topic(device), device.gone)
    assert world.events.count("userOffline") == 1


@of([device for device in DEVICES if device.left is not None])
def test_clean_stop(device: Device) -> None:
    """A fleet that tells a clean stop from a loss: the stop is a logout."""
    assert device.left is not None
    world = Presence(device.profile)
    world.hear(device.topic, device.there)
    world.hear(device.topic, device.left)
    assert world.state(device.user) == "offline logout"


@of(BEATING)
def test_heartbeat(device: Device) -> None:
    """A sign of life opens a record, counts at most once a minute, and means nothing when it is retained."""
    assert device.beat is not None
    world = Presence(device.profile)
    world.hear(*device.beat, retain=True)
    assert world.state(device.user) == "none"
    assert world.hear(*device.beat)
    assert world.state(device.user) == "online"
    world.pass_time(5)
    assert world.hear(*device.beat) == []
    world.pass_time(65)
    (event,) = world.hear(*device.beat)
    assert isinstance(event, Sighting)
    assert world.record(device.user).last_seen == world.now
    assert world.events.count("connectionLogin") == 1
    world.pass_time(1)
    world.epoch += 1  # a new connection to the broker: the first sign of life counts at once
    assert len(world.hear(*device.beat)) == 1


@of([d for d in BEATING if d.profile not in {"sparkplug", "homie", "homie5", "zwavejs"}])
def test_late_will(device: Device) -> None:
    """A will that comes after the birth: the next sign of life takes it back, in the same record; and after
    `late_will` it opens a new one. A retained will of that time means nothing any more.
    """
    assert device.beat is not None
    world = Presence(device.profile)
    world.hear(device.topic, device.there)
    world.hear(device.topic, device.gone)
    first = world.record(device.user).connection_id
    world.pass_time(10)
    world.hear(*device.beat)
    assert (world.state(device.user), world.record(device.user).connection_id) == ("online", first)
    world.epoch += 1
    world.hear(device.topic, device.gone, retain=True)
    assert world.state(device.user) == "online"
    world.hear(device.topic, device.gone)
    assert world.state(device.user) == "offline lost"
    world.pass_time(3600)
    world.hear(*device.beat)
    assert world.state(device.user) == "online"
    assert world.record(device.user).connection_id != first


@of([device for device in DEVICES if device.profile != "sparkplug"])
def test_removal(device: Device) -> None:
    """An empty payload says that the device is no more: removed, or renamed."""
    world = Presence(device.profile)
    world.hear(device.topic, b"")
    assert world.state(device.user) == "none"
    world.hear(device.topic, device.there)
    world.hear(device.topic, b"")
    assert world.state(device.user) == "offline logout"
    assert world.refused == []


@of(RETAINED)
def test_bridge_away(device: Device) -> None:
    """After a restart of the bridge: what is retained ends and opens records, and repeats nothing."""
    world = Presence(device.profile)
    world.hear(device.topic, device.there)
    before = len(world.events)
    world.restart()
    world.hear(device.topic, device.there, retain=True)
    assert len(world.events) == before
    world.restart()
    world.hear(device.topic, device.gone, retain=True)
    assert world.state(device.user) == "offline lost"
    world.restart()
    world.hear(device.topic, device.there, retain=True)
    assert world.state(device.user) == "online"


@of(DEVICES)
def test_nonsense_has_no_effect(device: Device) -> None:
    """Other values are counted and ignored; so are payloads beyond all sizes."""
    world = Presence(device.profile)
    world.hear(device.topic, device.there)
    for payload in (b"\xff\xfe", b"ONLINE?", b'{"state":', b"[" * 10_000, b"\x0a\xff"):
        world.hear(device.topic, payload)
    world.hear(device.topic, b"", oversize=5_000_000)
    assert world.state(device.user) == "online"
    assert set(world.refused) <= {"no_match", "too_large"}
    assert world.refused


@of([device for device in BEATING if device.profile in {"tasmota", "owntracks", "espurna", "espresense"}])
def test_silence(device: Device) -> None:
    """Where a fleet has a heartbeat, silence ends the record; a retained `there` does not take that back, and
    the next sign of life does.
    """
    assert device.beat is not None
    world = Presence(device.profile)
    world.hear(*device.beat)
    first = world.record(device.user).connection_id
    world.pass_time(13 * 3600)
    assert world.state(device.user) == "offline timeout"
    world.restart()
    world.hear(device.topic, device.there, retain=True)
    assert world.state(device.user) == "offline timeout"
    world.hear(*device.beat)
    assert (world.state(device.user), world.record(device.user).connection_id) == ("online", first)


def test_will_after_silence() -> None:
    """A will that comes after the guessed end, at a bridge that was restarted: the next sign of life opens a new
    record, because the old one is no guess any more.
    """
    world = Presence("espurna")
    world.hear("plug/status", b"1")
    world.pass_time(3600)
    world.restart()
    assert world.state("espurna:plug") == "offline timeout"
    world.hear("plug/status", b"0")
    assert world.state("espurna:plug") == "offline lost"
    world.pass_time(3600)
    world.hear("plug/uptime", b"300")
    assert world.state("espurna:plug") == "online"


KEYS = ["state", "value", "_type", "DeepSleep", "Wakeup", "Info1", "Version", "ip", "name", "root", "online"]
ACTIONS = [
    "there",
    "gone",
    "left",
    "removed",
    "beat",
    "old there",
    "old gone",
    "restart",
    "reconnect",
    "hour",
    "junk",
]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@of(DEVICES)
def test_any_order(device: Device, data: st.DataObject) -> None:
    """Whatever came before, in whatever order: a live birth shows the device, by one open record, and a live
    will ends it; and nothing raises an error.
    """
    world = Presence(device.profile)
    for action in data.draw(st.lists(st.sampled_from(ACTIONS), max_size=12)):
        match action:
            case "there" | "old there":
                world.hear(device.topic, there(device, world.now), retain=action == "old there")
            case "gone" | "old gone":
                world.hear(gone_topic(device), device.gone, retain=action == "old gone")
            case "left" if device.left is not None:
                world.hear(device.topic, device.left)
            case "removed":
                world.hear(device.topic, b"")
            case "beat" if device.beat is not None:
                world.hear(*device.beat)
            case "restart":
                world.restart()
            case "reconnect":
                world.epoch += 1
            case "hour":
                world.pass_time(3600)
            case "junk":
                world.hear(device.topic, b"\xff")
    world.pass_time(61)  # a heartbeat may stand for those of the last minute
    world.hear(device.topic, there(device, world.now))
    assert world.state(device.user) == "online"
    assert sum(record.is_open for record in world.users[device.user].connections.values()) == 1
    world.hear(gone_topic(device), device.gone)
    assert world.state(device.user).startswith("offline")


def test_repeated_sparkplug_birth_opens_nothing() -> None:
    """A birth that comes again after its death leaves the node offline; the next birth shows it."""
    [device] = [device for device in DEVICES if device.profile == "sparkplug"]
    world = Presence("sparkplug")
    born = there(device, world.now)
    for payload, topic in ((born, device.topic), (device.gone, gone_topic(device)), (born, device.topic)):
        world.hear(topic, payload)
    assert world.state(device.user) == "offline lost"
    world.pass_time(61)
    world.hear(device.topic, there(device, world.now))
    assert world.state(device.user) == "online"


RULES = [(name, rule) for name in shipped_names() for rule in Presence(name).adapter.fleets[0].rules]
NAMES = st.sampled_from(["lamp", "shellyplus1-a8032ab636ec", "a.b", "", "\u202e", "x" * 200, "lamp+", "5"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
PAYLOADS = st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())


@settings(max_examples=800, deadline=None)
@given(data=st.data())
def test_junk_raises_nothing(data: st.DataObject) -> None:
    """Any payload on any topic that a profile reads: refused by a reason, or decided on; never an error."""
    name, rule = data.draw(st.sampled_from(RULES))
    world = Presence(name)
    for _ in range(data.draw(st.integers(1, 3))):
        levels = [data.draw(NAMES) if level == "+" else level for level in rule.pattern.levels]
        world.hear("/".join(levels), data.draw(PAYLOADS), retain=data.draw(st.booleans()))
    assert set(world.refused) <= {"no_match", "bad_name", "name_taken", "too_large", "late_will"}
    for user in world.users.values():
        for record in user.connections.values():
            assert len(record.meta or "") <= 2048


def test_names_that_fall_together_are_refused() -> None:
    """`a/b` and `a.b` would be one user: the second one is refused, and counted."""
    world = Presence("tasmota")
    world.hear("tele/hall/lamp/LWT", b"Online")
    world.hear("tele/hall.lamp/LWT", b"Offline")
    assert world.state("tasmota:hall.lamp") == "online"
    assert world.refused == ["name_taken"]
    world.hear("tele/hall/lamp/LWT", b"")
    world.hear("tele/hall.lamp/LWT", b"Online")
    assert world.state("tasmota:hall.lamp") == "online"


def test_a_device_is_no_person() -> None:
    """A lamp called `alice` is not alice: only the settings file gives a device a name without a prefix."""
    world = Presence("tasmota")
    world.hear("tele/alice/LWT", b"Online")
    assert list(world.users) == ["tasmota:alice"]
    world.hear("tele/al+ice/LWT", b"Online")
    world.hear("tele/" + "a" * 200 + "/LWT", b"Online")
    assert (list(world.users), world.refused) == (["tasmota:alice"], ["bad_name", "bad_name"])


def test_devices_are_bounded() -> None:
    """Beyond 100,000 devices of a fleet, another one is refused; those that are known go on."""
    world = Presence("wled")
    for number in range(MAX_DEVICES):
        world.adapter.read(Incoming(f"wled/{number}/status", b"offline", 1, False, False, 1, 1), world.now)
    world.hear("wled/new/status", b"online")
    assert (world.state("wled:new"), world.refused) == ("none", ["too_many_devices"])
    world.hear("wled/7/status", b"online")
    assert world.state("wled:7") == "online"


def test_long_topics_are_not_remembered() -> None:
    """A stranger's topics of 60 kB each are read every time, and fill no memory."""
    adapter = Presence("esphome", "generic").adapter
    for number in range(10):
        assert adapter.reads("x" * 60_000 + f"{number}/availability")
        assert adapter.reads(f"porch{number}/status")
    assert sorted(adapter._found) == [f"porch{number}/status" for number in range(10)]


# What single fleets have.


def test_tasmota_deep_sleep() -> None:
    """Asleep is idle until the deadline, and the will that follows at once means nothing."""
    world = Presence("tasmota")
    world.hear("tele/pump/LWT", b"Online")
    world.hear("tele/pump/DEEPSLEEP", b'{"DeepSleep":{"DeepSleep":1795920000,"Wakeup":1795923600}}')
    world.hear("tele/pump/LWT", b"Offline")
    assert world.state("tasmota:pump") == "idle"
    world.restart()
    world.hear("tele/pump/LWT", b"Offline", retain=True)
    world.hear(
        "tele/pump/DEEPSLEEP", b'{"DeepSleep":{"DeepSleep":1795920000,"Wakeup":1795923600}}', retain=True
    )
    world.pass_time(3600)
    assert world.state("tasmota:pump") == "idle"
    world.hear("tele/pump/LWT", b"Online")
    assert world.state("tasmota:pump") == "online"
    world.hear("tele/pump/DEEPSLEEP", b'{"DeepSleep":{"DeepSleep":1795920000,"Wakeup":1795923600}}')
    world.hear("tele/pump/LWT", b"Offline")
    world.pass_time(3600 + 121)
    assert world.state("tasmota:pump") == "offline timeout"


def test_tasmota_describes_itself() -> None:
    """Version and address go into `meta`; never a network name."""
    world = Presence("tasmota")
    world.hear(
        "tele/pump/INFO2", b'{"Info2":{"Hostname":"pump-2817","IPAddress":"192.0.2.17","SSID":"home"}}'
    )
    world.hear("tele/pump/LWT", b"Online")
    world.hear("tele/pump/INFO1", b'{"Info1":{"Module":"Generic","Version":"15.0.1(release-tasmota)"}}')
    meta = world.record("tasmota:pump").meta
    assert meta == (
        '{"host":"pump-2817","ip":"192.0.2.17","version":"15.0.1(release-tasmota)","module":"Generic"}'
    )


def test_tasmota_birth_is_a_connection_each_time() -> None:
    """Each birth is a new connection: it ends the one before."""
    world = Presence("tasmota")
    world.hear("tele/pump/LWT", b"Online")
    world.hear("tele/pump/LWT", b"Online")
    reasons = [record.reason for record in world.users["tasmota:pump"].connections.values()]
    assert reasons == ["superseded", None]


def test_zigbee2mqtt_devices_go_and_return_with_their_gateway() -> None:
    """While the gateway is gone its devices are lost; when it is back they are as they were."""
    world = Presence("zigbee2mqtt")
    world.hear("zigbee2mqtt/bridge/state", b'{"state":"online"}', retain=True)
    world.hear("zigbee2mqtt/hall/motion/availability", b'{"state":"online"}', retain=True)
    world.hear("zigbee2mqtt/lamp/availability", b"online", retain=True)
    world.hear("zigbee2mqtt/plug/availability", b'{"state":"offline"}', retain=True)
    first = world.record("zigbee2mqtt:lamp").connection_id
    world.hear("zigbee2mqtt/bridge/state", PARENT)
    assert world.state("zigbee2mqtt:bridge") == "offline lost"
    assert world.state("zigbee2mqtt:lamp") == world.state("zigbee2mqtt:hall.motion") == "offline lost parent"
    world.hear("zigbee2mqtt/hall/motion/availability", b'{"state":"offline"}')
    world.hear("zigbee2mqtt/new/availability", b'{"state":"online"}', retain=True)
    assert world.state("zigbee2mqtt:new") == "none"
    world.hear("zigbee2mqtt/bridge/state", b'{"state":"online"}')
    assert [world.state(f"zigbee2mqtt:{name}") for name in ("bridge", "lamp", "plug")] == [
        "online", "online", "none",
    ]  # fmt: skip
    assert world.state("zigbee2mqtt:hall.motion").startswith("offline lost")
    assert world.record("zigbee2mqtt:lamp").connection_id == first


def test_zigbee2mqtt_gateway_that_went_while_the_bridge_was_away() -> None:
    """The retained state of the gateway ends its devices, whatever comes first."""
    for gateway_first in (True, False):
        world = Presence("zigbee2mqtt")
        world.hear("zigbee2mqtt/lamp/availability", b"online")
        world.restart()
        messages = [("zigbee2mqtt/bridge/state", PARENT), ("zigbee2mqtt/lamp/availability", b"online")]
        for topic, payload in messages if gateway_first else reversed(messages):
            world.hear(topic, payload, retain=True)
        assert world.state("zigbee2mqtt:lamp") == "offline lost parent"
        world.restart()
        world.hear("zigbee2mqtt/bridge/state", b'{"state":"online"}', retain=True)
        world.hear("zigbee2mqtt/lamp/availability", b"online", retain=True)
        assert world.state("zigbee2mqtt:lamp") == "online"


def test_zigbee2mqtt_list_describes_devices_and_makes_none() -> None:
    """`bridge/devices` is large, describes known devices, and opens no record."""
    world = Presence("zigbee2mqtt")
    devices = (
        b'[{"friendly_name":"lamp","ieee_address":"0x01","definition":{"vendor":"IKEA","model":"LED1"}},'
        b'{"friendly_name":"ghost","ieee_address":"0x02"},"junk",{"friendly_name":7}]'
    )
    world.hear("zigbee2mqtt/bridge/devices", devices, retain=True)
    world.hear("zigbee2mqtt/lamp/availability", b"online")
    assert world.record("zigbee2mqtt:lamp").meta == '{"vendor":"IKEA","model":"LED1","ieee":"0x01"}'
    assert world.state("zigbee2mqtt:ghost") == "none"
    world.hear("zigbee2mqtt/bridge/devices", b" " * 900_000 + devices.replace(b"LED1", b"LED2"))
    assert '"model":"LED2"' in (world.record("zigbee2mqtt:lamp").meta or "")


def test_homie_sleeps_with_a_deadline() -> None:
    """`sleeping` is idle; the deadline counts from it; `ready` ends it."""
    world = Presence("homie")
    world.hear("homie/boiler/$state", b"ready")
    world.hear("homie/boiler/$state", b"sleeping")
    assert world.state("homie:boiler") == "idle"
    world.pass_time(24 * 3600)
    world.hear("homie/boiler/$state", b"ready")
    assert world.state("homie:boiler") == "online"
    world.pass_time(26 * 3600)
    assert world.state("homie:boiler") == "online"
    world.hear("homie/boiler/$state", b"sleeping")
    world.pass_time(25 * 3600 + 1)
    assert world.state("homie:boiler") == "offline timeout"
    world.restart()
    world.hear("homie/boiler/$state", b"sleeping", retain=True)
    assert world.state("homie:boiler") == "offline timeout"
    world.hear("homie/boiler/$state", b"sleeping")
    assert world.state("homie:boiler") == "idle"


def test_homie5_children_are_lost_with_their_root() -> None:
    """Only the root has a will; a child whose topic says `ready` is lost with it, and is back with it."""
    world = Presence("homie5")
    world.hear("homie/5/hub/$state", b"ready", retain=True)
    world.hear("homie/5/valve/$description", b'{"name":"Valve","root":"hub","parent":"hub"}', retain=True)
    world.hear("homie/5/valve/$state", b"ready", retain=True)
    assert world.record("homie5:valve").meta == '{"name":"Valve"}'
    world.hear("homie/5/hub/$state", b"lost")
    assert world.state("homie5:hub") == "offline lost"
    assert world.state("homie5:valve") == "offline lost parent"
    world.hear("homie/5/hub/$state", b"ready")
    assert (world.state("homie5:hub"), world.state("homie5:valve")) == ("online", "online")
    world.restart()
    world.hear("homie/5/valve/$state", b"ready", retain=True)
    world.hear("homie/5/hub/$state", b"lost", retain=True)
    world.hear("homie/5/valve/$description", b'{"name":"Valve","root":"hub"}', retain=True)
    assert world.state("homie5:valve") == "offline lost parent"


def test_sparkplug_death_of_another_birth_is_ignored() -> None:
    """Only the death with the bdSeq of the current birth counts, also after a restart of the bridge."""
    world = Presence("sparkplug")
    world.hear("spBv1.0/plant/NBIRTH/press", sparkplug(7, NOW + 1000))
    world.hear("spBv1.0/plant/NBIRTH/press", sparkplug(8, NOW + 2000))
    world.restart()
    world.hear("spBv1.0/plant/NDEATH/press", sparkplug(7, NOW + 1000))
    assert (world.state("sparkplug:plant.press"), world.refused) == ("online", ["late_will"])
    world.hear("spBv1.0/plant/NDEATH/press", sparkplug(8, NOW + 2000))
    world.hear("spBv1.0/plant/NDEATH/press", sparkplug(8, NOW + 2000))
    assert world.state("sparkplug:plant.press") == "offline lost"
    assert world.record("sparkplug:plant.press").connection_id == f"8-{NOW + 2000}"


def test_sparkplug_rebirth_is_the_same_connection() -> None:
    """A host asked for a birth: the same bdSeq again. A node without storage begins at 0 at each boot."""
    world = Presence("sparkplug")
    world.hear("spBv1.0/plant/NBIRTH/press", sparkplug(0, NOW + 1000, metrics=500))
    assert not any(
        isinstance(event, Login)
        for event in world.hear("spBv1.0/plant/NBIRTH/press", sparkplug(0, NOW + 1500))
    )
    world.hear("spBv1.0/plant/NDEATH/press", sparkplug(0, NOW + 1000))
    world.hear("spBv1.0/plant/NBIRTH/press", sparkplug(0, NOW + 3000))
    assert world.state("sparkplug:plant.press") == "online"
    assert len(world.users["sparkplug:plant.press"].connections) == 2


def test_sparkplug_node_without_a_clock() -> None:
    """The same bdSeq and time at each start: still a connection of its own each time."""
    world = Presence("sparkplug")
    for _ in range(3):
        world.hear("spBv1.0/plant/NBIRTH/press", sparkplug(0, 1000))
        assert world.state("sparkplug:plant.press") == "online"
        world.hear("spBv1.0/plant/NDEATH/press", sparkplug(0, 1000))
        assert world.state("sparkplug:plant.press") == "offline lost"


def test_sparkplug_devices_end_with_their_node() -> None:
    """A death of the node ends its devices; each returns by its own birth. A node that was away shows by data."""
    world = Presence("sparkplug")
    world.hear("spBv1.0/plant/NBIRTH/press", sparkplug(1))
    world.hear("spBv1.0/plant/DBIRTH/press/arm", sparkplug(None))
    world.hear("spBv1.0/plant/DBIRTH/press/eye", sparkplug(None))
    world.hear("spBv1.0/plant/DDEATH/press/eye", sparkplug(None))
    assert world.state("sparkplug:plant.press.eye") == "offline lost"
    world.hear("spBv1.0/plant/NDEATH/press", sparkplug(1))
    assert world.state("sparkplug:plant.press.arm") == "offline lost parent"
    world.hear("spBv1.0/plant/NBIRTH/press", sparkplug(2))
    assert world.state("sparkplug:plant.press.arm") == "offline lost parent"
    world.hear("spBv1.0/plant/DDATA/press/arm", sparkplug(None))
    assert world.state("sparkplug:plant.press.arm") == "online"
    world.hear("spBv1.0/STATE/scada1", b'{"online":true,"timestamp":1795945200000}', retain=True)
    world.hear("spBv1.0/STATE/scada1", b'{"online":false,"timestamp":1795945200000}')
    assert world.state("sparkplug:scada1") == "offline lost"


def test_owntracks_user_has_a_client_for_each_device() -> None:
    """Two phones of one user; nothing of where they are is kept."""
    world = Presence("owntracks")
    world.hear("owntracks/alice/phone", LOCATION)
    world.hear("owntracks/alice/tablet", LOCATION)
    status = world.users["owntracks:alice"].status
    assert status is not None
    assert status.connections == 2
    world.hear("owntracks/alice/phone", b'{"_type":"lwt"}')
    assert world.state("owntracks:alice") == "online"
    assert all(record.meta is None for record in world.users["owntracks:alice"].connections.values())


def test_zwavejs_nodes_are_lost_with_the_driver_or_the_gateway() -> None:
    """Both the driver and the will of the gateway speak for all nodes."""
    world = Presence("zwavejs")
    gateway = "zwave/_CLIENTS/ZWAVE_GATEWAY-home/status"
    world.hear(gateway, b'{"value":true,"time":1795945200000}', retain=True)
    world.hear("zwave/driver/status", b"true", retain=True)
    world.hear("zwave/hall/sensor/status", b"true", retain=True)
    world.hear("zwave/driver/status", b"false")
    assert world.state("zwavejs:hall.sensor") == "offline lost parent"
    world.hear("zwave/driver/status", b"true")
    assert world.state("zwavejs:hall.sensor") == "online"
    world.hear(gateway, b'{"value":false}')
    assert world.state("zwavejs:hall.sensor") == "offline lost parent"
    assert world.state("zwavejs:_CLIENTS.ZWAVE_GATEWAY-home") == "offline lost"


def test_openhasp_reports_idle_itself() -> None:
    """A panel that nobody touches is idle, and active at a touch."""
    world = Presence("openhasp")
    world.hear("hasp/plate/LWT", b"online")
    world.hear("hasp/plate/state/idle", b"short")
    world.hear("hasp/plate/state/idle", b"long")
    assert world.state("openhasp:plate") == "idle"
    world.hear("hasp/plate/LWT", b"online")
    assert world.state("openhasp:plate") == "idle"
    world.hear("hasp/plate/state/idle", b"off")
    assert world.state("openhasp:plate") == "online"


def test_foreign_topics_mean_nothing_to_wide_filters() -> None:
    """`+/status` and `+/online` are wide: other programs' messages there make no device."""
    world = Presence("esphome", "shelly2")
    for topic in (
        "homeassistant/status",
        "wled/status",
        "zigbee2mqtt/status",
        "shellies/online",
        "car/online",
    ):
        assert world.hear(topic, b"online") == []
        assert world.hear(topic, b"true") == []
    assert (world.users, world.refused) == ({}, [])


def test_generic_yields() -> None:
    """`generic` reads only what no other profile reads."""
    world = Presence("generic", "zigbee2mqtt")
    world.hear("zigbee2mqtt/lamp/availability", b"online")
    world.hear("plant/pump/availability", b"online")
    assert sorted(world.users) == ["generic:plant.pump", "zigbee2mqtt:lamp"]


def test_profile_of_the_settings() -> None:
    """A profile of one's own, whole; and one that changes a shipped one, whose other keys stay."""
    world = Presence(
        tables={
            "pumps": {
                "user": "{site}-{device}",
                "availability": [
                    {"topic": "plant/{site}/{device}/alive", "path": "ok", "there": [True], "gone": [False]}
                ],
            },
            "tasmota": {"user": "{device}", "timeout": 60},
        }
    )
    world.hear("plant/north/7/alive", b'{"ok":true}')
    assert world.state("north-7") == "online"
    world.hear("plant/north/7/alive", b'{"ok":1}')
    assert world.refused == ["no_match"]
    world.hear("tele/lamp/STATE", STATE)
    world.pass_time(30)
    world.hear("tele/lamp/STATE", STATE)  # heartbeats count three times in `timeout`
    world.pass_time(50)
    assert world.state("lamp") == "online"
    world.pass_time(11)
    assert world.state("lamp") == "offline timeout"


# What is wrong.

GOOD = {"topic": "a/{device}", "there": ["1"], "gone": ["0"]}
WRONG = [
    ({"availability": [{**GOOD, "topic": "#"}]}, "availability[0].topic: '#'"),
    ({"availability": [{**GOOD, "topic": "{device}/{x}"}]}, "availability[0].topic"),
    ({"availability": [{**GOOD, "topic": "a//{device}"}]}, "availability[0].topic"),
    ({"availability": [{**GOOD, "topic": "a/{device"}]}, "availability[0].topic"),
    ({"availability": [{**GOOD, "topic": "a/{device...}/{b...}"}]}, "availability[0].topic"),
    ({"availability": [{**GOOD, "topic": "$CONTROL/{device}"}]}, "$CONTROL"),
    ({"availability": [{**GOOD, "topic": "status/{device}"}]}, "the presence protocol itself"),
    ({"availability": [{**GOOD, "topic": "presence/{device...}/online"}]}, "the presence protocol itself"),
    ({"availability": [{**GOOD, "topic": "a/{name}"}]}, "lacks {device}"),
    ({"availability": [{**GOOD, "topik": "a"}]}, "availability[0]: object contains unknown field `topik`"),
    ({"availability": [{"topic": "a/{device}"}]}, "availability[0]: needs values"),
    ({"availability": [{**GOOD, "there": [True]}]}, "availability[0].there: without path"),
    ({"availability": [{**GOOD, "gone": ["1"]}]}, "availability[0].gone: '1' has two meanings"),
    ({"availability": [GOOD], "where": {"device": "("}}, "where.device: no regular expression"),
    ({"availability": [GOOD], "timeout": "soon"}, "timeout: must be a duration"),
    ({"availability": [GOOD], "depth": 99}, "depth: must be 1 to 8"),
    ({"availability": [GOOD], "birth": "never"}, "birth: invalid enum value"),
    ({"availability": [GOOD], "meta": [{"topic": "a/{device}", "fields": {"x": "wifi.SSID"}}]}, "never kept"),
    ({"availability": [GOOD], "meta": [{"topic": "a/{device}", "fields": {"lat": "y"}}]}, "never kept"),
    ({}, "availability: a profile needs at least one topic"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_profile(table: dict[str, Any], message: str) -> None:
    """The message names the key."""
    with pytest.raises(ConfigError) as caught:
        load_profiles([], {"mine": table}, Topics())
    assert str(caught.value).startswith("profile.mine")
    assert message in str(caught.value)


def test_wrong_names() -> None:
    """A profile that does not exist, and a name that is none."""
    with pytest.raises(ConfigError, match="there is no profile 'tasmotta'"):
        load_profiles(["tasmotta"], {}, Topics())
    with pytest.raises(ConfigError, match="lower-case"):
        load_profiles([], {"My Own": {"availability": [GOOD]}}, Topics())
    with pytest.raises(ConfigError, match="the presence protocol itself"):
        load_profiles(
            [], {"mine": {"availability": [{**GOOD, "topic": "acme/bridge/{device}"}]}}, Topics("acme")
        )


def test_profiles_that_overlap_are_refused() -> None:
    """One topic, two users: refused at the start; the shipped ones overlap in one known pair only."""
    overlapping = [
        {one, other}
        for one in shipped_names()
        for other in shipped_names()
        if one < other and _overlap(one, other)
    ]
    assert overlapping == [{"esphome", "espurna"}]
    esphome = {"esphome": {"where": {"device": "esp-.+", "component": "sensor"}}}
    espurna = {"espurna": {"where": {"device": "ESPURNA-.+"}}}
    assert len(load_profiles(["esphome", "espurna"], esphome | espurna, Topics())) == 2
    mine = {"availability": [{**GOOD, "topic": "tele/{device}/LWT"}]}
    with pytest.raises(ConfigError, match=r"tele/kitchen-lamp/LWT is also read by profile\.tasmota"):
        load_profiles(["tasmota"], {"mine": mine}, Topics())


def _overlap(one: str, other: str) -> bool:
    try:
        load_profiles([one, other], {}, Topics())
    except ConfigError as error:
        return "is also read by" in str(error)
    return False


def test_no_filter_covers_another_one() -> None:
    """The broker may send a message once for each subscription that it matches: a filter that another covers is
    left out, and the wide one has the higher QoS. A wildcard does not cover `$SYS`.
    """
    tables = {
        "wide": {"availability": [{"topic": "{device}/{part}/alive", "there": ["1"]}], "yields": True},
        "narrow": {"heartbeat": ["plant/{device}/alive"]},
        "system": {"availability": [{"topic": "$SYS/{device}/alive", "there": ["1"]}]},
    }
    adapter = Presence(tables=tables).adapter
    assert adapter.qos == {"+/+/alive": 1, "$SYS/+/alive": 1}
    world = Presence(tables=tables)
    world.hear("plant/pump/alive", b"1")
    world.hear("$SYS/cabin/alive", b"1")
    assert list(world.users) == ["narrow:pump", "system:cabin"]
    quiet = {
        "wide": {"heartbeat": ["{device}/{part}/alive"]},
        "narrow": {"availability": [{"topic": "plant/{device}/alive", "there": ["1"]}], "yields": True},
    }
    assert Presence(tables=quiet).adapter.qos == {"+/+/alive": 1}
