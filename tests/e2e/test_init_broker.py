"""`mqtt-presence init-broker`: what it writes is started with the commands it prints, and tried from outside."""

import os
import re
import shlex
import ssl
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mqtt_presence.cli.app import app
from mqtt_presence.errors import ConfigError
from mqtt_presence.tools.init_broker.certificates import Authority
from mqtt_presence.tools.init_broker.file_plan import FilePlan, Tls
from mqtt_presence.tools.shipped_files import replace_lines
from tests.support.bridges import BridgeProcess
from tests.support.peer import Peer, RefusedError
from tests.support.sockets import listening
from tests.support.waiting import free_port, listens, until

ROOT = Path(__file__).parents[2]
AS_ROOT = ["--run-as", "root"] if os.geteuid() == 0 else []  # pytest's directories are closed to others


def init(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return its exit code and both outputs."""
    run = CliRunner().invoke(app, ["init-broker", *arguments])
    return run.exit_code, run.stdout, run.stderr


class InstalledBroker:
    """An installed set of files, with the processes of its two commands."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        self.ports = {name: free_port() for name in ("port", "ws-port", "tls-port", "wss-port")}
        options = [f"--{name}={port}" for name, port in self.ports.items()]
        code, self.said, complaints = init(
            "mosquitto", "--dir", str(directory), "--user", "alice", "--user", "mallory",
            *options, *flags, *AS_ROOT,
        )  # fmt: skip
        assert (code, complaints) == (0, ""), complaints
        self.passwords = dict(
            line.rsplit(" ", 1)
            for line in (directory / "passwords.txt").read_text().splitlines()
            if not line.startswith("#")
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        self._peers: list[Peer] = []

    @property
    def commands(self) -> list[list[str]]:
        lines = self.said.partition("Start the broker, then the bridge:\n")[2].splitlines()
        return [shlex.split(line) for line in lines if line]

    def start(self, listener: str = "port") -> None:
        """Run both printed commands, and wait until the bridge receives clients' messages."""
        _, bridge = self.commands
        self.start_broker()
        until(lambda: listens(self.ports[listener]), "the broker listens")
        self._run(bridge, "bridge")
        with_bridge = self.peer("operator", "op-early", filters=("bridge/state",))
        with_bridge.wait_for("bridge/state", b'"online"')

    def start_broker(self) -> int:
        """Run the first printed command; return the id of its process."""
        self._run(self.commands[0], "broker")
        return self._processes[-1].pid

    def _run(self, command: list[str], name: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MQTT_PRESENCE_")}
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=kept))

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def peer(self, user: str, client_id: str, listener: str = "port", **how) -> Peer:
        """Connect to one of the listeners, with the password of the file."""
        path = "/mqtt" if listener.startswith("ws") else None
        how.setdefault("password", self.passwords.get(user))
        made = Peer(self.ports[listener], user, client_id, path=path, **how)
        self._peers.append(made)
        return made

    def trust(self, user: str | None = None) -> ssl.SSLContext:
        """Trust the set's authority, and show a user's certificate."""
        context = ssl.create_default_context(cafile=str(self.directory / "tls/ca.crt"))
        if user is not None:
            clients = self.directory / "tls/clients"
            context.load_cert_chain(clients / f"{user}.crt", clients / f"{user}.key")
        return context

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        for process in reversed(self._processes):
            process.kill()
            process.wait(10)


@pytest.fixture
def made(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[InstalledBroker]:
    """Make a set with the flags of the test, and start it."""
    one = InstalledBroker(tmp_path / "set", *getattr(request, "param", ()))
    try:
        one.start()
        yield one
    finally:
        one.close()


def log_in_and_die(made: InstalledBroker, listener: str, **how) -> None:
    """Check that a client's login and its will change the status."""
    name = f"pad-{listener}"
    operator = made.peer("operator", f"op-{listener}", filters=("status/+", "events/+/+"))
    alice = made.peer("alice", name, listener, will=(f"presence/alice/{name}/will", b""), **how)
    assert alice.publish(f"presence/alice/{name}/login", b"")
    operator.wait_for("status/alice", b'"state":"online"')
    alice.die()
    operator.wait_for("status/alice", b'"state":"offline"')
    assert b'"reason":"lost"' in operator.wait_for("events/alice/connectionLogout")


def assert_no_forgery(made: InstalledBroker, listener: str, **how) -> None:
    """Check that mallory's messages and wills do not count as alice's or the bridge's."""
    operator = made.peer("operator", f"op-f-{listener}", filters=("status/+", "events/+/+"))
    for number, topic in enumerate(
        ("presence/alice/pad/login", "presence/mallory/pad/login", "status/alice")
    ):
        name = f"m{number}-{listener}"
        mallory = made.peer("mallory", name, listener, will=(topic, b""), **how)
        mallory.publish(topic, b"", retain=topic.startswith("status"))
        mallory.die()
        until(lambda name=name: f"Client {name} closed" in made.log("broker"), f"{name} is gone")
    honest = made.peer("mallory", f"m-{listener}", listener, **how)
    honest.publish(f"presence/mallory/m-{listener}/login", b"")
    operator.wait_for("events/mallory/connectionLogin")
    assert not [
        topic for topic, _, was_there_before in operator.heard if "alice" in topic and not was_there_before
    ]


# The set, without TLS.


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.0.0.9"])
def test_listeners_without_tls_are_at_the_address_alone(tmp_path: Path, address: str) -> None:
    """For both ports, the kernel lists the address of the file, and no other."""
    made = InstalledBroker(tmp_path / "set", "--listen", address)
    try:
        broker = made.start_broker()
        wanted = {(address, made.ports[name]) for name in ("port", "ws-port")}
        until(lambda: len(listening(broker)) >= len(wanted), "the broker listens")
        assert listening(broker) == wanted
    finally:
        made.close()


def test_listeners_with_tls_are_the_only_ones_for_the_network(tmp_path: Path) -> None:
    """With TLS, the listeners without TLS keep their addresses."""
    made = InstalledBroker(tmp_path / "set", "--tls")
    try:
        broker = made.start_broker()
        until(lambda: {port for _, port in listening(broker)} == set(made.ports.values()), "all ports listen")
        local = {port for address, port in listening(broker) if address == "127.0.0.1"}
        assert local == {made.ports["port"], made.ports["ws-port"]}
        assert {port for address, port in listening(broker) if address != "127.0.0.1"}.isdisjoint(local)
    finally:
        made.close()


def test_printed_commands_start_broker_and_bridge(made: InstalledBroker) -> None:
    """Logins, kills and ends work over TCP and WebSocket; no client can publish for another."""
    assert_no_forgery(made, "port")
    log_in_and_die(made, "port")
    log_in_and_die(made, "ws-port")
    with pytest.raises(RefusedError):
        made.peer("alice", "pad", password="wrong")
    with pytest.raises(RefusedError):
        made.peer("alice", "pad", password=None)
    assert "Denied" not in made.log("bridge")
    assert "rights" not in made.log("bridge")


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """Files with secrets are closed to others; the output names the files but no password."""
    made = InstalledBroker(tmp_path / "set", "--tls", "--client-certificates")
    names = {path.relative_to(made.directory).as_posix(): path for path in made.directory.rglob("*.*")}
    names |= {name: made.directory / name for name in ("acl", "passwd", "data")}
    modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in names.items()}
    open_ones = {name for name, mode in modes.items() if mode & 0o077}
    assert open_ones == {"mosquitto.conf", *(name for name in names if name.endswith(".crt"))}
    bridge = tomllib.loads((made.directory / "bridge.toml").read_text())
    assert len(set(made.passwords.values())) == 3
    for secret in made.passwords.values():
        assert len(secret) == 24
        assert secret not in made.said
        assert secret not in (made.directory / "passwd").read_text()
    assert "passwords.txt" in made.said
    assert bridge["cert_file"] in {str(path) for path in names.values()}


def test_umask_does_not_lock_the_broker_out(tmp_path: Path) -> None:
    """With a strict umask of root, the broker's account can still read its files, and no others."""
    before = os.umask(0o077)
    try:
        made = InstalledBroker(tmp_path / "set", "--tls", "--client-certificates")
    finally:
        os.umask(before)
    modes = {
        name: stat.S_IMODE((made.directory / name).stat().st_mode)
        for name in (".", "tls", "tls/ca.crt", "data")
    }
    way_in = 0o755 if os.geteuid() == 0 else 0o700
    assert modes == {".": way_in, "tls": way_in, "tls/ca.crt": 0o644, "data": 0o700}
    assert stat.S_IMODE((made.directory / "bridge.toml").stat().st_mode) == 0o600


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    """A second run changes nothing and names the files; with --force all secrets are new."""
    made = InstalledBroker(tmp_path / "set")
    before = {path: path.read_bytes() for path in made.directory.rglob("*.*")}
    code, said, complaint = init("mosquitto", "--dir", str(made.directory), *AS_ROOT)
    assert (code, said) == (2, "")
    assert "passwords.txt" in complaint
    assert "--force" in complaint
    assert {path: path.read_bytes() for path in made.directory.rglob("*.*")} == before
    again = InstalledBroker(made.directory, "--force")
    assert not set(again.passwords.values()) & set(made.passwords.values())
    assert not [path.name for path in made.directory.iterdir() if path.name.startswith(".")]


def test_options_are_in_the_files(tmp_path: Path) -> None:
    """The files have the chosen prefix, operators and listeners, and no others."""
    made = InstalledBroker(
        tmp_path / "set", "--prefix", "acme", "--operator", "eve", "--operator", "bob", "--no-ws"
    )
    rights = [x for x in (made.directory / "acl").read_text().splitlines() if x and not x.startswith("#")]
    assert [x for x in rights if x.startswith("user")] == ["user bridge", "user eve", "user bob"]
    topics = [x.split(" ")[2] for x in rights if not x.startswith("user")]
    assert all(x.startswith(("acme/", "$SYS/")) for x in topics)
    assert rights.count("topic read acme/events/+/+") == 2
    settings = (made.directory / "mosquitto.conf").read_text().splitlines()
    assert [x for x in settings if x.startswith("listener")] == [f"listener {made.ports['port']} 127.0.0.1"]
    bridge = tomllib.loads((made.directory / "bridge.toml").read_text())
    assert (bridge["prefix"], f"{made.ports['port']}" in bridge["broker"]) == ("acme/", True)
    assert list(made.passwords) == ["eve", "bob", "alice", "mallory"]


# TLS.


@pytest.mark.parametrize("made", [("--tls",)], indirect=True)
def test_tls_with_passwords(made: InstalledBroker) -> None:
    """Passwords work with mqtts and wss; the broker's certificate is valid for this machine's names."""
    for listener in ("tls-port", "wss-port"):
        log_in_and_die(made, listener, tls=made.trust())
        with pytest.raises(RefusedError):
            made.peer("alice", "pad", listener, tls=made.trust(), password="wrong")
        with pytest.raises(RefusedError, match="CERTIFICATE_VERIFY_FAILED"):
            made.peer("alice", "pad", listener, tls=ssl.create_default_context())
    assert "mqtts://bridge@localhost" in made.log("bridge")


@pytest.mark.parametrize(
    "made", [("--tls", "--client-certificates", "--host", "broker.example")], indirect=True
)
def test_client_certificates(made: InstalledBroker, tmp_path: Path) -> None:
    """The certificate names the user, for any CONNECT; none, or one of another authority, is refused."""
    stranger = Authority()
    forged = stranger.client("alice")
    (tmp_path / "forged.pem").write_bytes(forged.certificate + forged.key)
    for listener in ("tls-port", "wss-port"):
        log_in_and_die(made, listener, tls=made.trust("alice"), password=None)
        assert_no_forgery(made, listener, tls=made.trust("mallory"), password=None)
        liar = made.peer("alice", "pad", listener, tls=made.trust("mallory"), password=None)
        liar.publish("presence/alice/pad/login", b"")
        until(lambda: "as pad (" in made.log("broker"), "the broker has told who came")
        assert "u'mallory'" in [x for x in made.log("broker").splitlines() if "as pad (" in x][-1]
        with pytest.raises(RefusedError):
            made.peer("alice", "pad2", listener, tls=made.trust())
        other = made.trust()
        other.load_cert_chain(tmp_path / "forged.pem")
        with pytest.raises(RefusedError):
            made.peer("alice", "pad3", listener, tls=other, password=None)
    assert not [x for x in made.log("broker").splitlines() if "as pad2 (" in x or "as pad3 (" in x]


@pytest.mark.parametrize(
    "made", [("--tls", "--client-certificates", "--host", "broker.example")], indirect=True
)
def test_bridge_over_wss_with_its_certificate(made: InstalledBroker, tmp_path: Path) -> None:
    """The bridge's certificate works over WebSocket too; the server's has the given names."""
    clients = made.directory / "tls/clients"
    with BridgeProcess(
        tmp_path / "wss.log",
        broker=f"wss://bridge@localhost:{made.ports['wss-port']}",
        database=f"sqlite:///{tmp_path / 'wss.db'}",
        ca_file=made.directory / "tls/ca.crt",
        cert_file=clients / "bridge.crt",
        key_file=clients / "bridge.key",
    ) as bridge:
        assert "wss://bridge@localhost" in bridge.log()
    shown = subprocess.run(
        ["openssl", "x509", "-in", made.directory / "tls/server.crt", "-noout", "-ext", "subjectAltName"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "DNS:broker.example, DNS:localhost, IP Address:127.0.0.1" in shown


def documented(mark: str, directory: Path) -> None:
    """Run a block of docs/mosquitto.md, in the set's directory."""
    text = (ROOT / "docs/mosquitto.md").read_text()
    found = re.findall(rf"<!-- run: {mark} -->\n```bash\n(.*?)\n```", text, re.DOTALL)
    assert len(found) == 1
    assert "/etc/mqtt-presence" in found[0]
    block = found[0].replace("/etc/mqtt-presence", str(directory))
    subprocess.run(["bash", "-euo", "pipefail", "-c", block], check=True, capture_output=True)


def test_one_more_user_and_a_renewed_certificate(tmp_path: Path) -> None:
    """By the documentation: carol's new certificate works, and clients trust the broker's new one."""
    made = InstalledBroker(tmp_path / "set", "--tls", "--client-certificates", "--host", "broker.example")
    before = (made.directory / "tls/server.crt").read_bytes()
    documented("user", made.directory)
    documented("renew", made.directory)
    assert (made.directory / "tls/server.crt").read_bytes() != before
    try:
        made.start()
        operator = made.peer("operator", "op", filters=("status/+",))
        for listener in ("tls-port", "wss-port"):
            name = f"pad-{listener}"
            carol = made.peer("carol", name, listener, tls=made.trust("carol"))
            carol.publish(f"presence/carol/{name}/login", b"")
            operator.wait_for("status/carol", b'"state":"online"')
            carol.publish(f"presence/carol/{name}/logout", b"")
            operator.wait_for("status/carol", b'"state":"offline"')
    finally:
        made.close()
    assert stat.S_IMODE((made.directory / "tls/clients/carol.key").stat().st_mode) == 0o600


# What goes wrong.


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["emqx"],
            "broker=emqx: init-broker writes files for mosquitto only; those of emqx are in broker_config/",
        ),
        (["mosqito"], "broker=mosqito: init-broker knows mosquitto"),
        (["mosquitto", "--user", "a/b"], "user='a/b' must be 1 to 128 characters"),
        (["mosquitto", "--user", "a:b"], "user='a:b' must not contain :"),
        (["mosquitto", "--operator", "bridge"], "operator=bridge is the bridge's own name"),
        (["mosquitto", "--port", "0"], "port=0 must be 1 to 65535"),
        (["mosquitto", "--ws-port", "1883"], "port=1883 is given to two listeners"),
        (["mosquitto", "--host", "x"], "host: needs --tls"),
        (["mosquitto", "--tls", "--host", "a b"], "host='a b' must be the name or address"),
        (["mosquitto", "--listen", "nowhere at all"], "listen='nowhere at all' must be an address"),
        (["mosquitto", "--listen", "localhost"], "listen='localhost' must be an address"),
        (
            ["mosquitto", "--tls", "--client-certificates", "--user", "x" * 65],
            "is too long for a certificate",
        ),
        (["mosquitto", "--prefix", "a/+/"], "prefix='a/+/'"),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    """One line names the option; the exit code is 2, and no file is written."""
    code, said, complaints = init(*arguments, "--dir", str(tmp_path / "set"), *AS_ROOT)
    assert (code, said) == (2, "")
    assert complaint in complaints
    assert len(complaints.splitlines()) == 1
    assert not (tmp_path / "set").exists()


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names the directory."""
    (tmp_path / "file").touch()
    code, _, complaint = init("mosquitto", "--dir", str(tmp_path / "file/set"), *AS_ROOT)
    assert (code, "file/set" in complaint) == (2, True)


def test_account_must_be_able_to_enter(tmp_path: Path) -> None:
    """Root can install for another account only in a directory that the account may enter."""
    tmp_path.chmod(0o700)
    account = "nobody"
    code, _, complaint = init("mosquitto", "--dir", str(tmp_path / "set"), "--run-as", account)
    assert code == 2
    wanted = f"may not enter {tmp_path}" if os.geteuid() == 0 else "only root can give files"
    assert wanted in complaint


def test_port_in_use_is_reported(tmp_path: Path) -> None:
    """Debian starts its own mosquitto: the command reports that before the broker does."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said, complaint = init(
            "mosquitto", "--dir", str(tmp_path / "set"), "--port", str(port), "--no-ws", *AS_ROOT
        )
    assert (code, "Start the broker" in said) == (0, True)
    assert f"port={port} is in use" in complaint


def test_passwords_in_the_clear_are_reported(tmp_path: Path) -> None:
    """A network listener without TLS gives a warning."""
    for number, address in enumerate(("0.0.0.0", "")):
        directory = tmp_path / str(number)
        ports = ["--port", str(free_port()), "--no-ws"]
        code, _, complaint = init("mosquitto", "--dir", str(directory), "--listen", address, *ports, *AS_ROOT)
        assert (code, "in the clear" in complaint) == (0, True)
        listeners = [
            x for x in (directory / "mosquitto.conf").read_text().splitlines() if x.startswith("listener")
        ]
        assert listeners == [f"listener {ports[1]} {address}".rstrip()]
        broker = tomllib.loads((directory / "bridge.toml").read_text())["broker"]
        assert broker.endswith(f"@127.0.0.1:{ports[1]}")


# The parts.


def test_template_must_have_the_replaced_lines() -> None:
    """A missing line in the template is an error, not a gap in the configuration."""
    assert replace_lines("a\nb\n", {"b": "c\nd"}) == "a\nc\nd\n"
    assert replace_lines("a\nb", {"a": None}) == "b"
    with pytest.raises(LookupError, match="'x' is 0 times"):
        replace_lines("a\nb\n", {"x": "y"})


def test_plan_shows_no_secret_and_holds_its_limits(tmp_path: Path) -> None:
    """Each name appears once, operators first; a directory with unprintable characters is refused."""
    plan = FilePlan(tmp_path, users=("a", "b"), operators=("b",))
    assert plan.users_and_operators == ("b", "a")
    with pytest.raises(ConfigError, match="dir="):
        FilePlan(Path("/x\ny"))
    assert Tls(hosts=("::1", "192.0.2.1", "a-b.example")).hosts
    assert "PRIVATE KEY" not in repr(Authority().client("a"))
