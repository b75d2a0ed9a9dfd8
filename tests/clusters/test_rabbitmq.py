"""A cluster of three RabbitMQ nodes with quorum queues: a node is killed with -9 under load."""

import time
from pathlib import Path

import pytest

from tests.clusters.load import Load, wait_for_more
from tests.clusters.rabbitmq_cluster import RabbitCluster
from tests.support.bridges import BridgeProcess
from tests.support.checker import assert_true
from tests.support.mqtt import Client
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)
STABLE_S = 31.0
CONVERGES_S = 60.0
"""Promised in docs/scale.md: the time after a death until the next node of the bridge has all statuses."""


def test_bridge_and_standby_survive_the_kill_of_a_node(postgres: Postgres, tmp_path: Path) -> None:
    """The session goes on at the next node, also for the standby: each acknowledged login has one record."""
    with RabbitCluster(tmp_path / "rabbitmq") as cluster:
        database = postgres.database()
        settings = {"broker": cluster.url, "database": database}
        first = BridgeProcess(tmp_path / "first", node="first", **settings)
        second = BridgeProcess(tmp_path / "second", node="second", ready=False, **settings)
        with first, second:
            hello(cluster)
            cluster.at = 2
            watched, said = cluster.recorder(), Said()
            first.wait_for_log(cluster.connected_to(0))
            with Load(cluster, said) as load:
                wait_for_more(watched, 200)
                cluster.kill(0)
                killed_s = time.monotonic()
                wait_for_more(watched, 1, deadline_s=60)
                print(f"silent for {time.monotonic() - killed_s:.1f} s")
                first.wait_for_log(cluster.is_gone(0), deadline_s=60)
                first.wait_for_log(cluster.connected_to(1))
                wait_for_more(watched, 200)
            assert_true(cluster, database, said, watched, shown=watched, deadline_s=60)
            with Load(cluster, said, load.lives) as load:
                wait_for_more(watched, 200)
                first.kill()
                second.wait_for_log(cluster.connected_to(1), deadline_s=60)
                wait_for_more(watched, 200)
            assert_true(cluster, database, said, watched, shown=watched, deadline_s=60)
            cluster.start(0)
            with Load(cluster, said, load.lives) as load:
                wait_for_more(watched, 200)
                cluster.kill(1)
                second.wait_for_log(cluster.connected_to(2), deadline_s=60)
                wait_for_more(watched, 200)
            assert_true(cluster, database, said, watched, shown=watched, deadline_s=60)
            print(f"{load.lives} lives, {said.logins.total()} logins")
            assert first.log().count("session new") == 1, first.log()
            assert "session new" not in second.log(), second.log()
            assert second.stop() == 0


def retained_at(cluster: RabbitCluster, node: int) -> bytes | None:
    """Return the status of alice that a new subscriber of exactly this topic gets."""
    name = f"alice-{time.monotonic_ns()}"
    peer = cluster.peer(node, "alice", name, filters=("status/alice",))
    assert peer.granted == [True]
    assert peer.publish(f"presence/alice/{name}/time")  # answered after the retained message is sent
    got = [payload for topic, payload, is_retained in peer.heard if topic == "status/alice" and is_retained]
    peer.close()
    return got[-1] if got else None


def say(client: Client, verb: str) -> None:
    client.publish(f"presence/alice/alice-app/{verb}", b'{"connectionId":"1"}')


def test_retained_statuses_belong_to_the_node_of_the_bridge(tmp_path: Path, sqlite_url: str) -> None:
    """New subscribers get statuses at the node of the bridge, old ones or none elsewhere; subscribers get changes anywhere."""
    with (
        RabbitCluster(tmp_path / "rabbitmq") as cluster,
        BridgeProcess(tmp_path / "log", broker=cluster.url, database=sqlite_url) as bridge,
    ):
        hello(cluster)
        bridge.wait_for_log(cluster.connected_to(0))
        connected_s = time.monotonic()
        cluster.at = 2
        elsewhere = cluster.recorder("status/+")
        alice = cluster.client("alice", "alice-app")
        say(alice, "login")
        elsewhere.wait_for_state("alice", "online")
        online = until(lambda: retained_at(cluster, 0), "the node of the bridge has the status")
        assert b'"online"' in online
        assert retained_at(cluster, 1) is None
        # After a shorter connection, or without a status to look for, it would publish all again at the next connect.
        until(lambda: time.monotonic() - connected_s > STABLE_S, "the connection is a long one", 2 * STABLE_S)
        until(lambda: query(sqlite_url, "SELECT * FROM bridge WHERE name = 'probe'"), "a status to look for")
        cluster.kill(0)
        killed_s = time.monotonic()
        bridge.wait_for_log(cluster.connected_to(1), deadline_s=60)
        until(
            lambda: retained_at(cluster, 1) == online,
            "the next node has the status",
            CONVERGES_S,
            every_s=0.5,
        )
        print(f"the next node has the status {time.monotonic() - killed_s:.1f} s after the death")
        say(alice, "logout")
        elsewhere.wait_for_state("alice", "offline")
        until(lambda: b'"offline"' in (retained_at(cluster, 1) or b""), "the next node has the new status")
        assert retained_at(cluster, 2) is None
        cluster.start(0)
        assert retained_at(cluster, 0) in (online, None), "the dead node has what it had"
        assert bridge.stop() == 0
