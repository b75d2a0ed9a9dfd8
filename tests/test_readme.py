"""The commands of the README and of the tutorials do what these say, as they are typed."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_presence.cli.banner import suggestions
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from mqtt_presence.settings import Settings
from tests.support.shell import Shell, block
from tests.support.waiting import free_port, until

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TUTORIALS = ROOT / "docs/tutorials"
_MADE = (
    ".venv",
    "node_modules",
    "build",
    "dist",
    "vendor",
    "built",
    "__pycache__",
    ".brokers",
    ".programs",
    ".*_cache",
)


def clone(directory: Path) -> Path:
    """Return a fresh clone, with the changes that are not committed yet; a copy where there is no Git."""
    target = directory / "clone"
    if not (ROOT / ".git").exists():
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*_MADE))
        return target
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--modified", "--others", "--deleted", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        (target / name).unlink(missing_ok=True)
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def is_offline(shell: Shell, user: str = "alice") -> bool:
    return f'"userId":"{user}","state":"offline"' in shell.run("mqtt-presence users --json")


def without_varying_parts(text: str) -> list[str]:
    """Return the lines without times, ids and their padding."""
    text = re.sub(r"(?:(?:\d{4}-)?\d\d-\d\d[T ])?\d\d:\d\d:\d\d(\.\d{3}Z)?", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "ID", text)
    text = re.sub(r"\b\d+s\b", "DURATION", text)
    return [re.sub(r" +", " ", line).strip() for line in text.splitlines()]


def type_session(shell: Shell) -> None:
    """Type the session of the first screen, and compare what is shown, except for times and ids."""
    for part in block(README, "session").removeprefix("$ ").split("\n$ "):
        command, _, shown = part.partition("\n")
        if command.startswith("mosquitto_sub") and "offline" in shown:
            until(lambda: is_offline(shell), "alice is gone")
        output = without_varying_parts(shell.run(command))
        for line in without_varying_parts(shown):
            assert line in output, (command, line, output)
            del output[: output.index(line) + 1]


@pytest.mark.timeout(400)
def test_readme_typed_in_a_fresh_clone(tmp_path: Path) -> None:
    """From `make run` to a wheel, from top to bottom: each command works as it is typed."""
    with Shell(clone(tmp_path), tmp_path, free_port()) as shell:
        up = shell.start(block(README, "run: up"))
        until(lambda: up.poll() is not None or "connected to" in shell.log(), "up is up", 240)
        assert up.poll() is None, shell.log()
        assert recipe() in shell.log().replace(f" -p {shell.port}", ""), (
            "the banner has the device of the README"
        )

        type_session(shell)

        shell.run(block(README, "run: activate"))
        shell.start(block(README, "run: watch"))
        until(lambda: "the bridge is online" in shell.log(), "watch sees the bridge")
        shell.run(block(README, "run: login"))
        until(lambda: "alice  online  1 connection" in shell.log(), "watch sees alice come")
        shell.run(block(README, "run: kill"))
        # The first line is the status of the session before.
        until(lambda: shell.log().count("alice  offline  0 connections") == 2, "watch sees alice go")
        history = shell.run(block(README, "run: history"))
        assert len(re.findall(r"^phone .* lost ", history, re.MULTILINE)) == 2, history
        (shell.directory / "readme.py").write_text(shell.text(block(README, "run: python")))
        assert shell.run("python readme.py") == "alice is here\nalice has left\n"
        shell.interrupt(up)
        assert "Traceback" not in shell.log()

        printed = shell.run(block(README, "run: wheel"))
        wheel = re.search(r"^The wheel: (/.*\.whl)$", printed, re.MULTILINE)
        assert wheel, printed
        assert f"pipx install '{wheel[1]}[bridge]'" in printed
        assert f"pip install '{wheel[1]}[bridge]'" in printed
        assert Path(wheel[1]).exists()


def test_make_test_reports_system_packages_before_it_installs_them(tmp_path: Path) -> None:
    """Which packages, and that root installs them, is written before apt-get runs, if it may run at all."""
    for name in ("bash", "env"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "apt-get").write_text('#!/bin/sh\necho "apt-get ran: $*"\n')
    (tmp_path / "apt-get").chmod(0o755)
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run(
        [make, "tools"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    said, _, ran = (done.stdout + done.stderr).partition("apt-get ran:")
    assert re.search(r"need system packages, which apt-get installs as root: .*\bfaketime\b", said), said
    assert bool(ran) == (done.returncode == 0), done


# The device.


def recipe() -> str:
    """Return the README's device as one line, without the background."""
    return block(README, "run: login").replace("\\\n", "").removesuffix(" &").replace("     ", " ")


def test_the_device_is_the_same_everywhere() -> None:
    """README and banner have one command; examples/device.sh and the session have its arguments."""
    broker = EmbeddedBroker(EmbeddedConfig(port=1883))
    shown = dict(suggestions(Settings(), broker))
    assert recipe() in shown.values()
    for command in block(README, "session").splitlines():
        if "mosquitto_pub" in command:
            assert command == f"$ {recipe()} &"
    script = (ROOT / "examples/device.sh").read_text("utf-8")
    for words in ("-q 1 -n", "--repeat", "--repeat-delay", "--will-topic", "--will-qos 1"):
        assert words in script
        assert words in recipe()


# The tutorials.


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in the repository, beside a broker and a bridge."""
    with Shell(ROOT, tmp_path, free_port(), Path(sys.executable).parent) as shell:
        up = shell.start("exec mqtt-presence up")
        until(lambda: up.poll() is not None or "connected to" in shell.log(), "up is up")
        assert up.poll() is None, shell.log()
        yield shell
        shell.interrupt(up)
        assert up.returncode == 0, shell.log()


def test_tutorial_for_makers_of_devices(shell: Shell, tmp_path: Path) -> None:
    """The script is lost without power and logs out at its end; so does the program."""
    page = TUTORIALS / "device.md"

    def reasons() -> list[str]:
        return re.findall(r'"reason":"(\w+)"', shell.run("mqtt-presence history lamp --json"))

    lamp = shell.start(block(page, "run: power cut"))
    until(
        lambda: '"userId":"lamp","state":"online"' in shell.run("mqtt-presence users --json"),
        "lamp is online",
    )
    shell.interrupt(lamp)
    until(lambda: reasons() == ["lost"], "lamp is lost")
    assert "logout" in shell.run(block(page, "run: clean stop"))
    (tmp_path / "lamp.py").write_text(shell.text(block(page, "run: program")))
    shell.run(f"python {shlex.quote(str(tmp_path / 'lamp.py'))}")
    until(lambda: sorted(reasons()) == ["logout", "logout", "lost"], "each end has its reason")


def test_tutorial_for_operators(shell: Shell) -> None:
    """The simulated users are listed, and the reason of the pump's end is shown."""
    page = TUTORIALS / "operator.md"
    shell.run(block(page, "run: crowd"))
    until(lambda: "sim-" in shell.run("mqtt-presence users"), "the users come")
    shell.run(block(page, "run: look"))
    shell.run(block(page, "run: victim"))
    until(lambda: is_offline(shell, "pump"), "the pump is lost")
    assert re.search(r"ended by E\d: a will arrived \(lost", shell.run(block(page, "run: why")))
