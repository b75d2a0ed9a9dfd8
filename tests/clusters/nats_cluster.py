"""Three real nodes of NATS, started from the shipped files with ports, paths and passwords replaced."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nats

from tests.clusters.broker_cluster import NODES, BrokerCluster, password, replaced
from tests.support.brokers import OPERATOR, SPEAKER
from tests.support.waiting import free_port, until

SHIPPED = Path(__file__).parents[2] / "broker_config/nats/cluster"
SERVER = Path(sys.executable).parent / "nats-server"
REPLICATOR = "replicator"


class NatsCluster(BrokerCluster):
    """A cluster of NATS.

    Args:
        directory: its own, empty.
        seats: into how many shards the clients' messages are divided.
        users: further users, each with the rights of alice.

    """

    name = "nats-cluster"

    def __init__(self, directory: Path, seats: int, users: Iterable[str] = ("mallory",)) -> None:
        super().__init__(directory)
        self._seats = seats
        self._users = tuple(users)
        self._nats_ports = [free_port() for _ in range(NODES)]
        self.followed = 0
        """The node that had most consumers of retained messages: without the script, its death has most effect."""

    def configure(self) -> None:
        """See `BrokerCluster`."""
        shared = (SHIPPED / "cluster.conf").read_text()
        routes = [free_port() for _ in range(NODES)]
        for number, port in enumerate(routes, 1):
            shared = replaced(shared, f"10.0.0.{number}:6222", f"127.0.0.1:{port}")
        shared = replaced(shared, "partition(4,1)", f"partition({self._seats},1)")
        for user in ("bridge", OPERATOR, REPLICATOR, "alice"):
            shared = replaced(shared, f"CHANGE-ME {user}", password(user))
        alice = shared[shared.index("    { user: alice,") : shared.index("  ]\n}\n")]
        more = "".join(alice.replace("alice", user) for user in self._users)
        more += (
            f'    {{ user: {SPEAKER}, password: "{password(SPEAKER)}", permissions: {{\n'
            '        publish: { allow: ["shard.>"] } } }\n'
        )
        shared = shared.replace(alice, alice + more)
        for number in range(NODES):
            home = self.home(number)
            home.mkdir(parents=True)
            (home / "cluster.conf").write_text(replaced(shared, "/var/lib/nats", f"{home}/store"))
            node = (SHIPPED / "node.conf").read_text()
            node = replaced(node, "server_name: presence-1 ", f"server_name: presence-{number + 1} ")
            node = replaced(node, "127.0.0.1:1883", f"127.0.0.1:{self.ports[number]}")
            node = replaced(node, "127.0.0.1:9001", f"127.0.0.1:{free_port()}")
            node = replaced(node, "127.0.0.1:4222", f"127.0.0.1:{self._nats_ports[number]}")
            node = replaced(node, "10.0.0.1:6222", f"127.0.0.1:{routes[number]}")
            (home / "node.conf").write_text(node)

    def command(self, number: int) -> tuple[list[str], dict[str, str]]:
        """See `BrokerCluster`."""
        del number
        return [str(SERVER), "-c", "cluster.conf"], {}

    def first_start(self) -> None:
        """See `BrokerCluster`: two of three nodes are needed before one takes clients."""
        for number in range(NODES):
            self.spawn(number)
        self.wait_until_ready(range(NODES))
        self.followed = max(range(NODES), key=self.leaders().__getitem__)
        self.replicate()

    def takes_clients(self, number: int) -> bool:
        """See `BrokerCluster`: without a leader, a node denies subscriptions."""
        return self.grants(number, "status/+")

    def start(self, number: int) -> None:
        """See `BrokerCluster`."""
        super().start(number)
        self.replicate()

    def divide(self, seats: int) -> None:
        """Change the number of shards, and reload all nodes, as an operator does."""
        for number in range(NODES):
            file = self.home(number) / "cluster.conf"
            shared = replaced(file.read_text(), f"partition({self._seats},1)", f"partition({seats},1)")
            file.write_text(shared)
            process, log = self._processes[number], self.home(number) / "log"
            assert process is not None
            process.send_signal(signal.SIGHUP)
            until(lambda log=log: "Reloaded server configuration" in log.read_text(), "the node has reloaded")
        self._seats = seats

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
