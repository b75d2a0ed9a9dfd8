"""The installed command, as a process, on real brokers."""

import array
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence import __version__
from mqtt_presence.protocol.outgoing import encode_status
from mqtt_presence.rules.model import State, Status, UserId
from mqtt_presence.store.reader import Reader
from tests.support.brokers import Mosquitto
from tests.support.commands import COMMAND, Commands, Running, environment
from tests.support.waiting import free_port, listens, until

HOSTILE = "e\u202evil\u200b[red]x[bold]"


def start_run(commands: Commands, mosquitto: Mosquitto, database: str, *more: str) -> Running:
    def subscribed() -> int:
        return (mosquitto.directory / "log").read_text(errors="replace").count("presence/+/+/+ (QoS 1)")

    before = subscribed()
    running = commands.start("run", "--broker", mosquitto.url, "--database", database, *more)
    running.says("connected to")
    until(lambda: subscribed() > before)  # what is said to mosquitto before that, nobody hears
    return running


class Device:
    """The smallest device: mosquitto_pub, kept open, logged in, with an empty will."""

    def __init__(self, port: int, user: str, client: str) -> None:
        topic = f"presence/{user}/{client}"
        self._process = subprocess.Popen(
            ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-u", user, "-i", client, "-q", "1", "-l",
             "-t", f"{topic}/login", "--will-topic", f"{topic}/will", "--will-qos", "1"],
            stdin=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(b"{}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        if self._process.stdin:
            self._process.stdin.close()


@pytest.fixture
def device() -> Iterator[Any]:
    made: list[Device] = []

    def make(*arguments: Any) -> Device:
        made.append(Device(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def states(database: str) -> dict[str, str]:
    """Read the states as `users` does, without a process for each reading."""
    if not sqlite_file(database).exists():
        return {}
    with Reader(database) as reader:
        return {user.user_id: user.status.state.value for user in reader.users() if user.status}


def sqlite_file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


# run


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_cleanly_on_a_signal(
    commands: Commands, mosquitto: Mosquitto, sqlite_url: str, sign: signal.Signals
) -> None:
    """The bridge finishes its batch, publishes offline, and exits with 0."""
    recorder = mosquitto.recorder()
    running = start_run(commands, mosquitto, sqlite_url)
    mosquitto.say("alice", "phone", "login")
    until(lambda: states(sqlite_url) == {"alice": "online"})
    assert running.end(sign) == 0
    until(lambda: bridge_states(recorder) == ["online", "offline"])
    assert "Traceback" not in running.err


def bridge_states(recorder: Any) -> list[str]:
    return [json.loads(m.payload)["state"] for m in list(recorder.heard) if m.topic == "bridge/state"]


def test_wrong_setting_of_run(commands: Commands) -> None:
    """Exit code 2, and one line that names the setting, without traceback or password."""
    done = commands.done("run", MQTT_PRESENCE_BROKER="mqtt://bridge:s3cret@host:port")
    assert done.returncode == 2
    assert done.stderr.startswith("mqtt-presence: broker: the port of the broker URL must be")
    assert (len(done.stderr.splitlines()), "s3cret" in done.stderr) == (1, False)


def test_run_without_password_or_database(commands: Commands, tmp_path: Path) -> None:
    """Exit code 1 if the settings are right, but broker or database refuse."""
    with Mosquitto(tmp_path / "closed", users={"bridge": "right"}) as broker:
        url = f"mqtt://bridge:wr0ng@127.0.0.1:{broker.port}"
        done = commands.done("run", "--broker", url, "--database", f"sqlite:///{tmp_path / 'x.db'}")
        assert (done.returncode, "Traceback" in done.stderr, "wr0ng" in done.stderr) == (1, False, False)
        assert done.stderr.splitlines()[-1].startswith(
            "mqtt-presence: the broker at mqtt://bridge@127.0.0.1:"
        )
    done = commands.done("run", "--database", f"sqlite:///{tmp_path}/no/such/directory.db")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "cannot open the database" in done.stderr


def test_run_logs_json(commands: Commands, mosquitto: Mosquitto, sqlite_url: str) -> None:
    """Every line of the log is an object."""
    running = start_run(commands, mosquitto, sqlite_url, "--log-format", "json")
    assert running.end() == 0
    entries = [json.loads(line) for line in running.err.splitlines()]
    assert {"time", "level", "logger", "message"} <= entries[0].keys()


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mqtt_presence", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"mqtt-presence {__version__}\n"


# users, history, forget


def test_what_happened_is_shown(
    commands: Commands, mosquitto: Mosquitto, sqlite_url: str, device: Any
) -> None:
    """A client whose plug is pulled is in users and history, also under a hostile name."""
    start_run(commands, mosquitto, sqlite_url)
    phone = device(mosquitto.port, "alice", "phone")
    mosquitto.say(HOSTILE, "c", "login", json.dumps({"userAgent": "\x1b[2J"}).encode())
    until(lambda: states(sqlite_url) == {"alice": "online", HOSTILE: "online"})
    phone.kill()
    until(lambda: states(sqlite_url)["alice"] == "offline")
    shown = commands.done("history", "alice", "--database", sqlite_url).stdout
    assert re.search(r"^phone .* lost", shown, re.MULTILINE)
    shown = commands.done("users", "--private", "--database", sqlite_url).stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]", shown)
    assert r"e\u202evil\u200b[red]x[bold]  online" in shown


def retained(mosquitto: Mosquitto, user: str) -> bytes | None:
    """Read a status as a new subscriber does."""
    recorder = mosquitto.recorder(f"status/{user}", "bridge/+")
    until(lambda: any(m.topic == "bridge/state" for m in list(recorder.heard)))
    found = [m.payload for m in list(recorder.heard) if m.topic.startswith("status/")]
    return found[-1] if found else None


def test_forget_with_a_bridge(commands: Commands, mosquitto: Mosquitto, sqlite_url: str) -> None:
    """The bridge clears the statuses of forgotten users."""
    start_run(commands, mosquitto, sqlite_url)
    names = ("alice", "bob")
    for name in names:
        mosquitto.say(name, "phone", "login")
    until(lambda: all(retained(mosquitto, name) for name in names))
    done = commands.done("forget", *names, "--yes", "--broker", mosquitto.url, "--database", sqlite_url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the bridge has cleared the status") == len(names)
    assert [retained(mosquitto, name) for name in names] == [None, None]
    assert states(sqlite_url) == {}


def test_forget_without_a_bridge(commands: Commands, mosquitto: Mosquitto, sqlite_url: str) -> None:
    """Without a bridge the command clears the status; without a broker, the bridge does when it next runs."""
    running = start_run(commands, mosquitto, sqlite_url)
    mosquitto.say("alice", "phone", "login")
    mosquitto.say("bob", "phone", "login")
    until(lambda: retained(mosquitto, "alice") and retained(mosquitto, "bob"))
    assert running.end() == 0
    nowhere = commands.start(
        "forget", "bob", "-y", "--broker", f"mqtt://127.0.0.1:{free_port()}", "--database", sqlite_url
    )
    done = commands.done("forget", "alice", "-y", "--broker", mosquitto.url, "--database", sqlite_url)
    assert (done.returncode, "alice: the status is cleared" in done.stdout) == (0, True), done.stderr
    assert retained(mosquitto, "alice") is None
    assert nowhere.process.wait(20) == 3
    assert "The bridge will clear it when it next runs" in nowhere.err
    assert retained(mosquitto, "bob")
    start_run(commands, mosquitto, sqlite_url)
    until(lambda: retained(mosquitto, "bob") is None)


@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
def test_json_is_json_in_any_encoding(
    commands: Commands, mosquitto: Mosquitto, sqlite_url: str, encoding: str
) -> None:
    """A name without letters in the encoding of the output is exact, in each command that writes JSON."""
    name = "é😀\u202e"
    running = start_run(commands, mosquitto, sqlite_url)
    where = ("--broker", mosquitto.url, "--json")
    watch = commands.start("watch", *where, PYTHONIOENCODING=encoding)
    watch.says("b.?r.?i.?d.?g.?e")
    mosquitto.say(name, "phone", "login")
    until(lambda: "onnections" in watch.out.replace("\0", ""), "the login is shown")
    assert watch.end(signal.SIGINT) == 0
    assert running.end() == 0
    mosquitto.client("bridge", "falsifier").publish(f"status/{name}", b"{}", retain=True)
    said = [watch]
    for command in (("users",), ("history", name), ("verify", "--settle", "0s", "--broker", mosquitto.url)):
        said.append(commands.start(*command, "--json", "--database", sqlite_url, PYTHONIOENCODING=encoding))
        said[-1].process.wait(30)
    for command in said:
        (line,) = command.output.decode(encoding).splitlines()
        assert line.isascii()
        assert json.loads(line)["userId"] == name


# watch


def test_watch_prints_lines(commands: Commands, mosquitto: Mosquitto, sqlite_url: str) -> None:
    """Without a terminal each change is a line; SIGINT ends the command."""
    running = start_run(commands, mosquitto, sqlite_url)
    watching = [
        commands.start("watch", "--broker", mosquitto.url),
        commands.start("watch", "--json", "--broker", mosquitto.url),
        # Colours may be wanted in a file; a display that is drawn again and again cannot be.
        commands.start("watch", "--broker", mosquitto.url, FORCE_COLOR="1"),
    ]
    for watch in watching:
        watch.says("the bridge is online")
    mosquitto.say(HOSTILE, "phone", "login")
    watching[0].says(r"e\\u202evil\\u200b\[red\]x\[bold\]  online  1 connection\n")
    watching[1].says('"state":"online"')
    mosquitto.say(HOSTILE, "phone", "logout")
    watching[0].says("offline  0 connections\n")
    watching[1].says('"state":"offline"')
    watching[2].says("offline  0 connections\n")
    assert running.end() == 0
    for watch in watching:
        watch.says("the bridge is offline")
        assert watch.end(signal.SIGINT) == 0
        assert "\x1b" not in watch.out
    lines = [json.loads(line) for line in watching[1].out.splitlines()]
    assert [(line["userId"], line["state"]) for line in lines] == [(HOSTILE, "online"), (HOSTILE, "offline")]


def test_watch_ends_while_nobody_reads_what_it_says(commands: Commands, mosquitto: Mosquitto) -> None:
    """A signal ends the command in the middle of a line, as with a pager that shows its first page."""
    client = mosquitto.client("publisher", "statuses")
    for n in range(300):
        status = Status(state=State.ONLINE, since=1_800_000_000_000, connections=1)
        payload = encode_status(UserId(f"user-{n}"), status, version=1, last_seen=None)
        client.publish(f"status/user-{n}", payload, retain=True)
    ours, its = os.pipe()
    room = fcntl.fcntl(its, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [COMMAND, "watch", "--json", "--broker", mosquitto.url],
        stdout=its,
        stderr=subprocess.DEVNULL,
        env=environment(commands.directory),
    )
    os.close(its)
    try:
        unread = array.array("i", [0])
        until(
            lambda: fcntl.ioctl(ours, termios.FIONREAD, unread) == 0 and unread[0] > room - 400, "it is full"
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait(10)
        os.close(ours)


def test_watch_draws_a_table(commands: Commands, mosquitto: Mosquitto, sqlite_url: str) -> None:
    """On a terminal there is a live table, in colours, with online users first."""
    start_run(commands, mosquitto, sqlite_url)
    mosquitto.say("zoe", "phone", "login")
    mosquitto.say("amy", "phone", "login")
    mosquitto.say("amy", "phone", "logout")
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "watch", "--broker", mosquitto.url],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(commands.directory, TERM="xterm-256color", COLUMNS="120", LINES="30"),
    )
    os.close(its)
    try:
        text = read_until(ours, r"zoe.*online.*amy.*offline", 15)
        assert "bridge online" in text
        assert re.search(r"\x1b\[[\d;]*3[28][\d;]*m[^\x1b]*online", text)  # in a colour
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
        os.close(ours)


def read_until(terminal: int, pattern: str, deadline_s: float) -> str:
    text, deadline = "", time.monotonic() + deadline_s
    while not re.search(pattern, text, re.DOTALL):
        assert time.monotonic() < deadline, text
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 65_536).decode(errors="replace")
    return text


def test_watch_without_a_broker(commands: Commands) -> None:
    """The command names the error at once."""
    done = commands.done("watch", "--broker", f"mqtt://127.0.0.1:{free_port()}")
    assert (done.returncode, "cannot be reached" in done.stderr, "Traceback" in done.stderr) == (
        1,
        True,
        False,
    )


# up


def start_up(commands: Commands, port: int, *more: str) -> Running:
    running = commands.start("up", "--port", str(port), "--no-ws", *more)
    running.says("mqtt-presence users")
    running.says("connected to")
    return running


def default_database(commands: Commands) -> str:
    return f"sqlite:///{commands.directory}/data/mqtt-presence/presence.db"


def test_up_says_what_to_try_and_it_works(commands: Commands, device: Any) -> None:
    """All parts in one process; a clean end records all wills."""
    port = free_port()
    running = commands.start("up", "--port", str(port), "--ws-port", "0")
    running.says("mqtt-presence users")
    assert re.search(rf"mqtt://127.0.0.1:{port}\n", running.out)
    assert re.search(r"ws://127.0.0.1:\d+/mqtt\n", running.out)
    assert "\x1b" not in running.out
    database = default_database(commands)
    home = Path(database.removeprefix("sqlite:///")).parent
    assert (home.stat().st_mode & 0o777, database in running.out) == (0o700, True)
    watched = re.search(r"mqtt-presence watch --broker (\S+)", running.out)
    assert watched
    watch = commands.start("watch", "--broker", watched[1])
    watch.says("the bridge is online")
    pasted = re.search(r"^  (mosquitto_pub .*)", running.out, re.MULTILINE)
    assert pasted
    with subprocess.Popen(["sh", "-c", f"exec {pasted[1]}"]) as alice:
        watch.says("alice  online")
        shown = commands.done("users", "--json")
        assert json.loads(shown.stdout)["state"] == "online", shown.stderr
        assert running.end(signal.SIGINT) == 0
        alice.kill()
    assert watch.says("alice  offline")
    records = commands.done("history", "alice", "--private", "--json", "--database", database).stdout
    assert (json.loads(records)["reason"], json.loads(records)["ipAddr"]) == ("lost", "127.0.0.1")
    assert "Traceback" not in running.err


def test_up_names_the_port_in_use(commands: Commands) -> None:
    """The message also has the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = commands.done("up", "--port", str(port), "--no-ws")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"port={port} on 127.0.0.1 is in use" in done.stderr
    assert "choose another port" in done.stderr
    assert "Traceback" not in done.stderr


def test_up_killed_and_restarted_is_right_again(commands: Commands, device: Any) -> None:
    """The broker died with all its connections: clients that do not come back are lost, the others are online."""
    port = free_port()
    database = default_database(commands)
    running = start_up(commands, port)
    gone = device(port, "gone", "phone-1")
    back = device(port, "back", "phone-2")
    until(lambda: states(database) == {"gone": "online", "back": "online"})
    running.end(signal.SIGKILL)
    gone.kill()
    back.kill()
    until(lambda: not listens(port))
    restarted = start_up(commands, port)
    device(port, "back", "phone-2")
    until(lambda: states(database) == {"gone": "offline", "back": "online"})
    watch = commands.start("watch", "--json", "--broker", f"mqtt://w@127.0.0.1:{port}")
    watch.says('"userId":"gone","state":"offline"')
    watch.says('"userId":"back","state":"online"')
    assert restarted.end() == 0
    shown = commands.done("history", "back", "--json", "--database", database).stdout
    assert [json.loads(line)["reason"] for line in shown.splitlines()] == ["lost", "lost"]


def test_up_ends_on_impatience(commands: Commands, device: Any) -> None:
    """A second signal neither waits nor hangs."""
    running = start_up(commands, free_port())
    running.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert running.end(signal.SIGINT) in {0, -signal.SIGINT}
    assert time.monotonic() - began < 8


def test_up_with_passwords(commands: Commands) -> None:
    """After `passwd`, `up --no-open` accepts only clients with a password."""
    assert commands.done("passwd", "alice", "--stdin", stdin="s3cret\n").returncode == 0
    port = free_port()
    running = start_up(commands, port, "--no-open")
    assert "s3cret" not in running.out + running.err
    refused = commands.done("watch", "--broker", f"mqtt://alice:wrong@127.0.0.1:{port}")
    assert refused.returncode == 1
    watch = commands.start("watch", "--broker", f"mqtt://alice:s3cret@127.0.0.1:{port}")
    watch.says("the bridge is online")
    assert running.end() == 0
