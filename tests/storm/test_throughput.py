"""Throughput of one, two and four bridges on one PostgreSQL, one after the other in one run.

The figures count only beside each other: broker, database, bridges and load share the machine.
"""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fault.test_sharing import start
from tests.support.brokers import Shipped
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Message, login_of, report_of
from tests.support.waiting import until

CLIENTS, USERS = 6_000, 2_000
_DEADLINE_S = 120.0


@pytest.mark.timeout(900)
def test_throughput_by_the_number_of_bridges(postgres: Postgres, tmp_path: Path) -> None:
    """Logins of new clients, then one heartbeat of each: from the first message to the last commit."""
    for count in (1, 2, 4):
        directory = tmp_path / str(count)
        directory.mkdir()
        with Shipped(directory / "mosquitto") as broker:
            _measure(broker, postgres.database(), directory, count)


def _measure(broker: Shipped, database: str, directory: Path, count: int) -> None:
    with ExitStack() as stack:
        bridges = start(stack, directory, count, seats=count, broker=broker.url, database=database)
        until(lambda: all(b.says("connected to") for b in bridges), "all seats are held")
        hello(broker)
        time.sleep(3)  # seat 0 has asked all clients, and nobody has to answer

        def measure(what: str, messages: list[Message], done: str) -> None:
            cpu_s, began_s = sum(b.cpu_s() for b in bridges), time.monotonic()
            broker.publisher("", "").publish_all(messages)
            until(lambda: query(database, done)[0]["n"] >= len(messages), what, _DEADLINE_S, every_s=0.05)
            took_s = time.monotonic() - began_s
            cpu_us = (sum(b.cpu_s() for b in bridges) - cpu_s) / len(messages) * 1e6
            print(
                f"\nbridges: {count}, {what}: {len(messages) / took_s:.0f}/s, {cpu_us:.0f} µs of the bridges each"
            )

        ours = "FROM connection_records WHERE user_id LIKE 'user-%'"
        measure("logins", [login_of(n, USERS) for n in range(CLIENTS)], f"SELECT COUNT(*) AS n {ours}")
        heard = f"SELECT COUNT(*) AS n FROM pulses WHERE heartbeats AND id IN (SELECT id {ours})"
        measure("heartbeats", [report_of(n, USERS) for n in range(CLIENTS)], heard)
