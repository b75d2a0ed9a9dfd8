"""Real programs of other projects, which `make test-fleets` installs under `.programs/`."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.support.waiting import free_port

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".programs"
NODE_MODULES = PROGRAMS / "fleets" / "node_modules"
NODE = NODE_MODULES / ".bin" / "node"


class Program:
    """A program in a directory of its own, which is its home too; its log is printed when a test fails."""

    def __init__(
        self, directory: Path, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._command = [str(part) for part in command]
        self._environment = os.environ | {"HOME": str(directory)} | (environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is not None:
            self.kill()
        if kind is not None:
            print(f"{self.directory}:\n{self.log()[-8000:]}")

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self.directory, env=self._environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End it as a power cut does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as a person does."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(60)
        self._process = None

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")


def node_red(directory: Path, broker_port: int) -> Program:
    """Node-RED with one flow, whose broker has birth, close and will messages, as an owner sets them."""
    message = {"Topic": "plant/nodered/availability", "Qos": "1", "Retain": "true"}
    payloads = {"birth": "online", "close": "offline", "will": "offline"}
    broker: dict[str, Any] = {
        "id": "broker", "type": "mqtt-broker", "broker": "127.0.0.1", "port": str(broker_port), "clientid": "nodered",
        "autoConnect": True, "protocolVersion": "4", "keepalive": "60", "cleansession": True,
    }  # fmt: skip
    for name, payload in payloads.items():
        broker |= {f"{name}{key}": value for key, value in message.items()} | {f"{name}Payload": payload}
    out = {
        "id": "out", "type": "mqtt out", "z": "tab", "topic": "plant/level", "qos": "1", "retain": "",
        "broker": "broker", "x": 300, "y": 80, "wires": [],
    }  # fmt: skip
    flows = [{"id": "tab", "type": "tab", "label": "plant"}, broker, out]
    directory.mkdir(parents=True)
    (directory / "flows.json").write_text(json.dumps(flows))
    settings = {
        "uiPort": free_port(), "uiHost": "127.0.0.1", "httpAdminRoot": False, "httpNodeRoot": False,
        "flowFile": "flows.json", "credentialSecret": "of the test",
    }  # fmt: skip
    (directory / "settings.js").write_text(f"module.exports = {json.dumps(settings)};\n")
    return Program(directory, [NODE, NODE_MODULES / "node-red" / "red.js", "-u", directory])


LAMP, PLUG = "0x00158d0000000007", "0x00158d0000000008"


def zigbee2mqtt(directory: Path, broker_port: int) -> Program:
    """Zigbee2MQTT with a lamp and a plug, whose radio is replaced; what a file names does not answer the radio."""
    names = {LAMP: "hall/lamp", PLUG: "plug"}
    often = {"timeout": 0.02, "max_jitter": 0, "backoff": False}
    config = {
        "version": 5,
        "mqtt": {"base_topic": "zigbee2mqtt", "server": f"mqtt://127.0.0.1:{broker_port}"},
        "serial": {"port": "/dev/null", "adapter": "ember"},
        "frontend": {"enabled": False},
        "availability": {"enabled": True},
        "advanced": {"log_output": ["console"]},
        "devices": {ieee: {"friendly_name": name, "availability": often} for ieee, name in names.items()},
    }
    directory.mkdir(parents=True)
    (directory / "configuration.yaml").write_text(json.dumps(config))
    models = {LAMP: "TRADFRI bulb E27 WS opal 980lm", PLUG: "TRADFRI control outlet"}
    rows = [_zigbee("Coordinator", "0x00124b0000000001", 0)]
    rows += [
        _zigbee("Router", ieee, 1000 + number, modelId=model, manufName="IKEA of Sweden", manufId=4476,
                powerSource="Mains (single phase)", zclVersion=3)
        for number, (ieee, model) in enumerate(models.items())
    ]  # fmt: skip
    lines = [json.dumps({"id": number} | row) for number, row in enumerate(rows, 1)]
    (directory / "database.db").write_text("\n".join(lines))
    (directory / "unreachable").write_text("")
    environment = {
        "ZIGBEE2MQTT_DATA": str(directory),
        "ZIGBEE_HERDSMAN": str(NODE_MODULES / "zigbee-herdsman"),
        "UNREACHABLE": str(directory / "unreachable"),
    }
    radio = Path(__file__).with_name("fake_zigbee_radio.cjs")
    command = [NODE, "--require", radio, NODE_MODULES / "zigbee2mqtt" / "index.js"]
    return Program(directory, command, environment)


def _zigbee(kind: str, ieee: str, address: int, **more: Any) -> dict[str, Any]:
    clusters = [0, 3, 4, 5, 6, 8] if address else []
    endpoint = {"profId": 260, "epId": 1, "devId": 256, "inClusterList": clusters, "outClusterList": [],
                "clusters": {}, "binds": [], "configuredReportings": [], "meta": {}}  # fmt: skip
    return {"type": kind, "ieeeAddr": ieee, "nwkAddr": address, "manufId": 0, "epList": [1], "endpoints": {"1": endpoint},
            "interviewCompleted": True, "interviewState": "SUCCESSFUL", "meta": {}, **more}  # fmt: skip


def home_assistant(directory: Path, broker_port: int) -> Program:
    """Home Assistant with its MQTT integration, as its dialogue leaves it."""
    stored = directory / ".storage"
    stored.mkdir(parents=True)
    web = f"http:\n  server_host: 127.0.0.1\n  server_port: {free_port()}\n"
    (directory / "configuration.yaml").write_text(web)
    date = "2026-01-01T00:00:00+00:00"
    entry = {
        "created_at": date, "modified_at": date, "data": {"broker": "127.0.0.1", "port": broker_port},
        "disabled_by": None, "discovery_keys": {}, "domain": "mqtt", "entry_id": "0123456789abcdef0123456789abcdef",
        "minor_version": 1, "options": {}, "pref_disable_new_entities": False, "pref_disable_polling": False,
        "source": "user", "subentries": [], "title": "broker", "unique_id": None, "version": 1,
    }  # fmt: skip
    entries = {"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}}
    (stored / "core.config_entries").write_text(json.dumps(entries))
    hass = PROGRAMS / "homeassistant" / "bin" / "hass"
    return Program(directory, [hass, "--config", directory, "--skip-pip"])


def theengs_gateway(directory: Path, broker_port: int) -> Program:
    """Theengs Gateway, without Bluetooth."""
    python = PROGRAMS / "python" / "bin" / "python"
    flags = ["-H", "127.0.0.1", "-P", broker_port, "-b", 0]
    return Program(directory, [python, "-m", "TheengsGateway", *map(str, flags)])


_HOMIE = """
import time
from homie.device_base import Device_Base
from homie.node.node_base import Node_Base
from homie.node.property.property_integer import Property_Integer

broker = {{"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": {port}}}
device = Device_Base(device_id="boiler", name="Boiler", mqtt_settings=broker)
node = Node_Base(device, "heater", "Heater", "heater")
device.add_node(node)
temperature = Property_Integer(node, id="temperature", name="Temperature", settable=False)
node.add_property(temperature)
device.start()
while True:
    time.sleep(1)
    temperature.value = int(time.time()) % 100
"""


def homie_device(directory: Path, broker_port: int) -> Program:
    """A device of the library Homie4."""
    python = PROGRAMS / "python" / "bin" / "python"
    return Program(directory, [python, "-c", _HOMIE.format(port=broker_port)])


_SPARKPLUG = """
const client = require(process.argv[1]).newClient({
    serverUrl: process.argv[2], username: "", password: "", groupId: "plant", edgeNode: "press", clientId: "press",
    version: "spBv1.0",
});
const payload = (name) => ({timestamp: Date.now(), metrics: [{name, type: "Int32", value: 1}]});
let isBorn = false;
client.on("birth", () => {
    client.publishNodeBirth(payload("Temperature"));
    client.publishDeviceBirth("arm", payload("Position"));
    isBorn = true;
});
setInterval(() => isBorn && client.publishDeviceData("arm", payload("Position")), 1000);
"""


def sparkplug_node(directory: Path, broker_port: int) -> Program:
    """An edge node with a device, of the library sparkplug-client."""
    library = NODE_MODULES / "sparkplug-client"
    return Program(directory, [NODE, "-e", _SPARKPLUG, library, f"mqtt://127.0.0.1:{broker_port}"])
