"""The flow of docs/notifications.md in a real Node-RED: it takes the webhooks, and sorts the users."""

import json
import urllib.request
from pathlib import Path

from tests.programs.programs import NODE, NODE_MODULES, ROOT, Program
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.playing import hello
from tests.support.waiting import free_port, until

FLOW = ROOT / "docs/node-red-flow.json"


def deploy(port: int, flow: bytes) -> None:
    """Deploy a flow, as the editor does after an import."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/flows", flow, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.status == 204


def test_flow_sorts_the_users_who_come_and_go(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """Each of its two outputs gets its users, and the bridge gets 204."""
    directory, port, config = tmp_path / "node-red", free_port(), tmp_path / "settings.toml"
    directory.mkdir()
    settings = {"uiHost": "127.0.0.1", "uiPort": port, "flowFile": "flows.json"}
    (directory / "settings.js").write_text(f"module.exports = {json.dumps(settings)};\n")
    (directory / "flows.json").write_text("[]")
    config.write_text(
        "notify_private = true\n"
        f'[[notify]]\nname = "node-red"\nurl = "http://127.0.0.1:{port}/presence"\n'
        'users = "alice"\non = ["userOnline", "userOffline"]\n'
    )
    with Program(directory, [NODE, NODE_MODULES / "node-red" / "red.js", "--userDir", directory]) as node_red:
        until(lambda: "Started flows" in node_red.log(), "Node-RED is up", 60)
        deploy(port, FLOW.read_bytes())
        with BridgeProcess(
            tmp_path / "log", broker=mosquitto.url, database=sqlite_url, config=str(config)
        ) as bridge:
            hello(mosquitto)
            mosquitto.say("alice", "phone", "login")
            until(lambda: "[debug:came]" in node_red.log(), "alice came")
            mosquitto.say("alice", "phone", "logout")
            until(lambda: "[debug:left]" in node_red.log(), "alice left")
            assert "attempt" not in bridge.log()
            assert node_red.log().count("debug:") == 2
