"""The documents are held to the code: everything is named, links lead somewhere, examples are real and run."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec
import pytest

from mqtt_presence.cli.app import COMMANDS
from mqtt_presence.protocol import client_messages, incoming, outgoing, sizes
from mqtt_presence.protocol.topics import TIME, VERBS, Topics
from mqtt_presence.rules import status
from mqtt_presence.rules.model import Reason, State
from mqtt_presence.settings import SETTINGS
from tests.support.waiting import free_port, until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PROTOCOL = (ROOT / "docs/protocol.md").read_text("utf-8")
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(p for p in (ROOT / "broker_config").rglob("*.md") if "node_modules" not in p.parts),
]

BIN = Path(sys.executable).parent


def wire_fields() -> list[str]:
    """Every JSON field that the payload structs know."""
    structs = [
        value
        for value in (vars(incoming) | vars(outgoing)).values()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__name__.endswith(("In", "Out"))
    ]
    assert len(structs) >= 7
    names = {field.encode_name for struct in structs for field in msgspec.structs.fields(struct)}
    return sorted(names | {"t0", "t1", "t2"})


def topics() -> list[str]:
    made = Topics()
    inputs = [made.input("<user>", "<client>", verb) for verb in sorted(VERBS)]
    return [
        *inputs,
        made.reply("<user>", "<client>", TIME),
        made.status("<user>"),
        made.event("<user>", "<event>"),
        made.bridge_state,
        made.bridge_announce,
    ]


# Everything is named.


def test_the_page_of_the_examples_is_as_long_as_is_said() -> None:
    """The README and docs/browser.md say how many lines a page with both clients takes."""
    lines = (ROOT / "examples/browser/index.html").read_text("utf-8").splitlines()
    for text in (README, (ROOT / "docs/browser.md").read_text("utf-8")):
        assert re.findall(r"\b(\d+) lines\b", text) == [str(len(lines))]


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_is_in_the_readme(name: str) -> None:
    """Each setting has its place in the README's table, with the default that it has."""
    rows = [
        line for line in README.splitlines() if line.startswith("| `") and f"`{name}`" in line.split("|")[1]
    ]
    assert rows, f"the README's table of settings lacks {name}"
    default = SETTINGS[name].default
    if name != "database":  # that one names the directory of whoever runs this
        assert re.search(rf"\b{re.escape(default)}\b", rows[0]) if default else True, rows[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_in_the_readme(name: str) -> None:
    """Each command has its place in the README's table."""
    assert f"| `mqtt-presence {name}` |" in README


@pytest.mark.parametrize("topic", topics())
def test_topic_is_documented(topic: str) -> None:
    """Each topic is in both tables of topics."""
    assert f"| `{topic}` |" in README
    assert f"| `{topic}` |" in PROTOCOL


@pytest.mark.parametrize("name", wire_fields())
def test_field_is_documented(name: str) -> None:
    """Each field of each payload is named in the protocol."""
    assert f"`{name}`" in PROTOCOL


def test_fields_of_the_api_are_documented() -> None:
    """What the page's server tells of a connection is listed, whole."""
    text = (ROOT / "docs/web.md").read_text("utf-8")
    listed = re.search(r"A connection has (.*?) \(\[protocol\]", text, re.DOTALL)
    assert listed is not None
    sent = {field.encode_name for field in msgspec.structs.fields(outgoing._ConnectionOut)}
    assert set(re.findall(r"`(\w+)`", listed[1])) == sent


def test_events_reasons_and_states_are_documented() -> None:
    """So are the values that are words."""
    events = {name for names in status.STATE_EVENTS.values() for name in names}
    events |= {"connectionLogin", "connectionLogout", "connectionIdle", "connectionActive"}
    for word in (*events, *Reason, *State):
        assert f"`{word}`" in PROTOCOL, word


def test_limits_are_documented() -> None:
    """The limits in the protocol are those of the code."""
    assert sizes.MAX_PAYLOAD == 8 * 1024
    assert "at most 8 KiB" in PROTOCOL
    assert sizes.MAX_META == 2 * 1024
    assert "at most 2 KiB as JSON" in PROTOCOL
    assert f"at most {sizes.MAX_T0} bytes" in PROTOCOL
    assert f"1\N{EN DASH}{sizes.MAX_CONNECTION_ID} characters" in PROTOCOL
    assert f"({sizes.MAX_DURATION_S:.0f})" in PROTOCOL


def test_json_examples_are_what_clients_read() -> None:
    """The statuses and states shown are such that our own client reads them."""
    shown = re.findall(r"```json\n(.*?)\n```", PROTOCOL, re.DOTALL)
    assert len(shown) == 3
    for text in shown:
        if "userId" in text:
            assert client_messages.decode_status("alice", text.encode()).user_id == "alice"
        else:
            assert client_messages.decode_bridge_state(text.encode()).state == "online"


# Links.


def anchors(path: Path) -> set[str]:
    """The names that headings get where Markdown is shown."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    """A link within the repository names a file that is there, and a heading in it."""
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{path.name} links to {target}"


# What the README shows runs.


class Shell:
    """A shell that keeps its background jobs from one block to the next, and our ports out of the blocks."""

    def __init__(self, directory: Path, port: int) -> None:
        self._port = port
        self._done = 0
        self.directory = directory
        self._process: subprocess.Popen[str] | None = None

    def environment(self) -> dict[str, str]:
        config = self.directory / ".config"
        config.mkdir(exist_ok=True)
        for name in ("mosquitto_pub", "mosquitto_sub"):  # the clients' own defaults
            (config / name).write_text(f"-p {self._port}\n")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MQTT_PRESENCE_", "XDG_"))}
        return kept | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "XDG_DATA_HOME": str(self.directory / "data"),
            "TZ": "UTC",
            "MQTT_PRESENCE_PORT": str(self._port),
            "MQTT_PRESENCE_WS_PORT": "0",
            "MQTT_PRESENCE_WEB_PORT": "0",
        }

    def text(self, block: str) -> str:
        """The block as it is, but for the port where none is given."""
        return re.sub(r"@127\.0\.0\.1(?!:)", f"@127.0.0.1:{self._port}", block)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self.environment(),
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        subprocess.run(["kill", "-9", "--", f"-{self._process.pid}"], check=False)
        self._process.communicate()

    def run(self, block: str) -> str:
        """Run a block, return what it says; jobs in the background go on."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._done += 1
        mark = f"--done {self._done}: "
        self._process.stdin.write(f"{self.text(block)}\necho '{mark}'$?\n")
        self._process.stdin.flush()
        said = []
        for line in self._process.stdout:
            if line.startswith(mark):
                assert line.removeprefix(mark).strip() == "0", (block, said)
                return "".join(said)
            said.append(line)
        raise AssertionError(f"the shell ended in {block!r}: {said}")

    def start(self, block: str) -> subprocess.Popen[bytes]:
        """Run a block in a terminal of its own."""
        self._done += 1
        with (self.directory / f"{self._done}.log").open("wb") as log:
            return subprocess.Popen(
                ["bash", "-c", f"exec {self.text(block)}"],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self.environment(),
            )

    def log(self) -> str:
        return "\n".join(p.read_text(errors="replace") for p in sorted(self.directory.glob("*.log")))


def block(mark: str) -> str:
    found = re.findall(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)\n```", README, re.DOTALL)
    assert len(found) == 1, mark
    return found[0]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell beside ``mqtt-presence up``, started as the README says."""
    with Shell(tmp_path, free_port()) as made:
        up = made.start(block("run: up"))
        try:
            until(lambda: up.poll() is not None or "connected to" in made.log(), "up is up")
            assert up.poll() is None, made.log()
            yield made
            up.terminate()
            assert up.wait(20) == 0, made.log()
        finally:
            if up.poll() is None:
                up.kill()
                up.wait(10)


def offline(shell: Shell) -> bool:
    return '"state":"offline"' in shell.run("mqtt-presence users --json")


def test_five_minutes_are_as_the_readme_says(shell: Shell) -> None:
    """Three terminals: who logs in is seen, who is killed is seen to be gone, and its record says why."""
    watch = shell.start(block("run: watch"))
    try:
        until(lambda: "the bridge is there" in shell.log(), "watch sees the bridge")
        shell.run(block("run: login"))
        until(lambda: "alice  online  1 connection" in shell.log(), "watch sees alice come")
        shell.run(block("run: kill"))
        until(lambda: "alice  offline  0 connections" in shell.log(), "watch sees alice go")
        assert re.search(r"^phone .* lost ", shell.run(block("run: history")), re.MULTILINE)
    finally:
        watch.terminate()
        assert watch.wait(10) == 0


def test_python_is_as_the_readme_says(shell: Shell) -> None:
    """The ten lines run, and say who comes and goes."""
    (shell.directory / "readme.py").write_text(shell.text(block("run: python")))
    assert shell.run("python readme.py") == "alice is here\nalice has left\n"


def without_chance(text: str) -> list[str]:
    """The lines without times, ids and the space they take."""
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{3}Z)?", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "ID", text)
    text = re.sub(r"\b\d+s\b", "DURATION", text)
    return [re.sub(r" +", " ", line).strip() for line in text.splitlines()]


def test_session_is_as_the_readme_shows(shell: Shell) -> None:
    """The session at the top is what a terminal shows, but for times and ids."""
    for part in block("session").removeprefix("$ ").split("\n$ "):
        command, _, shown = part.partition("\n")
        if command.startswith("mosquitto_sub") and "offline" in shown:
            until(lambda: offline(shell), "alice is gone")
        said = without_chance(shell.run(command))
        for line in without_chance(shown):
            assert line in said, (command, line, said)
            del said[: said.index(line) + 1]
