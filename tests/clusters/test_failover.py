"""The primary of a synchronous Patroni cluster is killed under load: nothing acknowledged is lost."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from mqtt_presence.store.database import LEASE_MS
from tests.clusters.load import Load, wait_for_more
from tests.clusters.patroni import TTL_S, Patroni
from tests.fault.test_one_bridge import other_process
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.pgbouncer import PgBouncer
from tests.support.playing import hello
from tests.support.postgres import query
from tests.support.said import Said
from tests.support.waiting import until

STEADY = [f"steady{number}" for number in range(50)]


@pytest.mark.parametrize("way", ["direct", "pooler"])
def test_the_primary_of_a_synchronous_pair_is_killed(mosquitto: Shipped, tmp_path: Path, way: str) -> None:
    """Each acknowledged login has one record, versions only grow, and the statuses of quiet clients stay."""
    with ExitStack() as stack:
        cluster = stack.enter_context(Patroni())
        database = cluster.database()
        watched, said = mosquitto.recorder(), Said()
        pooler, url = None, database
        if way == "pooler":
            assert cluster.leader is not None
            pooler = stack.enter_context(PgBouncer(cluster.leader.port))
            url = pooler.url(cluster.NAME)
        with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=url) as bridge:
            hello(mosquitto)
            client = mosquitto.publisher("", "")
            logins = [(f"presence/{user}/phone/login", b'{"connectionId":"c1"}') for user in STEADY]
            client.publish_all(said.all(logins))
            with Load(mosquitto, said) as load:
                wait_for_more(watched, 200)
                leader = cluster.leader
                assert leader is not None
                killed_s = time.monotonic()
                cluster.kill(leader)
                until(lambda: cluster.leader is not None, "there is a new primary", 3 * TTL_S, every_s=0.1)
                elected_s = time.monotonic()
                if pooler is not None:
                    assert cluster.leader is not None
                    pooler.switch(cluster.leader.port)
                wait_for_more(watched, deadline_s=LEASE_MS / 1000 + 20)
                print(
                    f"silent for {time.monotonic() - killed_s:.1f} s, "
                    f"{elected_s - killed_s:.1f} s of them without a primary"
                )
                wait_for_more(watched, 200)
            assert_true(mosquitto, database, said, watched, deadline_s=60)
            print(f"{load.lives} lives, {said.logins.total()} logins")
            versions = watched.versions()
            assert {user: [told[0] for told in versions[user]] for user in STEADY} == {
                user: [1] for user in STEADY
            }
            assert query(database, "SELECT value FROM bridge WHERE name = 'refused'") == []
            assert bridge.stop() == 0
        verified = other_process("verify", f"--database={database}", f"--broker={mosquitto.url}")
        assert verified.returncode == 0, verified.stdout + verified.stderr
