"""Commands where their surroundings are poor: no home directory, no rights, no room, nobody who reads, odd bytes."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mqtt_presence.rules.events import Login
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import ClientId, ConnectionId, RuleSettings, UserId
from mqtt_presence.store import Store
from tests.support.brokers import Mosquitto
from tests.support.rights import held_by_modes, without_home
from tests.support.waiting import free_port, until

PACKAGE = str(Path(sys.executable).with_name("mqtt-presence"))
CANNOT_WRITE, PIPE_CLOSED = 74, 141
COMMANDS = (
    "up", "run", "watch", "users", "history", "forget", "verify", "check", "simulate", "passwd", "init-broker",
)  # fmt: skip
ABSURD = "9" * 400
BYTES = os.fsdecode(b"\xff\xfe")
NOT_UTF8 = "UTF-8"
RUN_AS = " --run-as root" if os.geteuid() == 0 else ""


def run(
    arguments: Sequence[str], *, under: Sequence[str] = (), stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with none of this machine's variables."""
    return subprocess.run(
        [*under, PACKAGE, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "MQTT_PRESENCE_WEB": "false"} | variables,
    )


def refused(arguments: Sequence[str], code: int, words: str, **how: object) -> None:
    """Require that a command ends with this code and one line that has these words."""
    ended = run(arguments, **how)  # type: ignore[arg-type]
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("mqtt-presence: "), lines
    assert words in lines[0], lines
    assert len(lines[0]) < 400, lines


@contextmanager
def serving(arguments: Sequence[str], log: Path, *, under: Sequence[str] = ()) -> Iterator[None]:
    """Run a command that stays, until it says that it has begun; then it must end well."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*under, PACKAGE, *arguments],
            stdout=out,
            stderr=out,
            env={"PATH": os.environ["PATH"], "MQTT_PRESENCE_WEB": "false"},
        )
    try:

        def begun() -> bool:
            assert process.poll() is None, log.read_text()
            return "connected to" in log.read_text()

        until(begun, deadline_s=30)
        yield
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


@pytest.fixture
def everybodys(tmp_path: Path) -> Path:
    """Make a directory that everybody may write to."""
    made = tmp_path / "everybodys"
    made.mkdir()
    made.chmod(0o777)
    for above in made.relative_to("/").parents:
        place = Path("/") / above
        if place.stat().st_uid == os.geteuid():
            place.chmod(place.stat().st_mode | 0o111)
    return made


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """Make a directory that may not be entered; there is a database in it."""
    made = tmp_path / "closed"
    made.mkdir()
    fill(made / "presence.db", 1)
    made.chmod(0)
    yield made
    made.chmod(0o700)


def fill(path: Path, users: int) -> str:
    """Make a database with so many users, each with a connection; return its URL."""
    url = f"sqlite:///{path}"
    store = Store(url)
    store.open()
    events = [
        Login(
            user_id=UserId(f"user{number:05}"),
            client_id=ClientId("phone"),
            connection_id=ConnectionId("1"),
            now=1_795_000_000_000,
        )
        for number in range(users)
    ]
    with store.transaction() as tx:
        known = tx.load({event.user_id: [event] for event in events})
        tx.save([fold(known[event.user_id], [event], RuleSettings()) for event in events])
    store.close()
    return url


# Without a home directory.


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_needs_no_home(command: str) -> None:
    ended = run([command, "--help"] if command else ["--help"], under=without_home())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Usage: mqtt-presence" in ended.stdout


@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_commands_work_without_a_home_where_their_paths_are_given(
    home: str | None, everybodys: Path, mosquitto: Mosquitto
) -> None:
    """As in a container: a user id without a name, and with HOME unset or of a directory that cannot be made."""
    under = [*without_home(), "env", *(() if home is None else (f"HOME={home}",))]
    database = ("--database", f"sqlite:///{everybodys / 'presence.db'}")
    passwords = ("--password-file", str(everybodys / "passwords"))
    broker = ("--broker", mosquitto.url)
    assert run(["passwd", "--stdin", *passwords, "alice"], under=under, stdin="secret\n").returncode == 0
    ports = ("--port", str(free_port()), "--no-ws")
    with serving(["up", *ports, *database, *passwords], everybodys / "up.log", under=under):
        assert run(["users", *database], under=under).returncode == 0
    with serving(["run", *broker, *database], everybodys / "run.log", under=under):

        def is_recorded() -> bool:
            mosquitto.say("alice", "phone", "login")  # again, until the bridge has subscribed
            return "alice" in run(["users", *database], under=under).stdout

        until(is_recorded, deadline_s=30)
        assert run(["verify", *broker, *database], under=under).returncode == 0
    for command in (
        ["history", *database, "alice"],
        ["forget", "--yes", *broker, *database, "alice"],
        ["passwd", "--delete", *passwords, "alice"],
        ["init-broker", "mosquitto", "--dir", str(everybodys / "broker")],
    ):
        ended = run(command, under=under)
        assert ended.returncode == 0, ended


NEEDS_DATABASE = ("users", "history alice", "verify", "forget --yes alice", "run", "up --port 0 --no-ws")


@pytest.mark.parametrize("command", NEEDS_DATABASE)
def test_without_a_home_the_database_must_be_given(command: str) -> None:
    refused(command.split(), 2, "database is not set", under=without_home())


@pytest.mark.parametrize("command", ["passwd --stdin alice", "passwd --delete alice"])
def test_without_a_home_the_password_file_must_be_given(command: str) -> None:
    refused(command.split(), 2, "there is no home directory", under=without_home(), stdin="secret\n")


@pytest.mark.parametrize("directory", ["~/broker", "~nobody-has-this-name/broker"])
def test_without_a_home_there_is_none_to_write_to(directory: str) -> None:
    refused(["init-broker", "mosquitto", "--dir", directory], 2, f"dir={directory}", under=without_home())


@pytest.mark.parametrize("command", ["run", "up --port 0 --no-ws", "passwd --stdin alice"])
def test_a_home_that_cannot_be_made_is_one_line(command: str) -> None:
    code = 2 if "passwd" in command else 1
    refused(command.split(), code, "/nonexistent", under=without_home(), stdin="x\n", HOME="/nonexistent")


# Files that may not be read or written.


@pytest.mark.parametrize("command", NEEDS_DATABASE)
def test_a_database_in_a_directory_that_may_not_be_entered(command: str, closed: Path) -> None:
    """One line that names the file, also where the directory is the default one."""
    given = ["--database", f"sqlite:///{closed / 'presence.db'}"]
    refused([*command.split(), *given], 1, str(closed), under=held_by_modes())
    refused(command.split(), 1, str(closed), under=held_by_modes(), XDG_DATA_HOME=str(closed))


@pytest.mark.parametrize("command", NEEDS_DATABASE)
def test_a_database_that_is_a_directory_or_may_not_be_read(command: str, tmp_path: Path) -> None:
    """SQLite calls both "unable to open database file"; the line has the path and the reason."""
    directory = ["--database", f"sqlite:///{tmp_path}"]
    refused([*command.split(), *directory], 1, f"it is a directory: '{tmp_path}'", under=held_by_modes())
    fill(tmp_path / "presence.db", 1)
    (tmp_path / "presence.db").chmod(0)
    file = ["--database", f"sqlite:///{tmp_path / 'presence.db'}"]
    refused([*command.split(), *file], 1, "there is no right to read it", under=held_by_modes())


@pytest.mark.parametrize(
    "command",
    [
        "passwd --stdin --password-file {}/passwords alice",
        "passwd --delete --password-file {}/passwords alice",
        "passwd --stdin --password-file {}/new/passwords alice",
        "up --port 0 --no-ws --password-file {}/passwords --database sqlite:///{}/../own.db",
        "users --config {}/settings.toml",
        "init-broker mosquitto --dir {}" + RUN_AS,
        "init-broker mosquitto --dir {}/new" + RUN_AS,
        "watch --broker mqtts://127.0.0.1:1 --ca-file {}/ca.pem",
        "run --broker mqtts://127.0.0.1:1 --ca-file {}/ca.pem --database sqlite:///{}/../own.db",
        "run --broker mqtts://127.0.0.1:1 --cert-file {}/c.pem --database sqlite:///{}/../own.db",
    ],
)
def test_other_files_in_a_directory_that_may_not_be_entered(command: str, closed: Path) -> None:
    words = command.replace("{}", str(closed)).replace(f"{closed}/..", str(closed.parent)).split()
    refused(words, 2, "Permission denied", under=held_by_modes(), stdin="secret\n")


def test_a_file_of_settings_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").touch(mode=0)
    command = ["users", "--config", str(tmp_path / "settings.toml")]
    refused(command, 2, "Permission denied", under=held_by_modes())


def test_a_password_file_that_may_be_read_only(tmp_path: Path) -> None:
    """The old one stays as it was."""
    path = tmp_path / "shut" / "passwords"
    path.parent.mkdir()
    assert run(["passwd", "--stdin", "--password-file", str(path), "alice"], stdin="old\n").returncode == 0
    before = path.read_bytes()
    path.parent.chmod(0o500)
    for arguments in (["--stdin", "alice"], ["--stdin", "bob"], ["--delete", "alice"]):
        command = ["passwd", "--password-file", str(path), *arguments]
        refused(command, 2, "cannot be written", under=held_by_modes(), stdin="new\n")
    path.parent.chmod(0o700)
    assert path.read_bytes() == before


def test_a_device_is_no_password_file() -> None:
    """To read it would never end, and to replace it would take it from everybody else."""
    refused(["passwd", "--stdin", "--password-file", "/dev/zero", "alice"], 2, "no", stdin="secret\n")
    assert Path("/dev/zero").is_char_device()


# Arguments and settings that are absurd.


@pytest.mark.parametrize(
    "command",
    [
        "history alice --since {}",
        "history alice --since {}d",
        "verify --settle {}d",
        "simulate --settle {}d",
        "simulate --duration {}d",
        "simulate --storm-every {}d",
        "run --grace {}d",
        "run --retention {}d",
        "run --max-users {}",
        "run --keep-alive {}",
        "up --port {}",
        "up --web-port {}",
        "check --client mqtt://a:b@127.0.0.1:1 --queue {}",
        "simulate --users {}",
        "simulate --rate {}",
        "init-broker mosquitto --dir broker --port {}",
        "watch --broker mqtt://127.0.0.1:{}",
    ],
)
@pytest.mark.parametrize("digits", [20, 400])
def test_a_number_of_absurd_length(command: str, digits: int) -> None:
    refused(command.format("9" * digits).split(), 2, command.split()[-2].removeprefix("--").replace("-", "_"))


@pytest.mark.parametrize(
    "command",
    [
        ["history", BYTES],
        ["forget", "--yes", BYTES],
        ["passwd", "--stdin", BYTES],
        ["watch", "--prefix", BYTES],
        ["watch", "--broker", f"mqtt://{BYTES}@127.0.0.1:1"],
        ["run", "--database", f"postgresql://{BYTES}@127.0.0.1:1/presence"],
        ["up", "--host", BYTES],
        ["up", "--web-host", BYTES],
        ["up", "--operator", BYTES],
        ["up", "--web-token", BYTES * 16],
        ["up", "--log-level", BYTES],
        ["check", "--only", BYTES],
        ["check", "--kind", BYTES],
        ["check", "--client", f"mqtt://{BYTES}@127.0.0.1:1"],
        ["check", "--websocket", f"ws://{BYTES}@127.0.0.1:1"],
        ["simulate", "--name", BYTES],
        ["simulate", "--password", BYTES],
        ["init-broker", BYTES, "--dir", "broker"],
        ["init-broker", "mosquitto", "--dir", "broker", "--user", BYTES],
        ["init-broker", "mosquitto", "--dir", "broker", "--listen", BYTES],
        ["init-broker", "mosquitto", "--dir", "broker", "--run-as", BYTES],
        ["init-broker", "mosquitto", "--dir", "broker", "--tls", "--host", BYTES],
    ],
)
def test_an_argument_that_is_no_utf8(command: list[str], sqlite_url: str) -> None:
    refused(command, 2, NOT_UTF8, MQTT_PRESENCE_DATABASE=sqlite_url)


def test_a_variable_that_is_no_utf8() -> None:
    refused(["watch"], 2, NOT_UTF8, MQTT_PRESENCE_PREFIX=BYTES)


def test_a_path_may_have_any_bytes(tmp_path: Path) -> None:
    """Linux has names of files that are not UTF-8."""
    url = fill(tmp_path / BYTES, 1)
    assert "user00000" in run(["users", "--database", url]).stdout
    refused(["users", "--config", str(tmp_path / f"{BYTES}.toml")], 2, "there is no such file")


@pytest.mark.parametrize("name", ["a" * 64, "a..b"])
@pytest.mark.parametrize("setting", ["host", "web_host"])
def test_a_host_that_no_name_server_would_take(setting: str, name: str) -> None:
    flag = f"--{setting.replace('_', '-')}"
    refused(["up", "--port", "0", "--no-ws", "--open", "--insecure", flag, name], 2, f"{setting}={name[:60]}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("max_users = 0x" + "f" * 5000, "max_users"),
        ("max_users = " + "9" * 5000, "settings.toml"),
        ("idle_threshold = 1e400", "idle_threshold"),
        ("grace = nan", "grace"),
        ("operator = " + "[" * 5000, "settings.toml"),
        ('database = "sqlite:///a\\u0000b"', "database"),
        ('password_file = "a\\u0000b"', "password_file"),
        ('ca_file = "a\\u0000b"', "ca_file"),
        ('host = "a\\u0000b"', "host"),
    ],
)
def test_a_file_of_settings_with_absurd_values(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(line)
    refused(["up", "--port", "0", "--no-ws", "--config", str(tmp_path / "settings.toml")], 2, words)


def test_a_password_that_is_no_utf8(tmp_path: Path) -> None:
    """From standard input, in a locale of UTF-8."""
    ended = subprocess.run(
        [PACKAGE, "passwd", "--stdin", "--password-file", str(tmp_path / "passwords"), "alice"],
        input=b"\xff\xfe\n",
        capture_output=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr == b"mqtt-presence: --stdin: the password is not UTF-8\n"


def test_an_example_with_a_wrong_url_is_one_line() -> None:
    example = Path(__file__).parents[2] / "examples/hello_presence.py"
    ended = subprocess.run(
        [sys.executable, example, "ws:x"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (1, "", 1)


# Output that cannot be written.


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name a database with more users than a pipe holds lines of."""
    return fill(tmp_path_factory.mktemp("crowd") / "presence.db", 3000)


WRITERS = (
    "--help",
    "--version",
    "users --help",
    "users",
    "users --json",
    "history user00001",
    "history user00001 --json",
    "passwd --stdin alice",
    "passwd --stdin --delete alice",
    "init-broker mosquitto --dir {}/broker" + RUN_AS,
    "up --port 0 --ws-port 0 --log-level error",
)


def write(command: str, stdout: int, directory: Path, database: str) -> tuple[int, str]:
    """Run a command that writes to this descriptor; return its exit code and standard error."""
    if "--delete" in command:
        made = run(
            ["passwd", "--stdin", "alice"],
            stdin="x\n",
            MQTT_PRESENCE_PASSWORD_FILE=str(directory / "passwords"),
        )
        assert made.returncode == 0
    ended = subprocess.run(
        [PACKAGE, *command.format(directory).split()],
        input=b"secret\n",
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "MQTT_PRESENCE_WEB": "false",
            "MQTT_PRESENCE_DATABASE": database,
            **({"MQTT_PRESENCE_PASSWORD_FILE": str(directory / "passwords")} if "passwd" in command else {}),
        },
    )
    return ended.returncode, ended.stderr.decode()


@pytest.mark.parametrize("command", WRITERS)
def test_output_to_a_full_device(command: str, crowd: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        code, error = write(command, full.fileno(), tmp_path, crowd)
    assert error == "mqtt-presence: standard output cannot be written: No space left on device\n"
    assert code == CANNOT_WRITE


@pytest.mark.parametrize("command", WRITERS)
def test_output_to_a_reader_who_has_gone(command: str, crowd: str, tmp_path: Path) -> None:
    """As a shell shows it of cat or ls: no word, and the code of SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert write(command, writer, tmp_path, crowd) == (PIPE_CLOSED, "")
    finally:
        os.close(writer)


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_a_reader_who_goes_after_the_first_line(json: tuple[str, ...], crowd: str) -> None:
    """As `| head -1`: what was read is right."""
    with subprocess.Popen(
        [PACKAGE, "users", "--database", crowd, *json],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert (b'"userId":"user00000"' if json else b"USER") in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == PIPE_CLOSED


def test_watch_ends_when_its_reader_has_gone(mosquitto: Mosquitto) -> None:
    """At the next change; what is read before is complete."""
    with subprocess.Popen(
        [PACKAGE, "watch", "--json", "--broker", mosquitto.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        topic, status = "status/alice", '{"userId":"alice","state":"online","online":true,"version":%d}'
        publish(mosquitto, topic, status % 1)
        assert b'"version":1' in process.stdout.readline()
        process.stdout.close()
        publish(mosquitto, topic, status % 2)
        assert process.wait(60) == PIPE_CLOSED
        assert b"Traceback" not in process.stderr.read()


def publish(mosquitto: Mosquitto, topic: str, payload: str) -> None:
    where = ["-h", "127.0.0.1", "-p", str(mosquitto.port)]
    subprocess.run(
        ["mosquitto_pub", *where, "-u", "bridge", "-q", "1", "-r", "-t", topic, "-m", payload],
        check=True,
        timeout=30,
    )


@pytest.mark.parametrize("command", ["users", "history nobody", "watch --broker mqtt://127.0.0.1:1"])
def test_standard_error_to_a_full_device_changes_no_exit_code(command: str, crowd: str) -> None:
    codes = {"users": 0, "history nobody": 1}
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [PACKAGE, *command.split()],
            stdout=subprocess.PIPE,
            stderr=full,
            timeout=60,
            check=False,
            env={"PATH": os.environ["PATH"], "MQTT_PRESENCE_DATABASE": crowd},
        )
    assert ended.returncode == codes.get(command, 1)
    assert (ended.stdout == b"") == (command != "users")


def test_a_wrong_setting_is_one_where_standard_error_is_closed() -> None:
    """The line belongs to standard error; nothing of it comes into the output, and the code stays."""
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" users --database mysql://x 2>&-', PACKAGE],
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert (ended.returncode, ended.stdout) == (2, b"")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_bridge_whose_log_is_full_goes_on(
    log_format: str, mosquitto: Mosquitto, tmp_path: Path, sqlite_url: str
) -> None:
    """The disk of the log is not the disk of the database: what comes is recorded."""
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(
            [PACKAGE, "run", "--broker", mosquitto.url, "--database", sqlite_url, "--log-format", log_format,
             "--log-level", "debug"],
            stdout=full,
            stderr=full,
            env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
    try:
        until(lambda: "presence/+/+/+ (QoS 1)" in (mosquitto.directory / "log").read_text(errors="replace"))
        mosquitto.say("alice", "phone", "login")
        until(lambda: "alice" in run(["users", "--database", sqlite_url]).stdout, deadline_s=30)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
