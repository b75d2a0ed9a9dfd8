"""The examples in CONTRIBUTING.md run in a real bridge, and its map names every folder."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.adapters.registry import ADAPTERS
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.integrations.outputs import OUTPUTS
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from tests.support.held_bridge import HeldBridge

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mqtt_presence"
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def block(mark: str) -> str:
    found = re.findall(rf"<!-- {re.escape(mark)} -->\n```python\n(.*?)\n```", TEXT, re.DOTALL)
    assert len(found) == 1, mark
    return found[0]


def load(name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write an example into a file, import it, and return the entries of its line of registration."""
    (directory / f"example_{name}.py").write_text(block(f"file: {name}"))
    monkeypatch.syspath_prepend(directory)
    module = __import__(f"example_{name}")
    line = block(f"line: {name}")
    assert len(line.splitlines()) == 1
    entries = eval(f"{{{line}}}", vars(module))
    assert len(entries) == 1
    return entries


def station(payload: bytes, mid: int) -> Arrivals:
    return Arrivals(messages=[Incoming("stations/roof/alive", payload, 1, False, False, mid, 1)])


def test_examples_run_in_a_bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter's messages become presence, and the output publishes it; each is one file and one line."""
    for name, registry in (("adapter", ADAPTERS), ("output", OUTPUTS)):
        for key, make in load(name, tmp_path, monkeypatch).items():
            monkeypatch.setitem(registry, key, make)
    held = HeldBridge(f"sqlite:///{tmp_path}/presence.db")
    sent: list[Outgoing] = []
    publish = held.link.publish

    def record(messages: Any) -> None:
        sent.extend(given := list(messages))
        publish(given)

    held.link.publish = record
    subscribed: list[str] = []
    held.link.subscribe = lambda topic_filter, *_, **__: subscribed.append(topic_filter)
    held.connect()
    assert "stations/+/alive" in subscribed

    def published(topic: str) -> list[tuple[bytes, bool]]:
        return [(message.payload, message.retain) for message in sent if message.topic == topic]

    held.step(station(b"1", 1))
    held.step()
    assert published("display/station:roof") == [(b"in", True)]
    assert b'"state":"online"' in published("status/station:roof")[-1][0]
    held.step(station(b"0", 2))
    held.step()
    assert published("display/station:roof")[-1] == (b"out", True)
    assert b'"state":"offline"' in published("status/station:roof")[-1][0]
    assert held.link.acknowledged == [1, 2]
    held.store.close()


@pytest.mark.parametrize("kind", ["adapter", "output"])
def test_examples_are_not_in_the_package(kind: str) -> None:
    """An example that became a feature needs a new example."""
    first = block(f"file: {kind}").splitlines()[0]
    assert not [path for path in PACKAGE.rglob("*.py") if path.read_text().startswith(first)]


@pytest.mark.parametrize("kind", ["adapter", "output"])
@pytest.mark.parametrize("command", ["check", "format"])
def test_examples_have_the_style_of_the_package(kind: str, command: str) -> None:
    """An example can be copied into the package without a complaint of `make check`."""
    ruff = [Path(sys.executable).parent / "ruff", command, "--stdin-filename", "mqtt_presence/example.py"]
    source = block(f"file: {kind}") + "\n"
    done = subprocess.run([*ruff, "-"], check=False, input=source, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert command == "check" or done.stdout == source


def folders() -> list[str]:
    packages = [path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py")]
    return sorted(path.as_posix() for path in packages if len(path.parts) == 1)


@pytest.mark.parametrize("folder", folders())
def test_folder_is_on_the_map(folder: str) -> None:
    """Each top-level folder is in the drawing and in the table."""
    drawing = re.search(r"## The map\n.*?```\n(.*?)```", TEXT, re.DOTALL)
    assert drawing is not None
    assert re.search(rf"\b{folder}\b", drawing[1])
    assert f"| `{folder}/` |" in TEXT


def test_floors_are_those_that_are_checked() -> None:
    """The drawing shows the floors of tests/test_architecture.py, in their order."""
    from tests.test_architecture import FLOORS

    drawing = re.search(r"## The map\n.*?```\n(.*?)```", TEXT, re.DOTALL)
    assert drawing is not None
    drawn = [
        set(re.split(r", ", re.split(r"\s{2,}", line.strip())[0]))
        for line in drawing[1].splitlines()
        if line.strip(" |")
    ]
    assert drawn == list(FLOORS)


@pytest.mark.parametrize(
    "path",
    sorted(
        set(
            re.findall(
                r"`((?:tests|adapters|integrations|bridge|rules|access|settings|cli|store)/[\w/.]+\.py)`",
                TEXT,
            )
        )
    ),
)
def test_named_file_exists(path: str) -> None:
    """A file that the text names is there."""
    assert (ROOT / path).exists() or (PACKAGE / path).exists()
