"""A process that moves records is killed at any moment: each record is in one of the two tables, and whole."""

import random
import signal
import subprocess
import sys
import time

from mqtt_presence.store import START, Store
from mqtt_presence.store.record_history import RECENT_MS
from tests.support.crowded import NOW, Crowd
from tests.support.postgres import cursor, query

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
