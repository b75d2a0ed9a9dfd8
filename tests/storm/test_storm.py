"""The kill test of sharing: five bridges for four seats, killed, frozen and stopped at random under load.

`STORM_S` is its length in seconds. The report is printed, and written to `.storm/report.txt`.
"""

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fault.test_one_bridge import other_process
from tests.fault.test_sharing import holders, start
from tests.storm.chaos import Chaos, SeatWatch, zombies
from tests.storm.storm_load import USERS, StormLoad
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said
from tests.support.waiting import until

STORM_S = float(os.environ.get("STORM_S", "600"))
SEED = int(os.environ.get("STORM_SEED", "15"))
RATE = float(os.environ.get("STORM_RATE", "300"))
SEATS, PROCESSES = 4, 5
REPORT = Path(os.environ.get("STORM_REPORT", ".storm/report.txt"))


@pytest.mark.timeout(STORM_S + 400)
def test_sharing_survives_random_kills(mosquitto: Shipped, postgres: Postgres, tmp_path: Path) -> None:
    """Each acknowledged login has one record, each retained status is the newest, and nothing is left over."""
    database, said = postgres.database(), Said()
    watched = mosquitto.recorder()
    with ExitStack() as stack:
        bridges = start(stack, tmp_path, PROCESSES, seats=SEATS, broker=mosquitto.url, database=database)
        until(lambda: sum(b.log().count("connected to") for b in bridges) == SEATS, "all seats are held")
        hello(mosquitto)
        time.sleep(1.5)
        watch = SeatWatch(database)
        stack.callback(watch.close)
        load = StormLoad(mosquitto, said, rate=RATE, seed=SEED)
        chaos = Chaos(bridges, SEED)
        load.start()
        began_s = time.monotonic()
        try:
            while time.monotonic() < began_s + STORM_S:
                assert load.error is None, load.error
                chaos.step()
                watch.look()
                time.sleep(0.05)
        finally:
            load.stop()
            chaos.end()
        until(watch.look, "all seats are held again", deadline_s=40, every_s=0.1)
        drained_s = time.monotonic()
        assert_true(mosquitto, database, said, watched, late=True, deadline_s=120)
        drained_s = time.monotonic() - drained_s
        state = watched.on("bridge/state")
        until(
            lambda: watched.on("bridge/state")[-1].json.get("seatsHeld") == SEATS, f"all seats: {state[-1]}"
        )
        until(lambda: query(database, "SELECT id, seat FROM outbox") == [], "the outbox is empty")
        assert len(set(holders(database))) == SEATS
        logs = [tmp_path / f"bridge{number}" for number in range(PROCESSES)]
        for text in [*(b.log() for b in bridges), (postgres._root / "log").read_text()]:
            found = text.find("deadlock detected")
            assert found < 0, text[found - 100 : found + 3000]
            assert "Traceback" not in text
        verified = other_process("verify", f"--database={database}", f"--broker={mosquitto.url}")
        assert verified.returncode == 0, verified.stdout
        ((count,),) = [tuple(r.values()) for r in query(database, "SELECT COUNT(*) AS n FROM connections")]
        _report(
            f"{STORM_S:g} s, {SEATS} seats, {PROCESSES} processes, {USERS} users, seed {SEED}",
            f"kills -9: {chaos.done['kill']}, freezes: {chaos.done['freeze']}, clean stops: {chaos.done['stop']}",
            f"seats taken: {watch.takeovers}, seats lost by a frozen process: {zombies(logs)}",
            f"longest time that a seat had no holder: {watch.longest_gap_s:.1f} s",
            f"messages: {load.messages} (storms: {load.storms}), logins: {sum(said.logins.values())}, "
            f"records: {count}",
            f"statuses and events heard: {len(watched.heard)}",
            f"all of it right {drained_s:.1f} s after all seats were held again",
        )


def _report(*lines: str) -> None:
    text = "\n".join(lines)
    print(f"\n{text}")
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(f"{text}\n")
