"""Messages of real fleets in recorded form, one row for each shipped profile, and lives that need more."""

from typing import Any, NamedTuple

from mqtt_presence.adapters.devices.device_adapter import DeviceAdapter
from mqtt_presence.adapters.devices.profile_files import load_profile
from mqtt_presence.errors import PayloadError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.events import CheckDeadlines, Event
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import Connection, RuleSettings, UserPresence


def _varint(number: int) -> bytes:
    low, rest = number % 128, number // 128
    return bytes([low + 128 * bool(rest)]) + (_varint(rest) if rest else b"")


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def sparkplug(bd_seq: int | None, timestamp: int = 1_795_944_000_000, *, metrics: int = 0) -> bytes:
    """Return the payload of a birth or death: bdSeq, other metrics, and fields that presence ignores."""
    text = _field(1, timestamp)
    for number in range(metrics):
        metric = _field(1, b"Properties/Temperature %d" % number) + _field(4, 10) + _field(15, b"some text")
        text += _field(2, metric)
    if bd_seq is not None:
        text += _field(2, _field(1, b"bdSeq") + _field(3, timestamp) + _field(4, 4) + _field(11, bd_seq))
    return text + _field(3, 0)


class Device(NamedTuple):
    """One device of a fleet: its user, its availability, and a sign of life if the fleet has one."""

    profile: str
    user: str
    topic: str
    there: bytes
    gone: bytes
    left: bytes | None = None
    beat: tuple[str, bytes] | None = None
    births: bool = True
    """Whether the availability can be retained, and a birth is a login."""
    birth_qos: int = 0
    will_qos: int = 0

    @property
    def will_topic(self) -> str:
        return self.topic.replace("NBIRTH", "NDEATH")

    def sibling(self, digit: str) -> "Device":
        """Another device of this fleet, whose name ends with a digit."""
        old = self.user.partition(":")[2].rpartition(".")[2]
        new = old[:-1] + digit
        beat = None if self.beat is None else (self.beat[0].replace(old, new), self.beat[1])
        return self._replace(user=self.user.replace(old, new), topic=self.topic.replace(old, new), beat=beat)


STATE = (
    b'{"Time":"2026-11-29T10:00:05","Uptime":"0T01:00:12","UptimeSec":3612,"POWER":"ON","Wifi":{"RSSI":86}}'
)
LOCATION = (
    b'{"_type":"location","acc":12,"batt":80,"lat":52.5,"lon":13.4,"tid":"al","tst":1795944000,"SSID":"home"}'
)
STATUS_UPDATE = b'{"node":"plate","idle":"off","version":"0.7.0-rc13","uptime":300,"ip":"192.0.2.40"}'

DEVICES = [
    Device("tasmota", "tasmota:kitchen-lamp", "tele/kitchen-lamp/LWT", b"Online", b"Offline",
           beat=("tele/kitchen-lamp/STATE", STATE), will_qos=1),
    Device("esphome", "esphome:porch", "porch/status", b"online", b"offline",
           beat=("porch/sensor/temperature/state", b"21.4")),
    Device("zigbee2mqtt", "zigbee2mqtt:hall.motion", "zigbee2mqtt/hall/motion/availability",
           b'{"state":"online"}', b'{"state":"offline"}', birth_qos=1, will_qos=1),
    Device("shelly", "shelly:shelly1-AABB03", "shellies/shelly1-AABB03/online", b"true", b"false",
           beat=("shellies/shelly1-AABB03/relay/0", b"on")),
    Device("shelly2", "shelly2:shellyplus1-a8032ab636ec", "shellyplus1-a8032ab636ec/online", b"true", b"false",
           beat=("shellyplus1-a8032ab636ec/events/rpc", b'{"src":"shellyplus1-a8032ab636ec","method":"NotifyStatus"}'), birth_qos=1, will_qos=1),
    Device("homie", "homie:boiler", "homie/boiler/$state", b"ready", b"lost", b"disconnected",
           ("homie/boiler/$stats/uptime", b"120"), birth_qos=1, will_qos=1),
    Device("homie5", "homie5:boiler", "homie/5/boiler/$state", b"ready", b"lost", b"disconnected",
           ("homie/5/boiler/heater/temperature", b"61.0"), birth_qos=1, will_qos=1),
    Device("sparkplug", "sparkplug:plant.press", "spBv1.0/plant/NBIRTH/press", sparkplug(3), sparkplug(3),
           beat=("spBv1.0/plant/NDATA/press", sparkplug(None)), births=False, will_qos=1),
    Device("owntracks", "owntracks:alice", "owntracks/alice/phone", LOCATION, b'{"_type":"lwt","tst":1795945200}',
           beat=("owntracks/alice/phone/event", b'{"_type":"transition","event":"enter"}'), births=False),
    Device("zwavejs", "zwavejs:hall.sensor", "zwave/hall/sensor/status",
           b'{"time":1795945200000,"value":true,"status":"Asleep","nodeId":7}',
           b'{"time":1795945300000,"value":false,"status":"Dead","nodeId":7}',
           beat=("zwave/hall/sensor/lastActive", b'{"time":1795945200000,"value":1795945200000}'), birth_qos=1, will_qos=1),
    Device("openmqttgateway", "openmqttgateway:OMG_1", "home/OMG_1/LWT", b"online", b"offline",
           beat=("home/OMG_1/SYStoMQTT", b'{"uptime":120,"version":"1.8.1","ip":"192.0.2.30","mac":"02:00:5E:AA:BB:05","SSID":"x"}')),
    Device("theengs", "theengs:gateway", "home/TheengsGateway/LWT", b"online", b"offline"),
    Device("wled", "wled:aabb06", "wled/aabb06/status", b"online", b"offline"),
    Device("valetudo", "valetudo:robot", "valetudo/robot/$state", b"ready", b"lost", b"disconnected", will_qos=1),
    Device("frigate", "frigate:frigate", "frigate/available", b"online", b"offline", b"stopped", will_qos=1),
    Device("espresense", "espresense:kitchen", "espresense/rooms/kitchen/status", b"online", b"offline",
           beat=("espresense/rooms/kitchen/telemetry", b'{"ip":"192.0.2.31","uptime":60,"ver":"4.1b","rssi":-50}')),
    Device("openhasp", "openhasp:plate", "hasp/plate/LWT", b"online", b"offline",
           beat=("hasp/plate/state/statusupdate", STATUS_UPDATE), will_qos=1),
    Device("espurna", "espurna:plug", "plug/status", b"1", b"0", beat=("plug/uptime", b"300")),
    Device("rtl433", "rtl433:attic", "rtl_433/attic/availability", b"online", b"offline",
           beat=("rtl_433/attic/events", b'{"model":"Acurite-Tower","id":1}')),
    Device("mosquitto_bridge", "mosquitto_bridge:cabin.house", "$SYS/broker/connection/cabin.house/state", b"1", b"0", birth_qos=1, will_qos=1),
    Device("generic", "generic:plant.pump", "plant/pump/availability", b"online", b"offline", birth_qos=1, will_qos=1),
]  # fmt: skip


class Presence:
    """Folds the events of profiles by the rules, without a bridge: the presence that results."""

    def __init__(self, *names: str, tables: dict[str, dict[str, Any]] | None = None) -> None:
        self.names, self.tables = names, tables or {}
        self.now = 1_795_944_000_000
        self.epoch = 1
        self.users: dict[str, UserPresence] = {}
        self.refused: list[str] = []
        self.events: list[str] = []
        self.adapter = self._adapter()

    def _adapter(self) -> DeviceAdapter:
        names = dict.fromkeys((*self.names, *self.tables))
        return DeviceAdapter([load_profile(name, self.tables, Topics()) for name in names])

    def restart(self) -> None:
        """Begin anew with the records alone, as a bridge that was restarted does."""
        self.adapter = self._adapter()
        latest: dict[tuple[str, str], Connection] = {}
        for user in self.users.values():
            for record in user.connections.values():
                latest[record.user_id, record.client_id] = record
        self.adapter.restore(latest.values())
        self.epoch += 1

    def hear(self, topic: str, payload: bytes, *, retain: bool = False, oversize: int = 0) -> list[Event]:
        """Have the profiles read a message, and the rules decide."""
        message = Incoming(topic, payload, 1, retain, False, 1, self.epoch, oversize)
        try:
            events = list(self.adapter.read(message, self.now))
        except PayloadError as error:
            self.refused.append(error.reason)
            return []
        for event in events:
            self._apply(event)
        return events

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and check the deadlines."""
        self.now += round(seconds * 1000)
        for user_id in list(self.users):
            self._apply(CheckDeadlines(user_id=user_id, now=self.now))

    def _apply(self, event: Event) -> None:
        user = self.users.get(event.user_id) or UserPresence(user_id=event.user_id)
        outcome = fold(user, [event], RuleSettings())
        self.users[event.user_id] = outcome.user
        self.events += [one.name for one in outcome.events]

    def state(self, user_id: str) -> str:
        """Return the state of a user; with reason and cause of the last end if offline; ``none``: unknown."""
        user = self.users.get(user_id)
        if user is None or user.status is None:
            return "none"
        if user.status.state != "offline":
            return str(user.status.state)
        last = self.record(user_id)
        return " ".join(str(part) for part in ("offline", last.reason, last.cause) if part is not None)

    def record(self, user_id: str) -> Connection:
        """Return the latest record of a user."""
        return list(self.users[user_id].connections.values())[-1]
