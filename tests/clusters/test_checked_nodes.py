"""`mqtt-presence check` and three nodes of NATS or RabbitMQ: what can be known of a cluster from outside."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from mqtt_presence.cli.app import app
from mqtt_presence.tools.check import runner
from tests.clusters.broker_cluster import BrokerCluster, password
from tests.clusters.nats_cluster import NatsCluster
from tests.clusters.rabbitmq_cluster import RabbitCluster
from tests.support.waiting import until

OF_NODES = ("nodes", *(name for name in runner.NAMES if name.startswith("cluster-")))


SEATS = ("--seat-inputs=shard/{seat}/", "--seats=4")


def check(cluster: BrokerCluster, *only: str, flags: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the findings; none while no node can be used."""
    client = f"mqtt://alice:{password('alice')}@127.0.0.1:{cluster.ports[0]}"
    arguments = ["check", "--broker", cluster.url, "--client", client, *flags, "--json"]
    run = CliRunner().invoke(app, [*arguments, *(f"--only={name}" for name in only)])
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    found = {f["check"]: f for f in map(json.loads, run.stdout.splitlines())}
    assert run.exit_code == 2 or not found.keys() ^ {"broker", *only}
    return found


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {name: finding["verdict"] for name, finding in found.items() if name in OF_NODES}


def test_nodes_of_nats_are_one_cluster(tmp_path: Path) -> None:
    """All is replicated; a session that moves has new packet ids, so that ids of connections are needed."""
    with NatsCluster(tmp_path / "nats", seats=4) as cluster:
        found = check(cluster, *OF_NODES, "redelivery", "shared", flags=SEATS)
        assert verdicts(found) == {**dict.fromkeys(OF_NODES, "pass"), "cluster-takeover": "warn"}, found
        assert "under another packet id" in found["cluster-takeover"]["evidence"]
        assert "without a connectionId" in found["cluster-takeover"]["consequence"]
        assert found["redelivery"]["verdict"] == "warn"  # only after ack_wait
        assert found["shared"]["evidence"] == (
            "$share subscriptions are refused; with seat_inputs the bridges need none"
        )
        cluster.kill(2)

        def names_the_dead_node() -> bool:
            evidence = check(cluster, "nodes", flags=SEATS).get("nodes", {}).get("evidence", "")
            return f"127.0.0.1:{cluster.ports[2]} cannot be reached" in evidence and "; " not in evidence

        until(names_the_dead_node, "only the dead node is refused, once there is a leader", 60, every_s=0.5)


def test_nodes_of_rabbitmq_differ_in_retained_statuses(tmp_path: Path) -> None:
    """Sessions and messages are those of all nodes, under new packet ids; each node keeps its own statuses."""
    with RabbitCluster(tmp_path / "rabbitmq") as cluster:
        found = check(cluster, *OF_NODES, "redelivery", "shared")
        expected = dict.fromkeys(OF_NODES, "pass")
        assert verdicts(found) == {**expected, "cluster-retained": "fail", "cluster-takeover": "warn"}, found
        first, *others = (f"127.0.0.1:{port}" for port in cluster.ports)
        assert found["cluster-retained"]["evidence"].startswith(
            f"published at {first}, not so at {', '.join(others)} after "
        )
        assert "connect to one node" in found["cluster-retained"]["remedy"]
        for name in ("cluster-takeover", "redelivery"):
            assert found[name]["evidence"].endswith("under another packet id")
        assert found["shared"]["verdict"] == "note"
