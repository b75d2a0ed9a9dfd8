"""The disk of PostgreSQL is full: the bridge waits, acknowledges nothing, and goes on when there is room."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.fault.test_database_losses import ready
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.said import Said, life_of
from tests.support.waiting import free_port, listens, until

SMALL_WAL = {"min_wal_size": "2MB", "max_wal_size": "4MB"}


class SmallDisk(Postgres):
    """A server whose data, or whose write-ahead log alone, is on a small disk.

    Args:
        of: `data`, or `pg_wal`.
        megabytes: the size of the disk.

    """

    def __init__(self, of: str, megabytes: int) -> None:
        super().__init__(**SMALL_WAL)
        self._of = of
        self._megabytes = megabytes
        self.disk = self._root / "disk"

    def __enter__(self) -> Self:
        self.disk.mkdir()
        options = f"size={self._megabytes}m,uid={self._user.pw_uid},gid={self._user.pw_gid},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.disk], check=True)
        try:
            return super().__enter__()
        except BaseException:
            self._unmount()
            raise

    def __exit__(self, *exception: object) -> None:
        self.free()
        try:
            if self.is_running:
                self.stop("immediate")
        finally:
            self._unmount()
            super().__exit__(*exception)

    def _unmount(self) -> None:
        subprocess.run(["umount", "-l", self.disk], check=True)

    def _create(self) -> None:
        if self._of == "data":
            self._data = self.disk / "data"
            self._init("--wal-segsize=1")
        else:
            self._init("--wal-segsize=1", f"--waldir={self.disk / 'wal'}")

    @property
    def is_running(self) -> bool:
        """Whether the server accepts connections."""
        return listens(self.port)

    def fill(self) -> None:
        """Fill the disk."""
        with (self.disk / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

    def free(self) -> None:
        """Make room."""
        (self.disk / "ballast").unlink(missing_ok=True)

    def log(self) -> str:
        """Return the log of the server."""
        return (self._root / "log").read_text(errors="replace")


@contextmanager
def running_on(server: SmallDisk, mosquitto: Shipped, log: Path) -> Iterator[tuple[BridgeProcess, str, int]]:
    database, port = server.database(), free_port()
    with BridgeProcess(log, broker=mosquitto.url, database=database, monitor_port=port) as bridge:
        hello(mosquitto)
        yield bridge, database, port


@pytest.mark.parametrize("of", ["data", "pg_wal"])
def test_disk_is_full_for_a_while(mosquitto: Shipped, tmp_path: Path, of: str) -> None:
    """Nothing acknowledged is lost and nothing is refused, also when the full log stops the server."""
    watched, said = mosquitto.recorder(), Said()
    client = mosquitto.publisher("", "")
    with (
        SmallDisk(of, 96 if of == "data" else 24) as server,
        running_on(server, mosquitto, tmp_path / "log") as (bridge, database, port),
    ):
        client.publish_all(said.all(life_of(range(300), 100)))
        watched.wait_for(lambda: watched.status("user-99"), "the first are there")
        server.fill()
        for start in range(300, 9300, 300):
            client.publish_all(said.all(life_of(range(start, start + 300), 1000)))
            if "next try" in bridge.log():
                break
        bridge.wait_for_log("nothing is lost, next try", 4, deadline_s=60)
        until(lambda: ready(port)["database"] is False, "the bridge is not ready")
        assert ready(port)["broker"] is True
        if of == "data":
            assert "No space left on device" in bridge.log()
        else:
            until(lambda: "PANIC" in server.log(), "the server has stopped")
        server.free()
        # It may run on, be starting by itself, or have given up: the data's disk has the log, too.
        until(lambda: started(server), "the server runs", 60, every_s=0.5)
        assert_true(mosquitto, database, said, watched, deadline_s=90)
        until(lambda: ready(port)["ready"], "the bridge is ready")
        assert {message.json["state"] for message in watched.on("bridge/state")} == {"online"}
        assert "the database has lost" not in bridge.log()
        assert bridge.stop() == 0
        assert query(database, "SELECT value FROM bridge WHERE name = 'refused'") == []


def started(server: SmallDisk) -> bool:
    """Start the server if it has ended; return whether it answers."""
    if not server.is_running:
        server.start()
    return bool(server.execute("SELECT 1"))
