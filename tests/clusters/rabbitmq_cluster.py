"""Three real nodes of RabbitMQ, started from the shipped files with names, ports, paths and passwords replaced."""

import os
import subprocess
from pathlib import Path

from tests.clusters.broker_cluster import NODES, BrokerCluster, password, replaced
from tests.support.brokers import OPERATOR, SPEAKER
from tests.support.waiting import free_port, listens, until

SHIPPED = Path(__file__).parents[2] / "broker_config/rabbitmq"
PROGRAMS = Path("/usr/lib/rabbitmq/bin")
USERS = ("bridge", OPERATOR, "alice")


class RabbitCluster(BrokerCluster):
    """A cluster of RabbitMQ; its own epmd gives the nodes' names."""

    name = "rabbitmq-cluster"
    ready_s = 120.0

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._epmd_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        mark = os.urandom(4).hex()
        self.names = [f"presence{mark}{number + 1}@localhost" for number in range(NODES)]
        self._distribution = [free_port() for _ in range(NODES)]

    def configure(self) -> None:
        """See `BrokerCluster`."""
        cluster = (SHIPPED / "cluster/cluster.conf").read_text()
        for name, ours in zip(("one", "two", "three"), self.names, strict=True):
            cluster = replaced(cluster, f"rabbit@{name}\n", f"{ours}\n")
        for number in range(NODES):
            home = self.home(number)
            home.mkdir(parents=True)
            shared = (SHIPPED / "rabbitmq.conf").read_text()
            shared = replaced(shared, "127.0.0.1:5672", f"127.0.0.1:{free_port()}")
            shared = replaced(shared, "127.0.0.1:1883", f"127.0.0.1:{self.ports[number]}")
            shared = replaced(shared, "web_mqtt.tcp.port = 9001", f"web_mqtt.tcp.port = {free_port()}")
            (home / "rabbitmq.conf").write_text(f"{shared}\n{cluster}")
            node = (SHIPPED / "cluster/rabbitmq-env.conf").read_text()
            node = replaced(node, "NODENAME=rabbit@one", f"NODENAME={self.names[number]}")
            node = replaced(replaced(node, "10,0,0,1", "127,0,0,1"), "10.0.0.1", "127.0.0.1")
            (home / "rabbitmq-env.conf").write_text(node)
            (home / "enabled_plugins").write_text((SHIPPED / "enabled_plugins").read_text())
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text("presence-test")
        cookie.chmod(0o400)
        # An epmd of our own: one that Erlang starts by itself would stay behind, and serve everybody.
        self._epmd = subprocess.Popen(["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"])
        until(lambda: listens(self._epmd_port), "epmd listens")

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(20)

    def command(self, number: int) -> tuple[list[str], dict[str, str]]:
        """See `BrokerCluster`."""
        return [str(PROGRAMS / "rabbitmq-server")], self._variables(number)

    def _variables(self, number: int) -> dict[str, str]:
        home = self.home(number)
        return {
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/logs",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/rabbitmq-env.conf",
            "RABBITMQ_DIST_PORT": str(self._distribution[number]),
            "HOME": str(self.directory),
        }

    def first_start(self) -> None:
        """See `BrokerCluster`: one node after another, as documented, and make the users."""
        for number in range(NODES):
            self.spawn(number)
            until(
                lambda n=number: listens(self.ports[n]),
                f"node {number} listens\n{self._log_of(number)}",
                self.ready_s,
                every_s=0.2,
            )
        status = self.ctl("cluster_status", "--formatter=json")
        assert all(status.count(name) > 1 for name in self.names), status
        self._run(
            str(SHIPPED / "users.sh"), "".join(f"{user} {password(user)}\n" for user in (*USERS, SPEAKER))
        )
        self.ctl("set_topic_permissions", "-p", "/", SPEAKER, "amq.topic", r"^presence\..*$", "^$")
        self.wait_until_ready(range(NODES))

    def ctl(self, *arguments: str) -> str:
        """Run a command of rabbitmqctl at a node that lives."""
        return self._run(str(PROGRAMS / "rabbitmqctl"), "", *arguments)

    def _run(self, command: str, given: str, *arguments: str) -> str:
        variables = self._variables(self.live[0]) | {"RABBITMQCTL": str(PROGRAMS / "rabbitmqctl")}
        done = subprocess.run(
            [command, *arguments], input=given, env=os.environ | variables,
            capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def takes_clients(self, number: int) -> bool:
        """See `BrokerCluster`."""
        return self.grants(number, "status/+")
