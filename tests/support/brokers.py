"""The two brokers the bridge must work with, behind one face: a real mosquitto, and the embedded one."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Self

from mqtt_presence.access.rights import BRIDGE_USER
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from mqtt_presence.tools.init_broker import mosquitto_files as setup
from mqtt_presence.tools.init_broker.file_plan import FilePlan
from mqtt_presence.tools.init_broker.mosquitto_hashes import mosquitto_hash
from mqtt_presence.tools.shipped_files import replace_lines
from tests.support.mqtt import Client
from tests.support.recorder import Recorder
from tests.support.waiting import free_port, listens, until

OPERATOR = "operator"
SPEAKER = "publisher"
BRIDGE_PASSWORD = "bridge-secret"
PASSWORD = "secret"
"""Of everybody else, where there are passwords."""

# What a production broker has, but for rights and passwords: those have tests of their own. It saves every second;
# with `autosave_on_changes` it would save everything at every change, at a twentieth of the speed.
_CONFIG = """
persistence true
persistence_location {directory}/
autosave_interval 1
max_inflight_messages 20000
max_queued_messages 1000000
set_tcp_nodelay true
log_dest stderr
log_type all
connection_messages true
"""


class _Broker:
    """What a test may ask of either."""

    name: str
    port: int
    prefix: str = ""
    _window: int | None = None
    one_owner_of_a_client_id = False
    """A client id belongs to one user: another one cannot have it at the same time."""

    def __init__(self) -> None:
        self._clients: list[Client] = []
        self._recorders: list[Recorder] = []
        self._publishers: dict[tuple[str, str], Client] = {}

    @property
    def url(self) -> str:
        """How the bridge gets in."""
        raise NotImplementedError

    def client(self, user: str, client_id: str, **how) -> Client:
        """Connect as this user's client."""
        client = Client(self.port, user, client_id, **how)
        self._clients.append(client)
        return client

    def publisher(self, user: str, client_id: str) -> Client:
        """Return a connection that may publish as this user's client, always the same."""
        raise NotImplementedError

    def say(
        self,
        user: str,
        client_id: str,
        verb: str,
        payload: bytes = b"",
        *,
        qos: int = 1,
        retain: bool = False,
    ) -> None:
        """Publish as this user's client, and wait until the broker has acknowledged it."""
        topic = f"{self.prefix}presence/{user}/{client_id}/{verb}"
        self.publisher(user, client_id).publish(topic, payload, qos=qos, retain=retain)

    def recorder(self, *filters: str) -> Recorder:
        """Subscribe as an operator and record everything, by default all that the bridge says."""
        filters = filters or tuple(f"{self.prefix}{f}" for f in ("status/+", "events/+/+", "bridge/+"))
        recorder = Recorder(
            self.port,
            filters,
            user=OPERATOR,
            password=PASSWORD,
            log=self.log,
            prefix=self.prefix,
            window=self._window,
        )
        self._recorders.append(recorder)
        return recorder

    def log(self) -> str:
        """What the broker has to say about itself."""
        return ""

    def hang_up(self) -> None:
        """Close what tests have opened."""
        for thing in (*self._clients, *self._recorders):
            thing.close()
        self._clients.clear()
        self._recorders.clear()
        self._publishers.clear()


class Mosquitto(_Broker):
    """A mosquitto of one's own on a free loopback port.

    Args:
        directory: its own, empty.
        more_config: lines to add, e.g. another listener.
        users: passwords by user; None: everybody may come in.

    """

    name = "mosquitto"

    def __init__(self, directory: Path, more_config: str = "", users: dict[str, str] | None = None) -> None:
        super().__init__()
        self.directory = directory
        self.port = free_port()
        self._more = more_config
        self._users = users
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        if self._process is not None:
            self.kill()

    @property
    def url(self) -> str:
        return f"mqtt://bridge:{BRIDGE_PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        assert self._process is None
        self.directory.mkdir(parents=True, exist_ok=True)
        self._configure()
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "-c", str(self.directory / "mosquitto.conf")], stdout=log, stderr=log
            )
        until(self._is_up, f"mosquitto listens\n{self.log()}")

    def _configure(self) -> None:
        config = _CONFIG.format(directory=self.directory)
        if os.getuid() == 0:
            config += "user root\n"
        passwords = self.directory / "passwords"
        if self._users is None:
            config += "allow_anonymous true\n"
        else:
            config += f"allow_anonymous false\npassword_file {passwords}\n"
            passwords.touch(0o600)
            for user, password in self._users.items():
                subprocess.run(["mosquitto_passwd", "-b", passwords, user, password], check=True)
        config += f"listener {self.port} 127.0.0.1\n{self._more}\n"
        (self.directory / "mosquitto.conf").write_text(config)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"mosquitto has ended\n{self.log()}"
        return listens(self.port)

    def stop(self) -> None:
        """End it as an operator would: it saves its store."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(20)
        self._process = None
        self._publishers.clear()

    def wipe(self) -> None:
        """Lose its store: sessions, queued and retained messages."""
        (self.store / "mosquitto.db").unlink(missing_ok=True)

    @property
    def store(self) -> Path:
        return self.directory

    def lose_everything(self) -> None:
        """Restart it with an empty store."""
        self.hang_up()
        self.stop()
        self.wipe()
        self.start()

    def publisher(self, user: str, client_id: str) -> Client:
        # No rights are configured, so one connection can speak for all, and keeps the order.
        del user, client_id
        if ("", "") not in self._publishers:
            self._publishers["", ""] = self.client(SPEAKER, SPEAKER)
        return self._publishers["", ""]

    def log(self) -> str:
        path = self.directory / "log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return f"--- mosquitto:\n{text[-6000:]}"


class Shipped(Mosquitto):
    """mosquitto as `init-broker` sets it up: passwords, rights, limits and log are those of `broker_config/`.

    It knows one user more, `SPEAKER`, who may write for all others: thousands of clients need no connections of
    their own then, and what they say has one order.

    Args:
        directory: its own, empty.
        more_config: lines to add.
        users: who may come in, beside the bridge, the operator and the speaker.
        changed: what to put in place of lines of the configuration; None: nothing.

    """

    _window = 20_000  # what a scenario makes the broker drop is not to be what a test hears

    def __init__(
        self,
        directory: Path,
        more_config: str = "",
        users: Iterable[str] = (),
        changed: Mapping[str, str | None] | None = None,
    ) -> None:
        super().__init__(directory, more_config)
        self._names = (OPERATOR, SPEAKER, *users)
        self._changed = changed or {}

    def client(self, user: str, client_id: str, **how) -> Client:
        return super().client(user, client_id, **{"password": PASSWORD} | how)

    @property
    def store(self) -> Path:
        return self.directory / setup.DATA

    def _configure(self) -> None:
        plan = FilePlan(
            self.directory, port=self.port, ws_port=None, run_as="root" if os.getuid() == 0 else None
        )
        made = {file.name: file.data.decode() for file in setup.files(plan)}
        config = replace_lines(made[setup.CONFIG], self._changed)
        (self.directory / setup.CONFIG).write_text(f"{config}{self._more}\n")
        rights = f"{made['acl']}\nuser {SPEAKER}\ntopic write presence/+/+/+\n"
        hashed = {name: _hash(PASSWORD) for name in self._names} | {BRIDGE_USER: _hash(BRIDGE_PASSWORD)}
        passwords = "".join(f"{name}:{of_it}\n" for name, of_it in hashed.items())
        for name, text in {"acl": rights, "passwd": passwords}.items():
            (self.directory / name).touch(0o600)
            (self.directory / name).write_text(text)
        self.store.mkdir(exist_ok=True)


@cache
def _hash(password: str) -> str:
    return mosquitto_hash(password)


class Embedded(_Broker):
    """The embedded broker in this process."""

    name = "embedded"
    one_owner_of_a_client_id = True

    def __init__(self, prefix: str = "", *, ws: bool = False) -> None:
        super().__init__()
        self.prefix = prefix
        self.port = 0
        self._ws_port = 0 if ws else None
        self._make()

    def _make(self) -> None:
        self.broker = EmbeddedBroker(
            EmbeddedConfig(
                port=self.port,
                ws_port=self._ws_port,
                prefix=self.prefix,
                operators=frozenset({OPERATOR}),
                bridge_password=BRIDGE_PASSWORD,
            )
        )

    def __enter__(self) -> Self:
        self.broker.start()
        self.port = self.broker.port
        self._ws_port = self.broker.ws_port
        return self

    @property
    def ws_port(self) -> int:
        """The port for browsers."""
        assert self._ws_port
        return self._ws_port

    def lose_everything(self) -> None:
        """Restart it: it keeps nothing."""
        self.hang_up()
        self.broker.stop()
        self._make()
        self.broker.start()

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self.broker.stop()

    @property
    def url(self) -> str:
        return f"mqtt://bridge:{BRIDGE_PASSWORD}@127.0.0.1:{self.port}"

    def publisher(self, user: str, client_id: str) -> Client:
        # Everyone may only speak for itself here.
        if (user, client_id) not in self._publishers:
            self._publishers[user, client_id] = self.client(user, client_id)
        return self._publishers[user, client_id]
