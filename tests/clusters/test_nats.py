"""A cluster of three NATS nodes: a node is killed with -9 while seats read, and while statuses are written."""

import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from mqtt_presence.client import PresenceClient
from tests.clusters.broker_cluster import NODES, password
from tests.clusters.load import Load, wait_for_more
from tests.clusters.nats_cluster import NatsCluster
from tests.fault.test_one_bridge import other_process
from tests.support.bridges import BridgeProcess
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.recorder import Recorder
from tests.support.said import Said
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)
INPUTS = "shard/{seat}/"
CONVERGES_S = 60.0
"""Promised in docs/scale.md: a subscriber that comes this long after a death gets all statuses at each live node."""
CACHED_S = 130.0
"""A node that caches a retained message just when a newer one comes shows the old one to new subscribers for so long."""


def wait_until_true(
    cluster: NatsCluster,
    database: str,
    said: Said,
    watched: Recorder,
    since_s: float,
    *,
    late: bool = False,
    within_s: float = CONVERGES_S,
) -> None:
    """Compare as a new subscriber of each live node, and as an old one, until all is right."""
    for node in cluster.live:
        cluster.at = node
        while True:
            looked_s = time.monotonic() - since_s
            try:
                shown = assert_true(cluster, database, said, watched, late=late, deadline_s=5)
                break
            except AssertionError:
                if looked_s > within_s:
                    raise
        print(f"node {node} was right {looked_s:.1f} s after the death")
        versions = {user: status["version"] for user, status in shown.items()}
        until(
            lambda expected=versions: (
                expected.items() <= {u: s["version"] for u, s in watched.statuses().items()}.items()
            ),
            "the subscriber from before has the same",
        )


def test_bridge_survives_the_kill_of_its_node(tmp_path: Path, sqlite_url: str) -> None:
    """Its session goes on at another node: no acknowledged login is lost or doubled, and each node is right."""
    with NatsCluster(tmp_path / "nats", seats=1) as cluster:
        victim = cluster.followed
        cluster.at = (victim + 1) % NODES
        settings = {"broker": cluster.url_from(victim), "database": sqlite_url, "seat_inputs": INPUTS}
        with BridgeProcess(tmp_path / "log", **settings) as bridge:
            hello(cluster)
            watched, said = cluster.recorder(), Said()
            bridge.wait_for_log(cluster.connected_to(victim))
            with Load(cluster, said) as load:
                wait_for_more(watched, 200)
                cluster.kill(victim)
                killed_s = time.monotonic()
                wait_for_more(watched, 1, deadline_s=60)
                print(f"silent for {time.monotonic() - killed_s:.1f} s")
                bridge.wait_for_log(cluster.is_gone(victim), deadline_s=60)
                wait_for_more(watched, 200, deadline_s=60)
            wait_until_true(cluster, sqlite_url, said, watched, killed_s)
            cluster.start(victim)
            started_s = time.monotonic()
            with Load(cluster, said, load.lives):
                wait_for_more(watched, 200, deadline_s=60)
            wait_until_true(cluster, sqlite_url, said, watched, started_s)
            assert bridge.log().count("session new") == 1, bridge.log()
            assert bridge.stop() == 0


def test_four_seats_survive_the_kill_of_a_node(postgres: Postgres, tmp_path: Path) -> None:
    """Four processes read a shard each: a node is killed, then another one together with a process."""
    with NatsCluster(tmp_path / "nats", seats=4) as cluster, ExitStack() as stack:
        database = postgres.database()
        settings = {"broker": cluster.url, "database": database, "seat_inputs": INPUTS, "seats": 4}
        bridges = [
            stack.enter_context(BridgeProcess(tmp_path / f"bridge{n}", ready=n < 4, node=f"n{n}", **settings))
            for n in range(5)
        ]
        first, second = cluster.followed, (cluster.followed + 1) % NODES
        cluster.at = (first + 2) % NODES
        hello(cluster)
        watched, said = cluster.recorder(), Said()
        with Load(cluster, said) as load:
            wait_for_more(watched, 200)
            cluster.kill(first)
            killed_s = time.monotonic()
            wait_for_more(watched, 500, deadline_s=90)
        wait_until_true(cluster, database, said, watched, killed_s, late=True)
        cluster.start(first)
        with Load(cluster, said, load.lives) as more:
            wait_for_more(watched, 200, deadline_s=90)
            cluster.at = first
            cluster.kill(second)
            bridges[1].kill()
            killed_s = time.monotonic()
            bridges[4].wait_for_log("connected to", deadline_s=60)
            wait_for_more(watched, 500, deadline_s=90)
        wait_until_true(cluster, database, said, watched, killed_s, late=True)
        print(f"{more.lives} lives, {said.logins.total()} logins")
        verified = other_process("verify", f"--database={database}", f"--broker={cluster.url}")
        assert verified.returncode == 0, verified.stdout + verified.stderr


def test_fewer_seats(postgres: Postgres, tmp_path: Path) -> None:
    """As the README says: first the nodes move all messages to one shard, then the bridges get the number."""
    with NatsCluster(tmp_path / "nats", seats=2) as cluster, ExitStack() as stack:
        database = postgres.database()
        settings = {"broker": cluster.url, "database": database, "seat_inputs": INPUTS}
        old = [
            stack.enter_context(BridgeProcess(tmp_path / f"old{n}", node=f"n{n}", seats=2, **settings))
            for n in range(2)
        ]
        hello(cluster)
        watched, said = cluster.recorder(), Said()
        with Load(cluster, said):
            wait_for_more(watched, 200)
            cluster.divide(1)
            for number, bridge in enumerate(old):
                assert bridge.stop() == 0
                stack.enter_context(
                    BridgeProcess(tmp_path / f"new{number}", node=f"n{number}", seats=1, **settings)
                )
            wait_for_more(watched, 200, deadline_s=60)
            until(
                lambda: query(database, "SELECT id FROM seats") == [{"id": 0}],
                "the seat is gone",
                180,
                every_s=1,
            )
            wait_for_more(watched, 200)
        wait_until_true(cluster, database, said, watched, time.monotonic(), late=True, within_s=CACHED_S)
        verified = other_process("verify", f"--database={database}", f"--broker={cluster.url}")
        assert verified.returncode == 0, verified.stdout + verified.stderr


def test_ghosts_of_a_dead_node_end(tmp_path: Path, sqlite_url: str) -> None:
    """Clients that die with their node have no wills: asked, they do not answer, and end; all others answer once."""
    users = [f"user{number}" for number in range(30)]
    with NatsCluster(tmp_path / "nats", seats=1, users=users) as cluster, ExitStack() as stack:
        settings = {
            "broker": cluster.url, "database": sqlite_url, "seat_inputs": INPUTS, "confirm_within": "10s",
        }  # fmt: skip
        with BridgeProcess(tmp_path / "log", **settings) as bridge:
            hello(cluster)
            victim = 1
            cluster.at = 2
            watched = cluster.recorder()
            logins = Recorder(
                cluster.port, ("shard/+/+/+/login",), user="bridge", password=password("bridge")
            )
            stack.callback(logins.close)
            for number, user in enumerate(users):
                url = f"mqtt://{user}:{password(user)}@127.0.0.1:{cluster.ports[number % NODES]}"
                stack.enter_context(PresenceClient(url, client_id=f"{user}-app"))
            for user in users:
                watched.wait_for_state(user, "online")
            before, logins_before = len(watched.heard), len(logins.heard)
            cluster.kill(victim)
            killed_s = time.monotonic()
            ghosts = [user for number, user in enumerate(users) if number % NODES == victim]
            for user in ghosts:
                watched.wait_for(
                    lambda user=user: watched.status(user)["state"] == "offline", f"{user} ends", 90
                )
            offline_s = time.monotonic() - killed_s
            bridge.wait_for_log("all statuses are published again", deadline_s=60)
            answers = Counter(message.topic.split("/")[2] for message in logins.heard[logins_before:])
            published = Counter(message.topic.split("/")[0] for message in watched.heard[before:])
            print(f"{len(ghosts)} ghosts ended after {offline_s:.1f} s")
            print(f"{answers.total()} logins of {len(answers)} users; published: {dict(published)}")
            assert set(answers) == set(users) - set(ghosts)
            states = {user: {s["state"] for s in map(_json, watched.on(f"status/{user}"))} for user in users}
            assert {user for user, seen in states.items() if "offline" in seen} == set(ghosts)
            records = query(sqlite_url, "SELECT user_id, reason FROM connections WHERE user_id LIKE 'user%'")
            assert Counter(r["user_id"] for r in records if r["reason"] is None) == Counter(answers.keys())
            assert len(records) == len(users), "one record for each connection"
            assert bridge.stop() == 0


def _json(message):
    return message.json
