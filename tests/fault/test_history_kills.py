"""A process that moves records is killed at any moment: each record is in one of the two tables, and whole."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.store import START, Store
from mqtt_presence.store.record_history import RECENT_MS
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.crowded import NOW, Crowd
from tests.support.playing import hello
from tests.support.postgres import cursor, query
from tests.support.waiting import until

SIZE = 2000
MOVER = """\
import sys
from mqtt_presence.store import START, Store

store = Store(sys.argv[1])
store.open()
print("moving", flush=True)
place = START
while place is not None:
    with store.transaction() as tx:
        place, _ = tx.move_ended(int(sys.argv[2]), place, 40)
print("moved", flush=True)
"""


def test_a_killed_mover_leaves_each_record_in_one_table(database: str) -> None:
    """Killed twelve times in the middle; the rest moves afterwards, and no row is lost, doubled or cut in half."""
    store = Store(database)
    store.open()
    Crowd(database, SIZE)
    with cursor(database) as cur:
        # A later login of the same client; by that the others are not the newest.
        cur.execute("UPDATE connection_records SET client_id = 'phone' WHERE logout_time IS NOT NULL")
    later = NOW + RECENT_MS + 1
    choose, landed = random.Random(7), set[int]()
    (all_of_them,) = query(database, "SELECT COUNT(*) AS n FROM connections")
    for _ in range(12):
        mover = subprocess.Popen(
            [sys.executable, "-c", MOVER, database, str(later)], stdout=subprocess.PIPE, text=True
        )
        assert mover.stdout is not None
        assert mover.stdout.readline() == "moving\n"
        time.sleep(choose.random() * 0.06)
        mover.send_signal(signal.SIGKILL)
        mover.wait()
        mover.stdout.close()
        landed.add(assert_whole(database, all_of_them["n"]))
    assert len(landed) > 3, landed  # it was killed in the middle
    place: tuple[int, int] | None = START
    while place is not None:
        with store.transaction() as tx:
            place, _ = tx.move_ended(later, place, 500)
    assert assert_whole(database, all_of_them["n"]) == 2 * (SIZE - 1)  # of `clients` and `records`
    store.close()


def test_a_bridge_that_is_killed_while_it_moves_goes_on_afterwards(
    mosquitto: Shipped, sqlite_url: str, tmp_path: Path
) -> None:
    """Killed three times within its first moves; meanwhile clients log in, and in the end all old records are moved."""
    store = Store(sqlite_url)
    store.open()
    store.close()
    Crowd(sqlite_url, SIZE)
    shift = NOW + RECENT_MS + 60_000 - wall_clock()
    with cursor(sqlite_url) as cur:  # all of it has ended more than seven days ago
        for column in ("login_time", "login_order", "opened_at", "logout_time", "check_at"):
            cur.execute(f"UPDATE connection_records SET {column} = {column} - {shift}")
        cur.execute("UPDATE connection_records SET client_id = 'phone' WHERE logout_time IS NOT NULL")

    def moved() -> int:
        return int(query(sqlite_url, "SELECT COUNT(*) AS n FROM connection_history")[0]["n"])

    with BridgeProcess(
        tmp_path / "bridge.log", broker=mosquitto.url, database=sqlite_url, keep_alive=5
    ) as bridge:
        for more in (1, 300, 900):
            until(lambda more=more: moved() >= more, f"{more} records are in the history", every_s=0.002)
            bridge.kill()
            bridge.start()
            hello(mosquitto)
        until(lambda: moved() == 2 * (SIZE - 1), "all old records are in the history", deadline_s=60)
    (all_of_them,) = query(sqlite_url, "SELECT COUNT(*) AS n FROM connections WHERE connection_id LIKE 'c%'")
    assert all_of_them["n"] >= 3 * SIZE
    (counted,) = query(
        sqlite_url,
        "SELECT COUNT(*) AS n FROM (SELECT id FROM connection_records UNION ALL SELECT id FROM connection_history) AS b",
    )
    assert_whole(sqlite_url, counted["n"])


def assert_whole(database: str, expected: int) -> int:
    """Check that each record is in one table, with its activity; return how many are in the history."""
    both = "(SELECT id, 1 AS n FROM connection_records UNION ALL SELECT id, 0 FROM connection_history) AS b"
    counted = query(database, f"SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM {both}")
    assert counted == [{"n": expected, "ids": expected}]
    halves = query(
        database,
        "SELECT r.id FROM connection_records r LEFT JOIN pulses p ON p.id = r.id WHERE p.id IS NULL UNION ALL "
        "SELECT p.id FROM pulses p LEFT JOIN connection_records r ON p.id = r.id WHERE r.id IS NULL UNION ALL "
        "SELECT id FROM connection_history WHERE last_seen IS NULL",
    )
    assert halves == []
    (moved,) = query(database, "SELECT COUNT(*) AS n FROM connection_history")
    return int(moved["n"])
