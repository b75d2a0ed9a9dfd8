"""Three real nodes of NATS on loopback, started from the shipped files with ports, paths and passwords replaced."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import nats

from tests.support.brokers import BRIDGE_PASSWORD, OPERATOR, PASSWORD, SPEAKER, _Broker
from tests.support.mqtt import Client
from tests.support.peer import Peer, RefusedError
from tests.support.recorder import Recorder
from tests.support.waiting import free_port, listens, until

SHIPPED = Path(__file__).parents[2] / "broker_config/nats/cluster"
NODES = 3
SERVER = Path(sys.executable).parent / "nats-server"
REPLICATOR = "replicator"


def password(user: str) -> str:
    return BRIDGE_PASSWORD if user == "bridge" else PASSWORD


class NatsCluster(_Broker):
    """A cluster whose nodes can be killed and started one by one.

    It has one user more than the shipped files, `SPEAKER`, who may publish for all others: thousands of clients need
    no connections of their own then.

    Args:
        directory: its own, empty.
        seats: into how many shards the clients' messages are divided.
        users: further users, each with the rights of alice.

    """

    name = "nats-cluster"

    def __init__(self, directory: Path, seats: int, users: Iterable[str] = ("mallory",)) -> None:
        super().__init__()
        self.directory = directory
        self._seats = seats
        self._users = tuple(users)
        self.ports = [free_port() for _ in range(NODES)]
        self._nats_ports = [free_port() for _ in range(NODES)]
        self.at = NODES - 1
        """The node at which new clients connect, while it lives."""
        self.followed = 0
        """The node that had most consumers of retained messages: without the script, its death has most effect."""
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * NODES
        self._peers: list[Peer] = []
        self._speaker: Publisher | None = None

    def __enter__(self) -> Self:
        self._configure()
        try:
            for number in range(NODES):
                self.start(number, is_alone=True)
            self.wait_until_ready(range(NODES))
            self.followed = max(range(NODES), key=self.leaders().__getitem__)
            self.replicate()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        for peer in self._peers:
            peer.close()
        for process in self._processes:
            if process is not None:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait(20)

    def _configure(self) -> None:
        shared = (SHIPPED / "cluster.conf").read_text()
        routes = [free_port() for _ in range(NODES)]
        for number, port in enumerate(routes, 1):
            shared = _replace(shared, f"10.0.0.{number}:6222", f"127.0.0.1:{port}")
        shared = _replace(shared, "partition(4,1)", f"partition({self._seats},1)")
        for user in ("bridge", OPERATOR, REPLICATOR, "alice"):
            shared = _replace(shared, f"CHANGE-ME {user}", password(user))
        alice = shared[shared.index("    { user: alice,") : shared.index("  ]\n}\n")]
        more = "".join(alice.replace("alice", user) for user in self._users)
        more += (
            f'    {{ user: {SPEAKER}, password: "{password(SPEAKER)}", permissions: {{\n'
            '        publish: { allow: ["shard.>"] } } }\n'
        )
        shared = shared.replace(alice, alice + more)
        for number in range(NODES):
            home = self.directory / f"node{number + 1}"
            home.mkdir(parents=True)
            (home / "cluster.conf").write_text(_replace(shared, "/var/lib/nats", f"{home}/store"))
            node = (SHIPPED / "node.conf").read_text()
            node = _replace(node, "server_name: presence-1 ", f"server_name: presence-{number + 1} ")
            node = _replace(node, "127.0.0.1:1883", f"127.0.0.1:{self.ports[number]}")
            node = _replace(node, "127.0.0.1:9001", f"127.0.0.1:{free_port()}")
            node = _replace(node, "127.0.0.1:4222", f"127.0.0.1:{self._nats_ports[number]}")
            node = _replace(node, "10.0.0.1:6222", f"127.0.0.1:{routes[number]}")
            (home / "node.conf").write_text(node)

    # Nodes, numbered from 0.

    def start(self, number: int, *, is_alone: bool = False) -> None:
        """Start a node; unless it is alone, wait until it takes clients, and runs as documented."""
        home = self.directory / f"node{number + 1}"
        with (home / "log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [SERVER, "-c", "cluster.conf"], cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if not is_alone:
            self.wait_until_ready([number])
            self.replicate()

    def wait_until_ready(self, numbers: Iterable[int]) -> None:
        """Wait until clients get in at these nodes: after a start, the nodes elect leaders first."""
        for number in numbers:
            until(
                lambda n=number: self._takes_clients(n),
                f"node {number} takes clients\n{self._log_of(number)}",
                60,
            )

    def _takes_clients(self, number: int) -> bool:
        process = self._processes[number]
        assert process is None or process.poll() is None, f"node {number} has ended\n{self._log_of(number)}"
        if not listens(self.ports[number]):
            return False
        try:
            peer = self.peer(number, "alice", f"is-ready-{os.urandom(4).hex()}", filters=("status/+",))
        except (RefusedError, AssertionError):
            return False
        is_ready = peer.granted == [True]
        peer.close()
        return is_ready

    def replicate(self) -> None:
        """Run the shipped script once, as an operator runs it again and again."""
        urls = [f"nats://127.0.0.1:{self._nats_ports[number]}" for number in self.live]
        done = subprocess.run(
            [sys.executable, SHIPPED / "replicate_retained.py", "--every=0", *urls],
            env={**os.environ, "NATS_PASSWORD": password(REPLICATOR)},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "stays as it is" not in done.stderr, done.stderr

    def consumers(self) -> list[dict[str, Any]]:
        """Return the consumers by which the nodes follow the retained messages."""

        async def ask() -> list[dict[str, Any]]:
            port = self._nats_ports[self.live[0]]
            client = await nats.connect(f"nats://{REPLICATOR}:{password(REPLICATOR)}@127.0.0.1:{port}")
            answer = await client.request("$JS.API.CONSUMER.LIST.$MQTT_rmsgs", b"", timeout=10)
            await client.close()
            return json.loads(answer.data)["consumers"]

        return asyncio.run(ask())

    def leaders(self) -> Counter[int]:
        """Return how many of these consumers each node leads."""
        names = (consumer["cluster"]["leader"] for consumer in self.consumers())
        return Counter(int(name.removeprefix("presence-")) - 1 for name in names)

    def kill(self, number: int) -> None:
        """End a node as a crash would."""
        self._end(number, signal.SIGKILL)

    def _end(self, number: int, sign: signal.Signals) -> None:
        process = self._processes[number]
        assert process is not None
        process.send_signal(sign)
        process.wait(20)
        self._processes[number] = None

    def freeze(self, number: int, *, thaw: bool = False) -> None:
        """Stop a node without an end of its connections, or let it go on."""
        process = self._processes[number]
        assert process is not None
        process.send_signal(signal.SIGCONT if thaw else signal.SIGSTOP)

    @property
    def live(self) -> list[int]:
        return [number for number, process in enumerate(self._processes) if process is not None]

    # Clients.

    @property
    def url(self) -> str:
        """The setting `broker`, with all nodes."""
        return self.url_from(0)

    def url_from(self, number: int) -> str:
        """Return the setting `broker` that begins with this node."""
        first, *others = (f"127.0.0.1:{port}" for port in (*self.ports[number:], *self.ports[:number]))
        return ",".join(
            [f"mqtt://bridge:{BRIDGE_PASSWORD}@{first}", *(f"mqtt://{other}" for other in others)]
        )

    @property
    def port(self) -> int:
        """The port for new clients."""
        return self.ports[self._chosen]

    @property
    def _chosen(self) -> int:
        return self.at if self.at in self.live else self.live[-1]

    def client(self, user: str, client_id: str, **how) -> Client:
        return super().client(user, client_id, password=password(user), **how)

    def say(self, user: str, client_id: str, verb: str, payload: bytes = b"", **_: object) -> None:
        if self._speaker is None:
            self._speaker = Publisher(self)
        self._speaker.publish_all([(f"presence/{user}/{client_id}/{verb}", payload)])

    def recorder(self, *filters: str) -> Recorder:
        """Subscribe as an operator, once the node grants subscriptions."""
        until(lambda: self._takes_clients(self._chosen), "a node grants subscriptions", 60, every_s=0.2)
        return super().recorder(*filters)

    def publisher(self, user: str, client_id: str) -> "Publisher":
        """Return a connection of its own, which may publish for all users."""
        del user, client_id
        return Publisher(self)

    def peer(self, number: int, user: str, client_id: str, **how) -> Peer:
        """Connect a client to one node."""
        made = Peer(self.ports[number], user, client_id, password=password(user), **how)
        self._peers.append(made)
        return made

    def log(self) -> str:
        return "\n".join(map(self._log_of, range(NODES)))

    def _log_of(self, number: int) -> str:
        path = self.directory / f"node{number + 1}/log"
        return f"--- node {number}:\n{path.read_text(errors='replace')[-3000:]}" if path.exists() else ""


class Publisher:
    """Publishes for all users until all is acknowledged: a node that dies, or has no leader, closes connections.

    It is for one thread.
    """

    def __init__(self, cluster: NatsCluster) -> None:
        self._cluster = cluster
        self._client: Client | None = None

    def publish_all(self, messages: Iterable[tuple[str, bytes]]) -> int:
        """Publish all, again from the first if one is not acknowledged; return how many there are."""
        waiting = list(messages)

        def all_acknowledged() -> bool:
            try:
                if self._client is None:
                    self._client = self._cluster.client(SPEAKER, f"{SPEAKER}-{os.urandom(4).hex()}")
                self._client.publish_all(waiting)
            except (OSError, AssertionError):
                self._client = None
                return False
            return True

        until(all_acknowledged, "all messages are acknowledged", 60, every_s=0.2)
        return len(waiting)


def _replace(text: str, old: str, new: str) -> str:
    """Replace a text of a shipped file, which must have it."""
    assert old in text, f"{old!r} is not in the shipped file"
    return re.sub(re.escape(old), lambda _: new, text)
