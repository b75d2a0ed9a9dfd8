"""The mistakes of the first hour: each command ends with one line that names the cause, or logs one."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import Mosquitto
from tests.support.certificates import Authority
from tests.support.commands import COMMAND, Commands, environment
from tests.support.waiting import free_port

MIXED = [
    ("mqtt", "tls", r"mqtts://, ws:// or wss://"),
    ("mqtt", "ws", r"mqtts://, ws:// or wss://"),
    ("mqtts", "plain", r"mqtt://, ws:// or wss://"),
    ("mqtts", "wss", r"mqtt://, ws:// or wss://"),
    ("ws", "plain", r"mqtt://, mqtts:// or wss://"),
    ("ws", "tls", r"mqtt://, mqtts:// or wss://"),
    ("wss", "ws", r"mqtt://, mqtts:// or ws://"),
    ("wss", "tls", r"mqtt://, mqtts:// or ws://"),
]
"""The scheme of a URL, the listener at its port, and the advice."""


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """Run a mosquitto with a listener of each kind; return their ports, and a file of the authority."""
    folder = tmp_path_factory.mktemp("listeners")
    authority = Authority(folder / "ca")
    tls, ws, wss = free_port(), free_port(), free_port()
    secure = {port: authority.listener(port).replace("require_certificate true\n", "") for port in (tls, wss)}
    more = f"{secure[tls]}listener {ws} 127.0.0.1\nprotocol websockets\n{secure[wss]}protocol websockets\n"
    with Mosquitto(folder / "broker", more, users={"bridge": "right"}) as broker:
        yield {"plain": broker.port, "tls": tls, "ws": ws, "wss": wss, "ca": authority.path("ca.crt")}


def run(folder: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(folder, **variables),
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Require this exit code, no output, and one line on standard error with these words."""
    assert (done.returncode, done.stdout) == (code, ""), done
    [line] = done.stderr.splitlines()
    assert line.startswith("mqtt-presence: "), line
    for word in words:
        assert word in line


@pytest.mark.parametrize(("scheme", "listener", "advice"), MIXED)
def test_port_of_another_transport(
    scheme: str, listener: str, advice: str, ports: dict[str, object], tmp_path: Path
) -> None:
    """TLS and plain, MQTT and WebSocket mixed up: the line names the schemes that the port may be for."""
    url = f"{scheme}://bridge:right@127.0.0.1:{ports[listener]}"
    tls = ("--ca-file", ports["ca"]) if scheme in {"mqtts", "wss"} else ()
    done = run(tmp_path, "watch", "--broker", url, *tls)
    assert_one_line(done, 1, f"is port {ports[listener]} for {advice}?")
    assert "right" not in done.stderr


def test_right_ports_need_no_advice(ports: dict[str, object], tmp_path: Path) -> None:
    """Each scheme at its own listener is connected: the wrong password is refused, in the same words by all."""
    for scheme, listener in (("mqtt", "plain"), ("mqtts", "tls"), ("ws", "ws"), ("wss", "wss")):
        url = f"{scheme}://bridge:wrong@127.0.0.1:{ports[listener]}"
        tls = ("--ca-file", ports["ca"]) if scheme in {"mqtts", "wss"} else ()
        for command in ("watch", "run", "verify", "simulate"):
            more = () if command == "watch" else ("--database", f"sqlite:///{tmp_path}/p.db")
            if command == "simulate":
                more = ("--users", "1", "--duration", "1s")
            done = run(tmp_path, command, "--broker", url, *tls, *more)
            last = done.stderr.splitlines()[-1]
            assert done.returncode in (1, 2), done
            assert "refuses us: wrong user name or password" in last, done.stderr
            assert "wrong@" not in done.stderr


def test_certificate_of_an_unknown_authority(ports: dict[str, object], tmp_path: Path) -> None:
    """The line names the reason of OpenSSL, and no other port."""
    done = run(tmp_path, "watch", "--broker", f"mqtts://bridge@127.0.0.1:{ports['tls']}")
    assert_one_line(done, 1, "certificate verify failed")
    assert "is port" not in done.stderr


def test_no_broker_at_the_port(tmp_path: Path) -> None:
    """The line names the address, and no other scheme."""
    port = free_port()
    done = run(tmp_path, "watch", "--broker", f"mqtt://127.0.0.1:{port}")
    assert_one_line(done, 1, f"mqtt://127.0.0.1:{port} cannot be reached", "Connection refused")
    assert "is port" not in done.stderr


def test_unknown_host(tmp_path: Path) -> None:
    done = run(tmp_path, "watch", "--broker", "mqtt://no-such-host.invalid")
    assert_one_line(done, 1, "mqtt://no-such-host.invalid:1883 cannot be reached")


def test_port_in_use(tmp_path: Path) -> None:
    """`up` names the port and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(
            tmp_path, "up", "--port", port, "--no-ws", "--no-web", "--database", f"sqlite:///{tmp_path}/p.db"
        )
    assert_one_line(done, 1, f"port={port}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('broker = "mqtt://x', ("Unterminated string",)),
        ("brokr = 1\n", ("brokr: there is no such setting", "did you mean broker?")),
        ('idle_threshold = "soon"\n', ("idle_threshold",)),
        ('broker = "http://localhost"\n', ("broker", "must begin with mqtt://")),
    ],
)
@pytest.mark.parametrize("place", ["given", "default"])
def test_wrong_settings_file(text: str, words: tuple[str, ...], place: str, tmp_path: Path) -> None:
    """A file that is no TOML, an unknown setting, a wrong value: in the file given, and in the default one."""
    folder = tmp_path / "mqtt-presence"
    folder.mkdir()
    path = folder / "settings.toml"
    path.write_text(text)
    more = ("--config", path) if place == "given" else ()
    done = run(tmp_path, "run", *more, **({} if more else {"XDG_CONFIG_HOME": str(tmp_path)}))
    assert_one_line(done, 2, str(path), *words)


def test_default_settings_file_counts_least(tmp_path: Path) -> None:
    """The file in the user's directory is read; another file given, a variable or a flag replaces it."""
    folder = tmp_path / "mqtt-presence"
    folder.mkdir()
    (folder / "settings.toml").write_text('database = "sqlite:////nowhere/default.db"\n')
    other = tmp_path / "other.toml"
    other.write_text('database = "sqlite:////nowhere/other.db"\n')
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert "default.db" in run(tmp_path, "users", **home).stderr
    assert "other.db" in run(tmp_path, "users", "--config", other, **home).stderr
    assert "other.db" in run(tmp_path, "users", **home, MQTT_PRESENCE_CONFIG=str(other)).stderr
    flag = run(tmp_path, "users", "--database", "sqlite:////nowhere/flag.db", **home)
    assert "flag.db" in flag.stderr


def test_misspelt_command_and_option(tmp_path: Path) -> None:
    assert "No such command 'usrs'" in run(tmp_path, "usrs").stderr
    assert "--brokr" in run(tmp_path, "watch", "--brokr", "x").stderr


@pytest.mark.parametrize("command", [("run",), ("up", "--port", "0", "--no-ws", "--no-web")])
def test_database_on_a_read_only_disk(command: tuple[str, ...], tmp_path: Path) -> None:
    """A file system that may not be written: the line has the path and the reason."""
    done = run(tmp_path, *command, "--database", "sqlite:////proc/presence.db")
    assert_one_line(done, 1, "/proc/presence.db")


def test_restart_of_up_logs_nothing_that_reads_like_damage(commands: Commands, tmp_path: Path) -> None:
    """A broker that begins without statuses is normal for `up`: no warning, neither at the first start nor later."""
    where = ["--database", f"sqlite:///{tmp_path}/p.db", "--no-ws", "--no-web", "--port", str(free_port())]
    for start in range(3):
        up = commands.start("up", *where)
        up.says("session new")
        if start == 0:
            port = where[-1]
            subprocess.run(
                [
                    "mosquitto_pub",
                    "-p",
                    port,
                    "-u",
                    "a",
                    "-i",
                    "a",
                    "-q",
                    "1",
                    "-n",
                    "-t",
                    "presence/a/a/login",
                ],
                check=True,
            )
        seen = subprocess.run(
            ["mosquitto_sub", "-p", where[-1], "-u", "me", "-t", "status/a", "-C", "1", "-W", "20"],
            check=True,
            capture_output=True,
        )
        assert b'"userId":"a"' in seen.stdout
        assert up.end() == 0
        log = up.err.lower()
        assert not [
            line for line in log.splitlines() if " warning " in line or " error " in line or "lost" in line
        ]


def test_several_seats_need_postgresql_and_no_reports(tmp_path: Path) -> None:
    """The one line names the setting."""
    for more in ((), ("--source=mosquitto",)):
        database = f"--database=sqlite:///{tmp_path}/presence.db"
        ended = run(tmp_path, "run", "--seats=2", database, *more)
        assert ended.returncode == 2
        assert "seats" in ended.stderr
