"""`mqtt-presence simulate` on a real mosquitto with a real bridge."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import pytest
from typer.testing import CliRunner, Result

from mqtt_presence.cli.app import app
from tests.support.bridges import BridgeThread
from tests.support.brokers import BRIDGE_PASSWORD, Embedded, Mosquitto
from tests.support.postgres import query
from tests.support.waiting import free_port, until

COMMAND = (sys.executable, "-m", "mqtt_presence", "simulate")
WRONG = "wrong user name or password, or no right to connect"


@pytest.fixture(autouse=True)
def database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make simulations use the bridge's database instead of the developer's own."""
    monkeypatch.setenv("MQTT_PRESENCE_DATABASE", sqlite_url)
    return sqlite_url


@pytest.fixture
def bridge(mosquitto: Mosquitto, sqlite_url: str) -> Iterator[BridgeThread]:
    with BridgeThread(broker=mosquitto.url, database=sqlite_url) as running:
        yield running


def simulate(url: str, *flags: str) -> Result:
    """Run the command in this process to its end."""
    return CliRunner().invoke(app, ["simulate", "--broker", url, *flags])


def test_small_run_is_right(mosquitto: Mosquitto, bridge: BridgeThread, sqlite_url: str) -> None:
    """After logouts, cuts, reports and a storm every status is right, then offline, as verify confirms."""
    run = simulate(
        mosquitto.url, "--users=50", "--connections=2", "--rate=150", "--abrupt=0.3", "--storm-every=1.5s",
        "--duration=3s", "--seed=4", "--name=sim",
    )  # fmt: skip
    assert run.exit_code == 0, run.stdout + run.stderr
    assert "at the end: all 50 statuses are right" in run.stdout
    assert "after all have logged out: all 50 statuses are right" in run.stdout
    assert " 0 lost" in run.stdout
    verify = ["verify", "--broker", mosquitto.url, "--database", sqlite_url]
    assert CliRunner().invoke(app, verify).exit_code == 0


def test_clients_without_messages_are_right(tmp_path: Path, sqlite_url: str) -> None:
    """With --implicit, clients only connect and leave, and a bridge with `implicit` shows each of them."""
    with (
        Mosquitto(tmp_path / "mosquitto", "log_dest topic") as broker,
        BridgeThread(broker=broker.url, database=sqlite_url, implicit="username"),
    ):
        flags = ("--implicit", "--users=30", "--connections=2", "--rate=60", "--duration=2s", "--seed=4")
        run = simulate(broker.url, *flags)
    assert run.exit_code == 0, run.stdout + run.stderr
    assert "at the end: all 30 statuses are right" in run.stdout
    assert "after all have logged out: all 30 statuses are right" in run.stdout


def test_kept_users_stay_online(mosquitto: Mosquitto, bridge: BridgeThread) -> None:
    """With --keep the users get no logout and no will; other users are unchanged."""
    watched = mosquitto.recorder()
    mosquitto.say("alice", "alice-phone", "login")
    watched.wait_for_state("alice", "online")
    run = simulate(mosquitto.url, "--users=5", "--churn=0", "--duration=1s", "--name=kept", "--keep")
    assert run.exit_code == 0, run.stdout + run.stderr
    mosquitto.say("alice", "alice-phone", "logout")
    watched.wait_for_state("alice", "offline")  # after what the simulation may have caused
    assert [watched.status(f"kept-{n}")["connections"] for n in range(5)] == [2] * 5
    assert watched.statuses().keys() == {"alice", *(f"kept-{n}" for n in range(5))}


def names_in(database: str) -> set[str]:
    """Return all users with data in the database."""
    tables = ("user_states", "connection_records")
    return {row["user_id"] for table in tables for row in query(database, f"SELECT user_id FROM {table}")}


def test_simulated_users_are_deleted_at_the_end(
    mosquitto: Mosquitto, bridge: BridgeThread, database: str
) -> None:
    """Their records and statuses are deleted, but not those of other or earlier users."""
    watched = mosquitto.recorder("status/+")
    for user in ("alice", "sim-1"):
        mosquitto.say(user, "phone", "login")
        watched.wait_for_state(user, "online")
    mosquitto.say("sim-1", "phone", "logout")
    watched.wait_for_state("sim-1", "offline")
    run = simulate(mosquitto.url, "--users=4", "--duration=0.5s", "--name=sim")
    assert run.exit_code == 0, run.stdout + run.stderr
    assert "the records of 3 users are deleted; 1 were known before and stay" in run.stdout
    assert names_in(database) == {"alice", "sim-1"}
    for user in ("sim-0", "sim-2", "sim-3"):
        watched.wait_for(lambda name=user: watched.on(f"status/{name}")[-1].payload == b"", "it is cleared")
    again = simulate(mosquitto.url, "--users=4", "--duration=0.5s", "--name=other", "--keep-records")
    assert again.exit_code == 0, again.stdout + again.stderr
    assert names_in(database) == {"alice", "sim-1", *(f"other-{n}" for n in range(4))}


def test_interrupted_simulation_deletes_its_users(
    mosquitto: Mosquitto, bridge: BridgeThread, database: str
) -> None:
    """A second signal ends it with open connections; no user returns afterwards."""
    watched = mosquitto.recorder("status/+")
    process = subprocess.Popen(
        [*COMMAND, "--broker", mosquitto.url, "--users=10", "--rate=100"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        watched.wait_for(lambda: len(watched.heard) > 60, "the simulation is at work")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=40)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "after all have logged out" not in out
    assert "the records of 10 users are deleted" in out, out + errors
    assert names_in(database) == set()


def test_without_the_database_the_output_has_the_command_to_delete_users(
    mosquitto: Mosquitto, bridge: BridgeThread, database: str, tmp_path: Path
) -> None:
    """The printed command works on the machine with the database."""
    watched = mosquitto.recorder("status/+")
    mosquitto.say("alice", "phone", "login")
    watched.wait_for_state("alice", "online")
    elsewhere = f"sqlite:///{tmp_path / 'none.db'}"
    run = simulate(mosquitto.url, "--users=3", "--duration=0.5s", "--name=s[i]m", "--database", elsewhere)
    assert run.exit_code == 0, run.stdout + run.stderr
    assert "the records of the users stay" in run.stdout
    assert not (tmp_path / "none.db").exists()
    said = re.search(r"mqtt-presence (forget --match '.*')", run.stdout)
    assert said is not None
    done = CliRunner().invoke(app, [*shlex.split(said[1]), "--yes", "--broker", mosquitto.url])
    assert done.exit_code == 0, done.stdout + done.stderr
    assert names_in(database) == {"alice"}
    again = CliRunner().invoke(app, [*shlex.split(said[1]), "--yes", "--broker", mosquitto.url])
    assert again.exit_code == 1
    assert "there is no user like" in again.stderr


def test_falsified_status_is_found(mosquitto: Mosquitto, bridge: BridgeThread) -> None:
    """A status from another client is found: exit code 1, and the name of the user."""
    false = json.dumps(
        {"userId": "sim-3", "state": "online", "online": True, "idle": False, "connections": 9, "version": 99}
    ).encode()
    client = mosquitto.client("publisher", "falsifier")
    stop = threading.Event()

    def falsify() -> None:
        while not stop.is_set():
            client.publish("status/sim-3", false, retain=True)
            stop.wait(0.01)

    thread = threading.Thread(target=falsify)
    thread.start()
    try:
        run = simulate(mosquitto.url, "--users=6", "--duration=0.5s", "--name=sim", "--settle=1.5s", "--keep")
    finally:
        stop.set()
        thread.join(10)
    assert run.exit_code == 1, run.stdout + run.stderr
    assert "1 of 6 statuses are wrong" in run.stderr
    assert "sim-3: online, connections=9; must be " in run.stderr


def test_without_a_bridge_all_statuses_are_wrong(mosquitto: Mosquitto) -> None:
    """Without published statuses the exit code is 1, and the reason appears once."""
    run = simulate(mosquitto.url, "--users=3", "--duration=0.2s", "--settle=1s", "--keep")
    assert run.exit_code == 1
    assert "3 of 3 statuses are wrong" in run.stderr
    assert "no status; must be" in run.stderr
    assert run.stderr.count("no bridge is online") == 1


def test_progress_fits_a_terminal(mosquitto: Mosquitto) -> None:
    """80 columns have room for the time and the numbers; the cursor is visible again at the end."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    flags = ("--broker", mosquitto.url, "--users=2", "--duration=0.5s", "--settle=1s", "--keep")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([*COMMAND, *flags], stdout=its, stderr=its, env=environment):
        os.close(its)
        shown = b""
        with suppress(OSError):  # how Linux says that nobody writes any more
            while data := os.read(ours, 65_536):
                shown += data
    os.close(ours)
    assert re.search(rb"simulating.*0:00:00.* 4 here, \d+ messages, 0 lost", shown), shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def test_interrupted_run_is_compared(mosquitto: Mosquitto, bridge: BridgeThread) -> None:
    """A simulation without end runs until SIGINT, and compares the statuses then."""
    watched = mosquitto.recorder("status/+")
    process = subprocess.Popen(
        [*COMMAND, "--broker", mosquitto.url, "--users=10", "--rate=100"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        watched.wait_for(lambda: len(watched.heard) > 60, "the simulation is at work")
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=40)
    finally:
        process.kill()
    assert process.returncode == 0, out + errors
    assert "after all have logged out: all 10 statuses are right" in out


def test_clients_survive_a_restart_of_the_broker(tmp_path: Path, sqlite_url: str) -> None:
    """Clients reconnect after a restart of the broker, and all statuses are right at the end."""
    with (
        Mosquitto(tmp_path / "mosquitto") as mosquitto,
        BridgeThread(broker=mosquitto.url, database=sqlite_url),
    ):
        process = subprocess.Popen(
            [*COMMAND, "--broker", mosquitto.url, "--users=20", "--rate=50", "--abrupt=0"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            watched = mosquitto.recorder("status/+")
            watched.wait_for(lambda: len(watched.heard) > 60, "the simulation is at work")
            mosquitto.hang_up()
            mosquitto.stop()
            mosquitto.start()
            watched = mosquitto.recorder("status/+")
            watched.wait_for(
                lambda: sum(m.json["connections"] > 0 and not m.retained for m in watched.heard) > 60,
                "clients are back",
            )
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0, out + errors


class Running:
    """A process that runs the command.

    Args:
        mosquitto: the broker; there must be a bridge.
        log: where its output goes.
        flags: of the command.

    """

    def __init__(self, mosquitto: Mosquitto, log: Path, *flags: str) -> None:
        self._log = log
        watched = mosquitto.recorder("status/+")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*COMMAND, "--broker", mosquitto.url, "--users=10", "--rate=50", *flags],
                stdout=output, stderr=output,
            )  # fmt: skip
        watched.wait_for(
            lambda: len({m.topic for m in watched.heard if m.payload and m.json["online"]}) == 10,
            "all ten have been online",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(20)

    def signal(self, sign: signal.Signals) -> None:
        self._process.send_signal(sign)

    def wait_for(self, said: str) -> None:
        until(lambda: said in self.output, f"it says {said!r}")

    def end(self, timeout_s: float) -> int:
        """Wait for the end; return the exit code."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.output}") from None

    @property
    def output(self) -> str:
        return self._log.read_text()


def test_absence_of_the_bridge_is_reported(mosquitto: Mosquitto, sqlite_url: str, tmp_path: Path) -> None:
    """The output reports the absence and the return of the bridge; all statuses are right at the end."""
    with ExitStack() as stack:
        with BridgeThread(broker=mosquitto.url, database=sqlite_url):
            running = stack.enter_context(Running(mosquitto, tmp_path / "output"))
        running.wait_for("no bridge is online")
        with BridgeThread(broker=mosquitto.url, database=sqlite_url):
            running.wait_for("the bridge is online")
            running.signal(signal.SIGINT)
            assert running.end(40) == 0, running.output


@pytest.mark.parametrize("flags", [(), ("--duration=3s",)], ids=["for-ever", "ends-meanwhile"])
def test_absent_broker_ends_the_simulation(tmp_path: Path, sqlite_url: str, flags: tuple[str, ...]) -> None:
    """After --settle the simulation ends, and the error has the time since the broker went away."""
    with (
        Mosquitto(tmp_path / "mosquitto") as mosquitto,
        BridgeThread(broker=mosquitto.url, database=sqlite_url),
        Running(mosquitto, tmp_path / "output", "--settle=4s", *flags) as running,
    ):
        mosquitto.hang_up()
        mosquitto.kill()
        assert running.end(40) == 1
        assert re.search(r"the broker is away since \d\d:\d\d:\d\d, waiting 4 s for it", running.output)
        assert re.search(r"the broker has been away since [\d:]+, for 4 s: no comparison", running.output)


def test_interrupt_without_a_broker_waits_and_compares(tmp_path: Path, sqlite_url: str) -> None:
    """One signal ends the plan even without a broker; after its return all statuses must be right."""
    with (
        Mosquitto(tmp_path / "mosquitto") as mosquitto,
        BridgeThread(broker=mosquitto.url, database=sqlite_url),
        Running(mosquitto, tmp_path / "output", "--settle=60s", "--abrupt=0") as running,
    ):
        mosquitto.hang_up()
        mosquitto.stop()
        running.wait_for("the broker is away since")
        running.signal(signal.SIGTERM)
        mosquitto.start()
        assert running.end(40) == 0, running.output
        assert "the broker is back" in running.output
        assert "after all have logged out: all 10 statuses are right" in running.output


def test_second_signal_ends_at_once(tmp_path: Path, sqlite_url: str) -> None:
    """The first signal waits for the broker, up to --settle; the second one does not wait."""
    with (
        Mosquitto(tmp_path / "mosquitto") as mosquitto,
        BridgeThread(broker=mosquitto.url, database=sqlite_url),
        Running(mosquitto, tmp_path / "output", "--settle=60s") as running,
    ):
        mosquitto.hang_up()
        mosquitto.kill()
        running.wait_for("the broker is away since")
        running.signal(signal.SIGINT)
        with pytest.raises(AssertionError, match="does not end"):
            running.end(1.5)
        running.signal(signal.SIGINT)
        assert running.end(5) == 130
        assert "are deleted; the bridge will clear the statuses of 10 later" in running.output
        assert names_in(sqlite_url) == set()


def test_password_pattern_and_refusals(tmp_path: Path, sqlite_url: str) -> None:
    """Every user has its own password; a wrong one ends the simulation at once."""
    users = {"bridge": BRIDGE_PASSWORD, **{f"sim-{n}": f"secret-sim-{n}" for n in range(3)}}
    with (
        Mosquitto(tmp_path / "mosquitto", users=users) as mosquitto,
        BridgeThread(broker=mosquitto.url, database=sqlite_url),
    ):
        flags = ("--users=3", "--duration=0.3s", "--name=sim")
        run = simulate(mosquitto.url, *flags, "--password=secret-{user}")
        assert run.exit_code == 0, run.stdout + run.stderr
        run = simulate(mosquitto.url, *flags, "--password=wrong")
        assert run.exit_code == 1
        assert "refuses user sim-" in run.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a certificate for this machine, and its key."""
    made = tmp_path_factory.mktemp("tls")
    certificate, key = made / "cert.pem", made / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_refusal_over_tls_is_reported(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """The broker refuses and closes in one read: the error has the reason of the refusal."""
    port = free_port()
    more = f"listener {port} 127.0.0.1\ncertfile {certificate[0]}\nkeyfile {certificate[1]}\n"
    flags = ("--users=1", "--connections=1", f"--ca-file={certificate[0]}")
    with Mosquitto(tmp_path / "mosquitto", more, users={"bridge": BRIDGE_PASSWORD}):
        run = simulate(f"mqtts://bridge:{BRIDGE_PASSWORD}@127.0.0.1:{port}", *flags, "--name=sim")
        assert (run.exit_code, f"refuses user sim-0: {WRONG}; give --name" in run.stderr) == (1, True)
        run = simulate(f"mqtts://bridge:wrong@127.0.0.1:{port}", *flags)
        assert (run.exit_code, run.stderr.endswith(f"refuses us: {WRONG}\n")) == (1, True), run.stderr
        run = simulate(f"mqtts://127.0.0.1:{port}", *flags)
        assert (run.exit_code, f"{WRONG}; --broker must name a user" in run.stderr) == (1, True), run.stderr


@pytest.mark.parametrize("scheme", ["mqtts", "ws", "wss"])
def test_other_ways_to_the_broker(
    tmp_path: Path, sqlite_url: str, certificate: tuple[Path, Path], scheme: str
) -> None:
    """With TLS, with WebSocket and with both, a cut client has a will too."""
    port = free_port()
    more = f"listener {port} 127.0.0.1\n"
    if scheme != "mqtts":
        more += "protocol websockets\n"
    if scheme != "ws":
        more += f"certfile {certificate[0]}\nkeyfile {certificate[1]}\n"
    with (
        Mosquitto(tmp_path / "mosquitto", more) as mosquitto,
        BridgeThread(broker=mosquitto.url, database=sqlite_url),
    ):
        ca_file = [] if scheme == "ws" else [f"--ca-file={certificate[0]}"]
        flags = ["--users=20", "--duration=1s", "--rate=100", "--abrupt=0.5", *ca_file]
        run = simulate(f"{scheme}://127.0.0.1:{port}", *flags)
        assert run.exit_code == 0, run.stdout + run.stderr
        assert " 0 cuts" not in run.stdout
        assert " 0 lost" in run.stdout


def test_websocket_of_the_embedded_broker(sqlite_url: str) -> None:
    """The embedded broker is another WebSocket server, with other frames."""
    with Embedded(ws=True) as broker, BridgeThread(broker=broker.url, database=sqlite_url):
        run = simulate(
            f"ws://operator@127.0.0.1:{broker.ws_port}", "--users=20", "--duration=1s", "--rate=100"
        )
        assert run.exit_code == 0, run.stdout + run.stderr
        assert " 0 lost" in run.stdout


def test_websocket_url_of_a_plain_listener_is_reported(mosquitto: Mosquitto) -> None:
    """The error distinguishes a plain MQTT listener from an absent one."""
    run = simulate(f"ws://127.0.0.1:{mosquitto.port}", "--users=1", "--duration=1s")
    assert run.exit_code == 1
    assert "cannot be reached: " in run.stderr


@pytest.mark.parametrize("flags", [("--users=0",), ("--duration=soon",), ("--settle=0s",)])
def test_wrong_settings_exit_2(flags: tuple[str, ...]) -> None:
    """The message names the setting, and no client connects."""
    run = simulate("mqtt://127.0.0.1:1", *flags)
    assert run.exit_code == 2
    assert flags[0].split("=")[0].removeprefix("--") in run.stderr
    assert run.stdout == ""
