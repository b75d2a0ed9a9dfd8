"""A terminal that is closed under a command: the kernel's SIGHUP ends it in an orderly way, except under nohup."""

import os
import pty
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.brokers import Mosquitto
from tests.support.checker import read
from tests.support.mqtt import Client
from tests.support.waiting import free_port, listens, until

COMMAND = (sys.executable, "-m", "mqtt_presence")


class Terminal:
    """A command that has a terminal of its own.

    Args:
        directory: for its data.
        command: with its arguments.

    """

    def __init__(self, directory: Path, *command: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MQTT_PRESENCE_", "XDG_"))}
        self.pid, self._terminal = pty.fork()  # the command leads the terminal's session
        if not self.pid:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.chdir(directory)
            os.execvpe(command[0], command, kept | {"XDG_DATA_HOME": str(directory), "TERM": "xterm"})
        self._code: int | None = None

    def close(self) -> None:
        """Close the terminal, as a window is closed."""
        os.close(self._terminal)
        self._terminal = -1

    def says(self, text: str) -> None:
        """Wait until the command has written a text."""
        heard = b""

        def says() -> bool:
            nonlocal heard
            if select.select([self._terminal], [], [], 0)[0]:
                heard += os.read(self._terminal, 4096)
            return text.encode() in heard

        until(says, f"the command writes {text!r}")

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None: it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self._terminal >= 0:
            self.close()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*command: str) -> Terminal:
        made.append(Terminal(tmp_path, *command))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def until_ended(terminal: Terminal) -> int:
    until(lambda: terminal.poll() is not None, "the command ends")
    code = terminal.poll()
    assert code is not None
    return code


def test_up_records_the_end_of_everybody(terminal: Callable[..., Terminal], sqlite_url: str) -> None:
    """As with SIGTERM: all connections end, in the database too, and the exit code is 0."""
    port = free_port()
    up = terminal(*COMMAND, "up", "--no-ws", "--no-web", "--port", str(port), "--database", sqlite_url)
    up.says("mqtt-presence is up")
    client = Client(port, "alice", "phone")
    client.publish("presence/alice/phone/login", b"")
    up.close()
    assert until_ended(up) == 0
    client.close()
    records, users = read(sqlite_url)
    assert [(record.user_id, record.logout_time is not None) for record in records] == [("alice", True)]
    assert users["alice"].status.state == "offline"


@pytest.mark.parametrize("shell_too", [False, True])
def test_run_publishes_offline(
    terminal: Callable[..., Terminal], mosquitto: Mosquitto, sqlite_url: str, shell_too: bool
) -> None:
    """The bridge's last message is out, also where the shell sends a second signal to its jobs."""
    recorder = mosquitto.recorder("bridge/state")
    run = terminal(*COMMAND, "run", "--broker", mosquitto.url, "--database", sqlite_url)
    run.says("connected to")
    if shell_too:
        os.kill(run.pid, signal.SIGHUP)
    run.close()
    assert until_ended(run) == 0
    until(lambda: recorder.heard and b'"offline"' in recorder.heard[-1].payload, "the bridge is offline")


def test_commands_that_only_look_end(terminal: Callable[..., Terminal], mosquitto: Mosquitto) -> None:
    """`watch` ends, and no signal kills it."""
    watch = terminal(*COMMAND, "watch", "--broker", mosquitto.url)
    watch.says("There are no users yet")
    watch.close()
    assert until_ended(watch) >= 0


def test_check_clears_up(terminal: Callable[..., Terminal], mosquitto: Mosquitto) -> None:
    """`check` ends its sessions first, as after SIGTERM."""
    url = mosquitto.url
    client = url.replace("bridge:", "alice:")
    check = terminal(*COMMAND, "check", "--json", "--broker", url, "--client", client)
    check.says("own-topics")
    check.close()
    assert until_ended(check) > 0
    assert "-check-" in mosquitto.log()
    assert not retained(mosquitto)


def retained(mosquitto: Mosquitto) -> list[str]:
    recorder = mosquitto.recorder("status/+", "presence/#", "#")
    mosquitto.say("last", "one", "login")
    until(lambda: any(m.topic == "presence/last/one/login" for m in list(recorder.heard)), "all has come")
    return [m.topic for m in list(recorder.heard) if m.retained]


def test_nohup_goes_on(terminal: Callable[..., Terminal], sqlite_url: str, tmp_path: Path) -> None:
    """A signal that was ignored at the start stays ignored; SIGTERM ends it."""
    port = free_port()
    up = terminal(
        "nohup", *COMMAND, "up", "--no-ws", "--no-web", "--port", str(port), "--database", sqlite_url
    )
    until(lambda: listens(port), "up listens")
    up.close()
    os.kill(up.pid, signal.SIGHUP)
    client = Client(port, "alice", "phone")
    client.publish("presence/alice/phone/login", b"")
    client.close()
    assert up.poll() is None
    assert "mqtt-presence is up" in (tmp_path / "nohup.out").read_text()
    os.kill(up.pid, signal.SIGTERM)
    assert until_ended(up) == 0
