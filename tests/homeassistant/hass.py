"""A real Home Assistant, as a process of its own, asked by its REST and WebSocket interfaces."""

import json
import re
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

from tests.support.waiting import free_port, listens, until

PYTHON = Path(__file__).parents[2] / ".programs/homeassistant/bin/python"
START_S = 60.0
OWNER = ("owner", "secret of the owner")
_CONFIGURATION = """\
http:
  server_host: 127.0.0.1
  server_port: {port}
logger:
  default: info
"""
_BAD = re.compile(
    r"^\S+ \S+ (WARNING|ERROR) .*(mqtt|template|binary_sensor|sensor|device_tracker).*", re.MULTILINE
)


class HomeAssistant:
    """A Home Assistant without a line of YAML about MQTT.

    Args:
        directory: its own, empty.
        broker_port: of the broker, on this machine.
        user: the user as whom it connects to the broker.
        password: of this user.

    """

    def __init__(self, directory: Path, broker_port: int, user: str, password: str = "") -> None:
        assert PYTHON.exists(), "Home Assistant is not installed: make test-homeassistant"
        self.directory = directory
        self.port = free_port()
        self._broker = {"broker": "127.0.0.1", "port": broker_port, "username": user, "password": password}
        self._process: subprocess.Popen[bytes] | None = None
        self.token = ""
        directory.mkdir()
        (directory / "configuration.yaml").write_text(_CONFIGURATION.format(port=self.port))
        storage = directory / ".storage"
        storage.mkdir()
        done = {"done": ["user", "core_config", "analytics", "integration"]}
        onboarding = {"version": 4, "minor_version": 1, "key": "onboarding", "data": done}
        (storage / "onboarding").write_text(json.dumps(onboarding))
        auth = ["--script", "auth", "-c", str(directory), "add", *OWNER]
        subprocess.run(
            [PYTHON, "-m", "homeassistant", *auth], check=True, capture_output=True, timeout=START_S
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
        if kind is not None:
            print(f"Home Assistant:\n{self.log()[-20_000:]}")

    def start(self) -> Self:
        """Start, sign in, and connect to the broker if that was not configured before."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PYTHON, "-m", "homeassistant", "-c", self.directory, "--skip-pip"], stdout=log, stderr=log
            )
        until(self._is_up, "Home Assistant listens", START_S)
        self._sign_in()
        until(lambda: self.call("GET", "/api/config")["state"] == "RUNNING", "it runs", START_S)
        if not self._entry():
            flow = self.call("POST", "/api/config/config_entries/flow", {"handler": "mqtt"})
            done = self.call("POST", f"/api/config/config_entries/flow/{flow['flow_id']}", self._broker)
            assert done["type"] == "create_entry", done
        until(lambda: self._entry() == "loaded", "MQTT is connected", START_S)
        return self

    def stop(self) -> None:
        """End it as an operator would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(START_S)
        self._process = None

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"Home Assistant has ended\n{self.log()}"
        return listens(self.port)

    def _entry(self) -> str:
        """Return the state of the integration MQTT; empty: it is not configured."""
        entries = self.call("GET", "/api/config/config_entries/entry?domain=mqtt")
        return entries[0]["state"] if entries else ""

    def _sign_in(self) -> None:
        client = f"{self.url}/"
        begin = {"client_id": client, "handler": ["homeassistant", None], "redirect_uri": client}
        user, password = OWNER
        flow = until(lambda: self._try("POST", "/auth/login_flow", begin), "it lets people sign in", START_S)
        answer = {"client_id": client, "username": user, "password": password}
        code = self.call("POST", f"/auth/login_flow/{flow['flow_id']}", answer)["result"]
        form = {"client_id": client, "grant_type": "authorization_code", "code": code}
        request = urllib.request.Request(f"{self.url}/auth/token", urllib.parse.urlencode(form).encode())
        with urllib.request.urlopen(request, timeout=20) as response:
            self.tokens: dict[str, Any] = json.load(response)
        self.token = self.tokens["access_token"]

    # Its interfaces.

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the REST API."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def _try(self, method: str, path: str, body: object) -> Any:
        try:
            return self.call(method, path, body)
        except (urllib.error.URLError, OSError):
            return None

    def ask(self, command: str) -> list[dict[str, Any]]:
        """Ask the WebSocket API a question."""
        with connect(f"ws://127.0.0.1:{self.port}/api/websocket", max_size=None) as socket:
            assert json.loads(socket.recv())["type"] == "auth_required"
            socket.send(json.dumps({"type": "auth", "access_token": self.token}))
            assert json.loads(socket.recv())["type"] == "auth_ok"
            socket.send(json.dumps({"id": 1, "type": command}))
            answer = json.loads(socket.recv())
        assert answer["success"], answer
        result: list[dict[str, Any]] = answer["result"]
        return result

    def devices(self) -> set[str]:
        """Return the names of the devices that mqtt-presence describes."""
        registry = self.ask("config/device_registry/list")
        return {device["name"] for device in registry if device["manufacturer"] == "mqtt-presence"}

    def entities(self, user: str) -> dict[str, dict[str, Any]]:
        """Return the states of the entities of one user, by the rest of their names."""
        begin = f"{user} "
        return {
            state["attributes"]["friendly_name"].removeprefix(begin): state
            for state in self.call("GET", "/api/states")
            if state["attributes"].get("friendly_name", "").startswith(begin)
        }

    def shows(self, user: str, **expected: str) -> None:
        """Wait until entities of a user have these states, by the rest of their names."""
        wanted = {name.capitalize(): state for name, state in expected.items()}

        def is_shown() -> bool:
            states = {name: entity["state"] for name, entity in self.entities(user).items()}
            return {name: states.get(name) for name in wanted} == wanted

        try:
            until(is_shown, f"{user} is {wanted}", every_s=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.entities(user)}") from None

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def complaints(self) -> list[str]:
        """Return warnings and errors about MQTT and our entities."""
        return [match[0] for match in _BAD.finditer(self.log())]
