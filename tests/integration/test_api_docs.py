"""The commands of docs/api.md run as printed, and their output is as shown."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_presence.client import PresenceClient
from tests.support.waiting import until
from tests.support.web import Page, bearer

TEXT = (Path(__file__).parents[2] / "docs/api.md").read_text("utf-8")
TOKEN = "0123456789abcdef"
SHOWN = [
    (command, output.strip())
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for command, output in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]
RESOURCES = re.findall(r"^\| `(?:GET|POST) (/[^?` ]*)", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Run `up` with a token, and alice online."""
    with (
        Page(tmp_path_factory.mktemp("docs"), "up", MQTT_PRESENCE_WEB_TOKEN=TOKEN) as up,
        PresenceClient(f"mqtt://alice@127.0.0.1:{up.mqtt_port}", client_id="alice-phone"),
    ):
        until(lambda: up.get("/api/v1/users/alice", **bearer(TOKEN)).status == 200)
        yield up


def run(page: Page, command: str) -> str:
    """Run a command of the document against the page."""
    ours = command.replace("127.0.0.1:8080", f"127.0.0.1:{page.port}")
    is_endless = "/stream" in command
    done = subprocess.run(
        ["timeout", "1", "bash", "-c", ours] if is_endless else ["bash", "-c", ours],
        env={"TOKEN": TOKEN, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == (124 if is_endless else 0), (ours, done.stderr)
    return done.stdout.strip().replace("\r\n", "\n")


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command[-60:] for command, _ in SHOWN])
def test_each_command_prints_what_is_shown(page: Page, command: str, output: str) -> None:
    """An ellipsis in the document stands for any text."""
    pattern = ".*".join(map(re.escape, output.split("…"))) + (".*" if "/stream" in command else "")
    printed = run(page, command)
    assert re.fullmatch(pattern, printed, re.DOTALL), printed


def test_each_resource_has_a_command(page: Page) -> None:
    """Each resource of the OpenAPI document has a row in a table and a command, and no other has."""
    paths = page.get("/api/v1/openapi.json").json["paths"]
    named = {path.replace("<user>", "{user}") for path in RESOURCES}
    assert {p for p in paths if not p.endswith((".json", ".csv", "/config"))} == named
    asked = " ".join(command for command, _ in SHOWN)
    for path in named:
        assert re.search(re.escape("/api/v1" + path.replace("{user}", "alice")) + r"(?=['? ]|$)", asked), path
