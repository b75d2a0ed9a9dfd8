"""The primary of a synchronous Patroni cluster is killed under load: nothing acknowledged is lost."""

import threading
import time
from pathlib import Path
from typing import Self

from mqtt_presence.store.database import LEASE_MS
from tests.clusters.patroni import TTL_S, Patroni
from tests.fault.test_one_bridge import other_process
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import query
from tests.support.recorder import Recorder
from tests.support.said import Said, life_of
from tests.support.waiting import until

STEADY = [f"steady{number}" for number in range(50)]
LIVES = 20
"""Clients of one portion of the load; each says several things."""


class Load:
    """Clients that log in and out in a thread, some hundred messages a second."""

    def __init__(self, broker: Shipped, said: Said) -> None:
        self._publisher = broker.publisher("", "")
        self._said = said
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.lives = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._done.is_set():
            lives = range(self.lives, self.lives + LIVES)
            self._publisher.publish_all(self._said.all(life_of(lives, 100)))
            self.lives += LIVES
            self._done.wait(0.2)


def wait_for_more(watched: Recorder, more: int = 20, deadline_s: float = 20.0) -> None:
    """Wait until the bridge has published more statuses."""
    before = len(watched.heard)
    until(lambda: len(watched.heard) >= before + more, "the bridge publishes", deadline_s)


def test_the_primary_of_a_synchronous_pair_is_killed(mosquitto: Shipped, tmp_path: Path) -> None:
    """Each acknowledged login has one record, versions only grow, and the statuses of quiet clients stay."""
    with Patroni() as cluster:
        database = cluster.database()
        watched, said = mosquitto.recorder(), Said()
        with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=database) as bridge:
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
