"""The brokers, each started from its shipped files with ports, paths and passwords replaced.

Processes of our own on loopback, ended by their ids; nothing of a system's installation is touched.
"""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from mqtt_presence.tools.init_broker import mosquitto_files
from mqtt_presence.tools.init_broker.certificates import Authority, Pem
from mqtt_presence.tools.init_broker.file_installer import install
from mqtt_presence.tools.init_broker.file_plan import FilePlan, Tls
from mqtt_presence.tools.init_broker.mosquitto_hashes import mosquitto_hash
from tests.support.peer import Peer
from tests.support.sockets import listening, with_children
from tests.support.waiting import free_port, listens, until

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "broker_config"
BIN = Path(sys.executable).parent
TLS = ("mqtts", "wss")
USERS = ("bridge", "operator", "alice", "mallory", "homeassistant")


def password(user: str) -> str:
    return f"secret-of-{user}"


def replaced(text: str, changes: dict[str, str]) -> str:
    """Replace texts that must appear exactly once, so that the tests use the shipped files."""
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the shipped file"
        text = text.replace(old, new)
    return text


def _signal(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    """Signal a process with its children: RabbitMQ's is a shell with Erlang below."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, sign)


class Rig:
    """A broker.

    Args:
        directory: its own, empty.

    """

    name: str
    transports: tuple[str, ...] = ("mqtt", "ws", "mqtts", "wss")
    ws_path = "/mqtt"
    mqtt5 = False
    ties_client_id = True
    """Whether rights include the client id: one device of a user cannot publish for another."""
    has_wildcard_replay = True
    """Whether a subscription with wildcards delivers retained messages."""
    refuses_subscriptions = True
    """Whether forbidden subscriptions are refused; otherwise they deliver no messages."""
    keeps_sessions = True
    """Whether sessions survive a restart."""
    foreign_id = "kicks"
    """The effect of another user's client id: it ``kicks`` the client, is ``refused``, or has a session ``apart``."""

    unlimited: tuple[str, ...] = ()
    """Transports without a limit of the packet size."""

    failures: frozenset[str] = frozenset()
    """Failures of `mqtt-presence check` that no configuration can avoid."""
    recognised = "not recognised"
    """The beginning of the broker's description by `mqtt-presence check`."""
    takeover = "will, login"
    """The bridge's messages at a takeover by the same client; also ``login``, or ``both`` in any order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = {name: free_port() for name in ("mqtt", "ws", "mqtts", "wss")}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._peers: list[Peer] = []
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = Authority()
        server = self.authority.server(())
        for file, data in {
            "ca.crt": self.authority.pem.certificate,
            "server.crt": server.certificate,
            "server.key": server.key,
            "server.pem": server.certificate + server.key,
        }.items():
            (directory / file).write_bytes(data)

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
            self.add_users()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What differs.

    def prepare(self) -> None:
        """Write the configuration."""
        raise NotImplementedError

    def start(self) -> None:
        """Start, and wait until all listeners are open."""
        raise NotImplementedError

    def add_users(self) -> None:
        """Make the users, if that needs a running broker."""

    def stop(self) -> None:
        """End the broker as an operator would."""
        for process in reversed(self._processes):
            _signal(process, signal.SIGTERM)
            process.wait(30)
        self._processes.clear()

    # What does not.

    def url(self, user: str, transport: str = "") -> str:
        transport = transport or self.transports[0]
        path = self.ws_path if transport.startswith("ws") else ""
        host = "localhost" if transport in TLS else "127.0.0.1"
        return f"{transport}://{user}:{password(user)}@{host}:{self.ports[transport]}{path}"

    def trust(self, transport: str = "") -> dict[str, Path]:
        """Return the bridge's flags besides the URL."""
        return {"ca_file": self.directory / "ca.crt"} if (transport or self.transports[0]) in TLS else {}

    def peer(self, user: str, client_id: str, transport: str = "", **how) -> Peer:
        """Connect a client."""
        transport = transport or self.transports[0]
        how.setdefault("password", password(user))
        if transport.startswith("ws"):
            how["path"] = self.ws_path
        if transport in TLS:
            how.setdefault("tls", self.context())
        made = Peer(self.ports[transport], user, client_id, **how)
        self._peers.append(made)
        return made

    def context(self, certificate: Pem | None = None) -> ssl.SSLContext:
        """Trust the broker, and send a certificate."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        if certificate is not None:
            path = self.directory / "client.pem"
            path.write_bytes(certificate.certificate + certificate.key)
            context.load_cert_chain(path)
        return context

    def run(self, command: list[str | Path], *, is_up: Callable[[], bool], **variables: str) -> None:
        """Start a process, and wait until it is up."""
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                env=os.environ | {"HOME": str(self.directory)} | variables,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)

        def looks_up() -> bool:
            assert process.poll() is None, f"{self.name} has ended\n{self.log()}"
            return is_up()

        try:
            until(looks_up, f"{self.name} is up", deadline_s=60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def listening(self) -> set[tuple[str, int]]:
        """Return the listening addresses of its processes, as the kernel lists them."""
        return listening(*(pid for process in self._processes for pid in with_children(process.pid)))

    def listens(self, *ports: str) -> bool:
        return all(listens(self.ports[port]) for port in ports or self.ports)

    def log(self) -> str:
        return self.whole_log()[-4000:]

    def whole_log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        for process in reversed(self._processes):
            _signal(process, signal.SIGKILL)
            process.wait(20)
        self._processes.clear()


class Mosquitto(Rig):
    """mosquitto with the shipped files, filled in by `init-broker`."""

    name = "mosquitto"
    recognised = name
    mqtt5 = True
    refuses_subscriptions = False

    def prepare(self) -> None:
        ports = self.ports
        plan = FilePlan(
            self.directory / "set",
            users=USERS[1:],
            port=ports["mqtt"],
            ws_port=ports["ws"],
            tls=Tls(ports["mqtts"], ports["wss"]),
            run_as="root" if os.geteuid() == 0 else None,  # pytest's directories are closed to others
        )
        install(
            plan.directory, mosquitto_files.files(plan), mosquitto_files.DATA, run_as=plan.run_as, force=False
        )
        hashed = "".join(f"{user}:{mosquitto_hash(password(user))}\n" for user in USERS)
        (plan.directory / "passwd").write_text(hashed)
        acl = plan.directory / "acl"
        lines = ("user homeassistant", "topic read homeassistant/#", "topic write homeassistant/status")
        acl.write_text(replaced(acl.read_text(), {f"#{line}": line for line in lines}))
        shutil.copy(plan.directory / mosquitto_files.CA, self.directory / "ca.crt")

    def start(self) -> None:
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.run([binary, "-c", self.directory / "set/mosquitto.conf"], is_up=self.listens)


class Ejabberd(Rig):
    name = "ejabberd"
    recognised = name
    takeover = "both"
    foreign_id = "apart"
    mqtt5 = True
    keeps_sessions = False
    unlimited = ("ws", "wss")

    def prepare(self) -> None:
        text = (SHIPPED / "ejabberd/ejabberd.yml").read_text()
        text = replaced(
            text,
            {
                '#certfiles: ["/etc/ejabberd/certs/server.pem"]': f'certfiles: ["{self.directory}/server.pem"]',
                "  #- port: 8883\n  #  module: mod_mqtt\n  #  backlog: 1000\n  #  max_payload_size: 65536\n  #  tls: true\n":
                    f"  - port: {self.ports['mqtts']}\n    module: mod_mqtt\n    backlog: 1000\n    max_payload_size: 65536\n    tls: true\n",
                "  #- port: 8884\n  #  module: ejabberd_http\n  #  tls: true\n  #  request_handlers:\n  #    /mqtt: mod_mqtt\n":
                    f"  - port: {self.ports['wss']}\n    module: ejabberd_http\n    tls: true\n    request_handlers:\n      /mqtt: mod_mqtt\n",
                "port: 1883\n": f"port: {self.ports['mqtt']}\n",
                "port: 9001\n": f"port: {self.ports['ws']}\n",
            },
        )  # fmt: skip
        (self.directory / "ejabberd.yml").write_text(text)

    def start(self) -> None:
        # Without a node name there is no epmd and no cookie, and nothing to collide with; so users are made from within.
        users = ",".join(f'{{<<"{user}">>,<<"{password(user)}">>}}' for user in USERS)
        make = f'[ejabberd_auth:try_register(U,<<"localhost">>,P)||{{U,P}}<-[{users}]],io:format("users made~n").'
        before = self.whole_log().count("users made")
        self.run(
            ["erl", "-noinput", "-mnesia", "dir", f'"{self.directory}/mnesia"', "-s", "ejabberd", "-eval", make],
            is_up=lambda: self.whole_log().count("users made") > before and self.listens(),
            ERL_LIBS=next(str(p.parent) for p in Path("/usr/lib").glob("*/ejabberd-[0-9]*")),
            EJABBERD_CONFIG_PATH=f"{self.directory}/ejabberd.yml",
            EJABBERD_LOG_PATH=f"{self.directory}/ejabberd.log",
        )  # fmt: skip


class RabbitMQ(Rig):
    name = "rabbitmq"
    failures = frozenset({"retained", "other-client"})
    takeover = "login"
    ws_path = "/ws"
    unlimited = Rig.transports
    ties_client_id = False
    has_wildcard_replay = False

    def prepare(self) -> None:
        shutil.copy(SHIPPED / "rabbitmq/enabled_plugins", self.directory / "enabled_plugins")
        environment = replaced(
            (SHIPPED / "rabbitmq/rabbitmq-env.conf").read_text(),
            {"NODENAME=rabbit@": f"NODENAME=presence-{os.getpid()}@"},
        )
        (self.directory / "rabbitmq-env.conf").write_text(environment)
        text = (SHIPPED / "rabbitmq/rabbitmq.conf").read_text()
        changes = {
            "listeners.tcp.1 = 127.0.0.1:5672": f"listeners.tcp.1 = 127.0.0.1:{free_port()}",
            "mqtt.listeners.tcp.1 = 127.0.0.1:1883": f"mqtt.listeners.tcp.1 = 127.0.0.1:{self.ports['mqtt']}",
            "web_mqtt.tcp.port = 9001": f"web_mqtt.tcp.port = {self.ports['ws']}",
            "#mqtt.listeners.ssl.1 = 8883": f"mqtt.listeners.ssl.1 = 127.0.0.1:{self.ports['mqtts']}",
            "#web_mqtt.ssl.ip = 0.0.0.0": "web_mqtt.ssl.ip = 127.0.0.1",
            "#web_mqtt.ssl.port = 8884": f"web_mqtt.ssl.port = {self.ports['wss']}",
        }
        lines = text.splitlines()
        for old, new in changes.items():
            assert lines.count(old) == 1, old
            lines[lines.index(old)] = new
        wanted = ("#ssl_options.", "#web_mqtt.ssl.")
        text = "\n".join(x[1:] if x.startswith(wanted) else x for x in lines) + "\n"
        text = text.replace("/etc/rabbitmq/certs", str(self.directory))
        (self.directory / "rabbitmq.conf").write_text(text)
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text("presence-test")
        cookie.chmod(0o400)
        self._epmd = free_port()

    @property
    def _variables(self) -> dict[str, str]:
        return {
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_MNESIA_BASE": f"{self.directory}/mnesia",
            "RABBITMQ_LOG_BASE": f"{self.directory}/logs",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": f"{self.directory}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.directory}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{self.directory}/rabbitmq-env.conf",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "HOME": str(self.directory),
        }

    def start(self) -> None:
        # An epmd of our own: one that Erlang starts by itself would stay behind, and serve everybody.
        self.run(
            ["epmd", "-port", str(self._epmd), "-address", "127.0.0.1"], is_up=lambda: listens(self._epmd)
        )
        self.run(["/usr/lib/rabbitmq/bin/rabbitmq-server"], is_up=self.listens, **self._variables)

    def add_users(self) -> None:
        subprocess.run(
            [SHIPPED / "rabbitmq/users.sh"],
            input="".join(f"{user} {password(user)}\n" for user in USERS).encode(),
            env=os.environ | self._variables | {"RABBITMQCTL": "/usr/lib/rabbitmq/bin/rabbitmqctl"},
            check=True,
            timeout=120,
        )


class Nats(Rig):
    name = "nats"
    recognised = name
    failures = frozenset({"other-client"})
    takeover = "login"
    transports = ("mqtt", "ws")
    ties_client_id = False

    def prepare(self) -> None:
        text = replaced(
            (SHIPPED / "nats/nats.conf").read_text(),
            {
                "127.0.0.1:4222": f"127.0.0.1:{free_port()}",
                "/var/lib/nats": f"{self.directory}/store",
                "127.0.0.1:1883": f"127.0.0.1:{self.ports['mqtt']}",
                "127.0.0.1:9001": f"127.0.0.1:{self.ports['ws']}",
                **{f"CHANGE-ME {user}": password(user) for user in USERS if user != "mallory"},
            },
        )
        hass = text[text.index("      #{ user: homeassistant,") : text.index("      # One such block")]
        text = text.replace(hass, hass.replace("#", ""))
        alice = text[text.index("      { user: alice,") : text.index("    ]\n  }\n}\n")]
        text = text.replace(alice, alice + alice.replace("alice", "mallory"))
        (self.directory / "nats.conf").write_text(self.changed(text))

    def changed(self, text: str) -> str:
        return text

    def start(self) -> None:
        self.run([BIN / "nats-server", "-c", "nats.conf"], is_up=lambda: self.listens("mqtt", "ws"))


class NatsTls(Nats):
    """NATS with the TLS blocks: it has one listener of each kind, with or without TLS."""

    name = "nats-tls"
    transports = ("mqtts", "wss")

    def changed(self, text: str) -> str:
        self.ports |= {"mqtts": self.ports["mqtt"], "wss": self.ports["ws"]}
        text = replaced(text, {"  no_tls: true\n": ""}).replace("/etc/nats/certs", str(self.directory))
        in_block = False
        lines = []
        for line in text.splitlines():
            in_block = in_block or line == "  #tls {"
            lines.append(line.replace("#", "", 1) if in_block else line)
            in_block = in_block and line != "  #}"
        assert lines.count("  tls {") == 2
        return "\n".join(lines) + "\n"


class Aedes(Rig):
    name = "aedes"
    foreign_id = "refused"
    keeps_sessions = False

    def prepare(self) -> None:
        shutil.copy(SHIPPED / "aedes/presence-broker.mjs", self.directory)
        (self.directory / "node_modules").symlink_to(ROOT / ".brokers/aedes/node_modules")
        settings = json.loads((SHIPPED / "aedes/settings.json").read_text())
        assert {"host", "port", "wsPort", "tls"} <= settings.keys()
        settings |= {"port": self.ports["mqtt"], "wsPort": self.ports["ws"]}
        settings["tls"] = {
            "host": "127.0.0.1", "port": self.ports["mqtts"], "wssPort": self.ports["wss"],
            "cert": "server.crt", "key": "server.key",
        }  # fmt: skip
        (self.directory / "settings.json").write_text(json.dumps(settings))
        users = {user: self._hash(password(user)) for user in USERS}
        (self.directory / "users.json").write_text(json.dumps(users))

    def _hash(self, secret: str) -> str:
        return subprocess.run(
            ["node", "presence-broker.mjs", "hash"],
            cwd=self.directory, input=secret + "\n", capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    def start(self) -> None:
        self.run(["node", "presence-broker.mjs", "settings.json"], is_up=self.listens)


class AedesCertificates(Aedes):
    """aedes with client certificates."""

    transports = ("mqtts", "wss")

    def prepare(self) -> None:
        super().prepare()
        path = self.directory / "settings.json"
        settings = json.loads(path.read_text())
        settings["tls"]["ca"] = "ca.crt"
        path.write_text(json.dumps(settings))


RIGS = (Mosquitto, Ejabberd, RabbitMQ, Nats, NatsTls, Aedes)
