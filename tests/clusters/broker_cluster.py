"""A broker of three nodes on loopback, which can be killed and started one by one."""

import os
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.brokers import BRIDGE_PASSWORD, OPERATOR, PASSWORD, SPEAKER, _Broker
from tests.support.mqtt import Client
from tests.support.peer import Peer, RefusedError
from tests.support.recorder import Recorder
from tests.support.waiting import free_port, listens, until

NODES = 3


def password(user: str) -> str:
    return BRIDGE_PASSWORD if user == "bridge" else PASSWORD


def replaced(text: str, old: str, new: str) -> str:
    """Replace a text of a shipped file, which must have it."""
    assert old in text, f"{old!r} is not in the shipped file"
    return text.replace(old, new)


class BrokerCluster(_Broker):
    """Nodes, numbered from 0, each with a directory of its own.

    It has one user more than the shipped files, `SPEAKER`, who may publish for all others: thousands of clients need
    no connections of their own then.

    Args:
        directory: its own, empty.

    """

    ready_s = 60.0
    """The time that a node may take to start, seconds."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.ports = [free_port() for _ in range(NODES)]
        self.at = NODES - 1
        """The node at which new clients connect, while it lives."""
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * NODES
        self._peers: list[Peer] = []
        self._speaker: Publisher | None = None

    # What differs.

    def configure(self) -> None:
        """Write the configuration."""
        raise NotImplementedError

    def command(self, number: int) -> tuple[list[str], dict[str, str]]:
        """Return the command that starts a node, and its variables."""
        raise NotImplementedError

    def first_start(self) -> None:
        """Start all nodes, and wait until they take clients."""
        raise NotImplementedError

    def takes_clients(self, number: int) -> bool:
        """Return whether clients get into a node."""
        raise NotImplementedError

    # Nodes.

    def __enter__(self) -> Self:
        try:
            self.configure()
            self.first_start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        for peer in self._peers:
            peer.close()
        for number in self.live:
            self.kill(number)

    def home(self, number: int) -> Path:
        """Return the directory of a node."""
        return self.directory / f"node{number + 1}"

    def spawn(self, number: int) -> None:
        """Start a node without waiting for it."""
        command, variables = self.command(number)
        with (self.home(number) / "log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                command, cwd=self.home(number), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=os.environ | variables, start_new_session=True,
            )  # fmt: skip

    def start(self, number: int) -> None:
        """Start a node again, and wait until it takes clients."""
        self.spawn(number)
        self.wait_until_ready([number])

    def wait_until_ready(self, numbers: Iterable[int]) -> None:
        """Wait until clients get in at these nodes: after a start, the nodes elect leaders first."""
        for number in numbers:
            until(
                lambda n=number: self._is_ready(n),
                f"node {number} takes clients\n{self._log_of(number)}",
                self.ready_s,
                every_s=0.2,
            )

    def _is_ready(self, number: int) -> bool:
        process = self._processes[number]
        assert process is None or process.poll() is None, f"node {number} has ended\n{self._log_of(number)}"
        return listens(self.ports[number]) and self.takes_clients(number)

    def kill(self, number: int) -> None:
        """End a node, with its children, as a crash would."""
        process = self._processes[number]
        assert process is not None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        self._processes[number] = None

    @property
    def live(self) -> list[int]:
        return [number for number, process in enumerate(self._processes) if process is not None]

    def is_gone(self, number: int) -> str:
        """Return the words of a bridge's log about the death of a node."""
        return f"node 127.0.0.1:{self.ports[number]} of the broker is gone"

    def connected_to(self, number: int) -> str:
        """Return the words of a bridge's log about its connection to a node."""
        return f"connected to mqtt://bridge@127.0.0.1:{self.ports[number]}"

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
        return self.ports[self.chosen]

    @property
    def chosen(self) -> int:
        """The node for new clients."""
        return self.at if self.at in self.live else self.live[-1]

    def client(self, user: str, client_id: str, **how) -> Client:
        return super().client(user, client_id, password=password(user), **how)

    def say(self, user: str, client_id: str, verb: str, payload: bytes = b"", **_: object) -> None:
        if self._speaker is None:
            self._speaker = Publisher(self)
        self._speaker.publish_all([(f"presence/{user}/{client_id}/{verb}", payload)])

    def recorder(self, *filters: str) -> Recorder:
        """Subscribe as an operator, once the node grants subscriptions."""
        until(lambda: self.takes_clients(self.chosen), "a node grants subscriptions", 60, every_s=0.2)
        made = Recorder(
            self.port,
            filters or ("status/+", "events/+/+", "bridge/+"),
            user=OPERATOR,
            password=password(OPERATOR),
            client_id=f"{OPERATOR}-{os.urandom(4).hex()}",
            log=self.log,
        )
        self._recorders.append(made)
        return made

    def publisher(self, user: str, client_id: str) -> "Publisher":
        """Return a connection of its own, which may publish for all users."""
        del user, client_id
        return Publisher(self)

    def peer(self, number: int, user: str, client_id: str, **how) -> Peer:
        """Connect a client to one node."""
        made = Peer(self.ports[number], user, client_id, password=password(user), **how)
        self._peers.append(made)
        return made

    def grants(self, number: int, topic_filter: str) -> bool:
        """Return whether a node grants a subscription."""
        try:
            peer = self.peer(number, "alice", f"alice-{os.urandom(4).hex()}", filters=(topic_filter,))
        except (RefusedError, AssertionError):
            return False
        is_granted = peer.granted == [True]
        peer.close()
        return is_granted

    def log(self) -> str:
        return "\n".join(map(self._log_of, range(NODES)))

    def _log_of(self, number: int) -> str:
        path = self.home(number) / "log"
        return f"--- node {number}:\n{path.read_text(errors='replace')[-3000:]}" if path.exists() else ""


class Publisher:
    """Publishes for all users until all is acknowledged: a node that dies, or has no leader, closes connections.

    It is for one thread.
    """

    def __init__(self, cluster: BrokerCluster) -> None:
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
