"""Every example is run against a broker and the bridge, and does what it says on top."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from mqtt_presence import StatusWatcher
from tests.support.brokers import Embedded, Mosquitto
from tests.support.recorder import Recorder
from tests.support.waiting import free_port, until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMMAND = Path(sys.executable).with_name("mqtt-presence")


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MQTT_PRESENCE_")}
    return kept | {"PYTHONUNBUFFERED": "1"} | more


class Example:
    """An example that is running; leaving the block ends it, and all that it started."""

    def __init__(self, log: Path, *arguments: str, **variables: str) -> None:
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment(**variables),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Pull the plug."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def says(self, pattern: str, deadline_s: float = 20) -> None:
        """Wait until it has said it."""

        def heard() -> bool:
            found = re.search(pattern, self.said, re.MULTILINE) is not None
            assert found or self.process.poll() is None, f"{pattern!r} was not said:\n{self.said}"
            return found

        until(heard, pattern, deadline_s)

    def ends(self) -> int:
        return self.process.wait(20)


@pytest.fixture
def recorder(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Recorder]:
    """What the bridge says, on a mosquitto with ``mqtt-presence run`` beside it."""
    log = tmp_path / "run.log"
    with log.open("wb") as out:
        run = subprocess.Popen(
            [
                COMMAND,
                "run",
                "--broker",
                mosquitto.url,
                "--database",
                f"sqlite:///{tmp_path / 'presence.db'}",
            ],
            stdout=out,
            stderr=out,
            env=environment(),
        )
    try:
        recording = mosquitto.recorder()
        recording.wait_for(
            lambda: (recording.last("bridge/state") or {}).get("state") == "online", "the bridge"
        )
        until(lambda: "presence/+/+/+ (QoS 1)" in mosquitto.log(), "the bridge is subscribed")
        yield recording
        run.terminate()
        assert run.wait(20) == 0, log.read_text()
    finally:
        if run.poll() is None:
            run.kill()
            run.wait(10)


def test_every_example_has_a_test_here() -> None:
    """Every example is run here, and has a line in the README of the examples."""
    here = "".join(
        Path(__file__).with_name(name).read_text("utf-8")
        for name in ("test_examples.py", "test_npm_package.py")
    )
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    for path in EXAMPLES.iterdir():
        if path.suffix != ".md":
            assert f"]({path.name}" in readme, path.name
            assert path.is_dir() or f'EXAMPLES / "{path.name}"' in here, path.name


def test_examples_import_the_public_package_only() -> None:
    """Examples show the import that the README describes."""
    for path in EXAMPLES.glob("*.py"):
        assert set(re.findall(r"from (mqtt_presence\S*)", path.read_text("utf-8"))) == {"mqtt_presence"}, path


def device(mosquitto: Mosquitto, tmp_path: Path, *arguments: str, **variables: str) -> Example:
    script = EXAMPLES / "device.sh"
    return Example(tmp_path / "device.log", str(script), *arguments, PORT=str(mosquitto.port), **variables)


def test_device_is_online_until_the_plug_is_pulled(
    mosquitto: Mosquitto, recorder: Recorder, tmp_path: Path
) -> None:
    """device.sh logs in once, however often it says so; killed, it is lost."""
    with device(mosquitto, tmp_path, "lamp", "esp1", EVERY="0.1") as lamp:
        recorder.wait_for_state("lamp", "online")
        until(lambda: mosquitto.log().count("Received PUBLISH from esp1") >= 3, "it says so again")
        lamp.kill()
    recorder.wait_for_state("lamp", "offline")
    assert recorder.wait_for_event("lamp", "connectionLogout")["reason"] == "lost"
    assert [name for name, _ in recorder.events("lamp")].count("connectionLogin") == 1


@pytest.mark.parametrize("verb", ["login", "activity"])
def test_device_leaves_politely(mosquitto: Mosquitto, recorder: Recorder, tmp_path: Path, verb: str) -> None:
    """After its times device.sh logs out, whether it logs in or sends heartbeats only."""
    with device(mosquitto, tmp_path, "lamp", "esp1", "2", EVERY="0.1", VERB=verb) as lamp:
        assert lamp.ends() == 0, lamp.said
    assert recorder.wait_for_event("lamp", "connectionLogout")["reason"] == "logout"
    recorder.wait_for_state("lamp", "offline")


def test_hello_presence_comes_pings_and_leaves(
    mosquitto: Mosquitto, recorder: Recorder, tmp_path: Path
) -> None:
    """hello_presence.py is online, monitors, answers Enter, and logs out at the end of its input."""
    url = f"mqtt://alice@127.0.0.1:{mosquitto.port}"
    script = EXAMPLES / "hello_presence.py"
    with Example(tmp_path / "hello.log", sys.executable, str(script), url) as hello:
        hello.says(r"^alice is online, connection \w+$")
        hello.says(r"^The server's clock is ahead by -?\d+\.\d+ s\.$")
        recorder.wait_for_event("alice", "connectionActive")
        assert hello.process.stdin is not None
        hello.process.stdin.write(b"\n")
        hello.process.stdin.flush()
        hello.says(r"^ping; bridge online$")
        hello.process.stdin.close()
        hello.says(r"^alice has left$")
        assert hello.ends() == 0
    assert recorder.wait_for_event("alice", "connectionLogout")["reason"] == "logout"
    assert recorder.wait_for_event("alice", "connectionLogin")["userAgent"] == "hello_presence.py"


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1:{port}", "mqtt://localhost:{port}"])
def test_watching_needs_no_name(url: str, mosquitto: Mosquitto, tmp_path: Path) -> None:
    """As the example and StatusWatcher say how to call them: without a user, on the embedded broker too."""
    script = EXAMPLES / "watch.py"
    documented = (script.read_text("utf-8"), StatusWatcher.__doc__ or "")
    assert any(url.removesuffix(":{port}") in text for text in documented)
    with Embedded() as embedded:
        for broker in (mosquitto, embedded):
            log = tmp_path / f"watch-{broker.port}.log"
            with Example(log, sys.executable, str(script), url.format(port=broker.port), "0.5") as watch:
                watch.says(r"^online now: nobody$")
                assert watch.ends() == 0, watch.said


def test_watch_tells_every_change(mosquitto: Mosquitto, recorder: Recorder, tmp_path: Path) -> None:
    """watch.py has a line for each change, and at the end says who is there."""
    url = f"mqtt://127.0.0.1:{mosquitto.port}"
    script = EXAMPLES / "watch.py"
    mosquitto.say("bob", "laptop", "login")
    recorder.wait_for_state("bob", "online")
    with Example(tmp_path / "watch.log", sys.executable, str(script), url, "3") as watch:
        watch.says(r"^bob: unknown -> online \(1 connections\)$")
        mosquitto.say("alice", "phone", "login")
        watch.says(r"^alice: unknown -> online \(1 connections\)$")
        mosquitto.say("alice", "phone", "logout")
        watch.says(r"^alice: online -> offline \(0 connections\)$")
        watch.says(r"^online now: bob$")
        assert watch.ends() == 0


def test_asyncio_program_is_online_and_prints_changes(
    mosquitto: Mosquitto, recorder: Recorder, tmp_path: Path
) -> None:
    """asyncio_presence.py sees itself and others, and logs out at its end."""
    url = f"mqtt://alice@127.0.0.1:{mosquitto.port}"
    script = EXAMPLES / "asyncio_presence.py"
    with Example(tmp_path / "asyncio.log", sys.executable, str(script), url, "3") as program:
        program.says(r"^alice is online, connection \w+$")
        program.says(r"^alice: online$")
        mosquitto.say("bob", "laptop", "login")
        program.says(r"^bob: online$")
        program.says(r"^2 online$")
        assert program.ends() == 0, program.said
    recorder.wait_for_state("alice", "offline")
    assert recorder.wait_for_event("alice", "connectionLogout")["reason"] == "logout"


def test_web_application_answers_who_is_online(
    mosquitto: Mosquitto, recorder: Recorder, tmp_path: Path
) -> None:
    """fastapi_app.py starts, answers with the status as on MQTT, and ends with its server."""
    assert (EXAMPLES / "fastapi_app.py").exists()
    port = free_port()
    server = [
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        str(EXAMPLES),
        "--port",
        str(port),
        "fastapi_app:app",
    ]
    with Example(tmp_path / "web.log", *server, BROKER=f"mqtt://127.0.0.1:{mosquitto.port}") as web:
        web.says(r"Uvicorn running")

        def get(path: str) -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return json.load(answer)

        mosquitto.say("alice", "phone", "login")
        recorder.wait_for_state("alice", "online")
        until(lambda: get("/online") == ["alice"], "alice is online")
        assert get("/users/alice") == recorder.last("status/alice")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get("/users/nobody")
        web.process.send_signal(signal.SIGINT)
        assert web.ends() in (0, -signal.SIGINT), web.said
