"""The files for containers: linters and schemas accept them, and they name things that exist."""

import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from mqtt_presence.settings import SETTINGS
from mqtt_presence.settings.sources import IN_FILES
from tests.support.waiting import free_port

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
HEALTHY = ROOT / "broker_config/containers/healthy.py"
KUBERNETES = ROOT / "broker_config/containers/kubernetes.yaml"
COMPOSE = (ROOT / "compose.yaml", ROOT / "compose.home.yaml")


def run(*command: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": f"{BIN}:/usr/bin:/bin"} | variables,
    )


@pytest.mark.parametrize(
    "command",
    [
        (BIN / "hadolint", "Containerfile"),
        (BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *COMPOSE),
        (BIN / "kubernetes-validate", "--strict", KUBERNETES),
    ],
    ids=lambda command: command[0].name,
)
def test_linters_accept_the_files(command: tuple[object, ...]) -> None:
    """No finding, and the linter does find a mistake (below)."""
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_linters_find_mistakes(tmp_path: Path) -> None:
    """Each linter refuses a file with a fault."""
    faults = {
        "Containerfile": (ROOT / "Containerfile").read_text().replace("USER 10001", "USR 10001"),
        "compose.yaml": COMPOSE[0].read_text().replace("healthcheck:", "helthcheck:", 1),
        "kubernetes.yaml": KUBERNETES.read_text().replace("livenessProbe", "livelinessProbe"),
    }
    for name, text in faults.items():
        (tmp_path / name).write_text(text)
    assert run(BIN / "hadolint", tmp_path / "Containerfile").returncode
    wrong = run(
        BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / "compose.yaml"
    )
    assert wrong.returncode
    assert run(BIN / "kubernetes-validate", "--strict", tmp_path / "kubernetes.yaml").returncode


def variables_of_compose() -> set[str]:
    services = [
        service for path in COMPOSE for service in yaml.safe_load(path.read_text())["services"].values()
    ]
    return {name for service in services for name in service.get("environment", {})}


def variables_of_kubernetes() -> set[str]:
    for document in yaml.safe_load_all(KUBERNETES.read_text()):
        if document["kind"] == "Deployment":
            [container] = document["spec"]["template"]["spec"]["containers"]
            return {entry["name"] for entry in container["env"]}
    raise AssertionError


@pytest.mark.parametrize(
    "variables", [variables_of_compose(), variables_of_kubernetes()], ids=["compose", "kubernetes"]
)
def test_variables_are_settings(variables: set[str]) -> None:
    """Each variable of ours names a setting, or the file of a secret one."""
    ours = {
        name.removeprefix("MQTT_PRESENCE_").lower() for name in variables if name.startswith("MQTT_PRESENCE_")
    }
    assert ours
    assert {
        name for name in ours if name not in SETTINGS and name.removesuffix("_file") not in IN_FILES
    } == set()


def test_commands_of_the_files_exist() -> None:
    """The arguments of each container of ours begin with a command."""
    from mqtt_presence.cli.app import COMMANDS

    for path in COMPOSE:
        for service in yaml.safe_load(path.read_text())["services"].values():
            if service["image"] == "mqtt-presence":
                assert service["command"][0] in COMMANDS


def test_files_that_the_image_copies_exist() -> None:
    """Each COPY of the Containerfile from the repository names a file in it."""
    lines = (ROOT / "Containerfile").read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert len(copied) > 1
    assert [name for name in copied if not (ROOT / name).exists()] == []


class Health(http.server.BaseHTTPRequestHandler):
    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_health_check_asks_the_process() -> None:
    """It ends with 0 for an answer, else with 1: for an error of the server, and where nobody listens."""
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_port)
        assert run(sys.executable, HEALTHY, MQTT_PRESENCE_WEB_PORT=port).returncode == 0
        assert (
            run(
                sys.executable, HEALTHY, MQTT_PRESENCE_MONITOR_PORT=port, MQTT_PRESENCE_WEB_PORT="1"
            ).returncode
            == 0
        )
        Health.code = 503
        assert run(sys.executable, HEALTHY, MQTT_PRESENCE_WEB_PORT=port).returncode == 1
        server.shutdown()
    silent = run(sys.executable, HEALTHY, MQTT_PRESENCE_WEB_PORT=str(free_port()))
    assert (silent.returncode, "Connection refused" in silent.stderr) == (1, True)
