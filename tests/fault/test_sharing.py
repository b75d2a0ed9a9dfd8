"""Several bridges share the messages of one broker: each message counts once, and the newest status stays."""

import signal
from contextlib import ExitStack
from pathlib import Path

from tests.fault.test_one_bridge import other_process
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of
from tests.support.waiting import until


def start(
    stack: ExitStack, tmp_path: Path, count: int, *, seats: int, broker: str, database: str
) -> list[BridgeProcess]:
    """Start processes; those that find no free seat wait."""
    processes = []
    for number in range(count):
        process = BridgeProcess(
            tmp_path / f"bridge{number}", ready=False, broker=broker, database=database, seats=seats,
            node=f"node{number}",
        )  # fmt: skip
        processes.append(stack.enter_context(process))
    return processes


def holders(database: str) -> list[str]:
    """The nodes that hold seats, by the number of the seat; empty for a vacant one."""
    listed = other_process("seats", f"--database={database}")
    assert listed.returncode == 0, listed.stderr
    rows = [line.split() for line in listed.stdout.splitlines()[1:]]
    return ["" if row[1] == "vacant" else row[1] for row in rows if row[0] != "waiting"]


def test_shared_messages_count_once(mosquitto: Shipped, postgres: Postgres, tmp_path: Path) -> None:
    """Two bridges and a spare: one is killed, one is frozen, and no message is lost or doubled."""
    database = postgres.database()
    watched, said = mosquitto.recorder(), Said()
    with ExitStack() as stack:
        processes = start(stack, tmp_path, 3, seats=2, broker=mosquitto.url, database=database)
        until(lambda: sum(p.log().count("connected to") for p in processes) == 2, "both seats are held")
        hello(mosquitto)
        until(
            lambda: watched.on("bridge/state")[-1].json.get("seatsHeld") == 2, "the first has seen the second"
        )
        asked = sum(p.log().count("asking all clients to log in again") for p in processes)
        assert asked == 1, "the first session of a further seat has lost no message"
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(life_of(range(100), 100)))
        first, second = (int(node.removeprefix("node")) for node in holders(database))
        processes[second].kill()
        client.publish_all(said.all(life_of(range(100, 200), 100)))
        until(
            lambda: not {"", f"node{second}"} & {*holders(database)}, "the spare has the seat", deadline_s=20
        )
        processes[second].start(ready=False)
        processes[second].wait_for_log("waiting as a standby")
        processes[first].signal(signal.SIGSTOP)
        client.publish_all(said.all(life_of(range(200, 300), 100)))
        until(
            lambda: not {"", f"node{first}"} & {*holders(database)}, "the frozen one lost it", deadline_s=20
        )
        processes[first].signal(signal.SIGCONT)
        client.publish_all(said.all(life_of(range(300, 400), 100)))
        assert_true(mosquitto, database, said, watched, late=True, deadline_s=60)
        until(lambda: watched.on("bridge/state")[-1].json.get("seatsHeld") == 2, "the state has the seats")
        until(
            lambda: query(database, "SELECT COUNT(*) AS n FROM outbox") == [{"n": 0}], "the outbox is empty"
        )
        assert not any("deadlock" in process.log() for process in processes)
        verified = other_process("verify", f"--database={database}", f"--broker={mosquitto.url}")
        assert verified.returncode == 0, verified.stdout
