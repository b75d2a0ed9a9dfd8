"""A database is deleted, moved, replaced or set back under a running bridge: nothing more is acknowledged."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fault.test_crashes import count
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import Postgres, cursor, query
from tests.support.recorder import Recorder
from tests.support.said import Said, life_of
from tests.support.waiting import until


class House:
    """A bridge on SQLite with 50 lives behind it."""

    def __init__(self, mosquitto: Shipped, directory: Path, bridge: BridgeProcess) -> None:
        self.mosquitto = mosquitto
        self.file = directory / "presence.db"
        self.url = f"sqlite:///{self.file}"
        self.bridge = bridge
        self.said = Said()
        self.watched: Recorder = mosquitto.recorder()
        self._client = mosquitto.publisher("", "")
        self._number = 0
        self.live()
        until(lambda: count(self.url) == 50, "the first 50")

    def beside(self, suffix: str) -> Path:
        return self.file.with_name(self.file.name + suffix)

    def live(self) -> None:
        """Have 50 more live, all the broker's acknowledgements included."""
        self._client.publish_all(self.said.all(life_of(range(self._number, self._number + 50), 50)))
        self._number += 50

    def assert_true(self) -> None:
        """All that clients have said is recorded, and told."""
        assert_true(self.mosquitto, self.url, self.said, self.watched)


@pytest.fixture
def house(mosquitto: Shipped, tmp_path: Path) -> Iterator[House]:
    """Run a bridge whose database is in a directory of its own."""
    directory = tmp_path / "data"
    directory.mkdir()
    url = f"sqlite:///{directory / 'presence.db'}"
    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=url) as bridge:
        hello(mosquitto)
        yield House(mosquitto, directory, bridge)


def opened(pid: int, file: Path) -> Path:
    """Find a deleted file among those that a process has open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(descriptor) == f"{file} (deleted)":  # noqa: PTH115 - there is no such path
            return descriptor
    raise AssertionError(f"{file} is not open")


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm")])
def test_a_database_that_is_moved_away_and_back(
    house: House, tmp_path: Path, suffixes: tuple[str, ...]
) -> None:
    """Messages wait with the broker, and are decided when the file is back; no restart is needed."""
    for suffix in suffixes:
        house.beside(suffix).rename(tmp_path / f"away{suffix}")
    house.live()
    house.bridge.wait_for_log("was deleted or moved away: put it back; nothing is lost, next try", 2)
    assert count(f"sqlite:///{tmp_path / 'away'}") >= 50, "what was acknowledged is in the file"
    (tmp_path / "away").rename(house.file)
    house.assert_true()
    assert house.bridge.stop() == 0


def test_a_database_that_is_deleted_is_still_to_be_had(house: House) -> None:
    """All that was acknowledged is in the file that the bridge has open: copied back, the bridge is started on it."""
    for suffix in ("", "-wal", "-shm"):
        house.beside(suffix).unlink()
    house.live()
    house.bridge.wait_for_log("was deleted or moved away")
    shutil.copyfile(opened(house.bridge.pid, house.file), house.beside("-rescued"))
    house.beside("-rescued").rename(house.file)
    assert house.bridge.wait() == 1
    assert f"another file is now at {house.file}" in house.bridge.log()
    assert "Traceback" not in house.bridge.log()
    house.bridge.start()
    house.assert_true()


def test_a_database_that_is_replaced_by_its_backup(house: House, tmp_path: Path) -> None:
    """The bridge ends, and what it has not acknowledged comes to the one that is started on the new file."""
    with closing(sqlite3.connect(house.file)) as database:
        database.execute("VACUUM INTO ?", [str(tmp_path / "backup")])
    (tmp_path / "backup").rename(house.file)
    house.live()
    assert house.bridge.wait() == 1
    assert f"another file is now at {house.file}" in house.bridge.log()
    for suffix in ("-wal", "-shm"):
        house.beside(suffix).unlink(missing_ok=True)
    house.bridge.start()
    house.assert_true()


def test_an_empty_file_in_its_place_is_no_database(house: House, tmp_path: Path) -> None:
    """Whoever looks with sqlite3 for a file that is not there makes an empty one: that replaces nothing."""
    house.file.rename(tmp_path / "away")
    house.file.touch()
    house.live()
    house.bridge.wait_for_log("was deleted or moved away", 2)
    (tmp_path / "away").rename(house.file)
    house.assert_true()


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_a_log_that_is_deleted_takes_nothing_with_it(house: House, suffixes: tuple[str, ...]) -> None:
    """The bridge puts all of it into the database, and goes on with a new log: a crash then loses nothing."""
    for suffix in suffixes:
        house.beside(suffix).unlink()
    house.live()
    until(lambda: all(house.beside(suffix).exists() for suffix in suffixes), "there is a new log")
    house.live()
    until(lambda: count(house.url) == 150, "all are recorded")
    house.bridge.kill()
    house.bridge.start()
    house.assert_true()


# PostgreSQL.


@pytest.mark.parametrize("when", ["before the bridge came", "a moment ago"])
def test_a_postgresql_that_is_set_back_under_the_bridge(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path, when: str
) -> None:
    """The bridge notices it, says so, and goes on in a new tenure: it publishes all statuses and asks everybody."""
    database = postgres.database()
    rows = [
        "seats",
        "bridge",
        "user_states",
        "connection_records",
        "pulses",
        "outbox",
        "redeliveries",
        "tombstones",
    ]

    def back_up() -> None:
        with cursor(database) as cur:
            cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; CREATE SCHEMA backup")
            for table in rows:
                cur.execute(f"CREATE TABLE backup.{table} AS SELECT * FROM public.{table}")

    def restore() -> None:
        with cursor(database) as cur:
            cur.execute(f"LOCK {', '.join(rows)} IN ACCESS EXCLUSIVE MODE")
            for table in rows:
                cur.execute(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM backup.{table}")

    with BridgeProcess(tmp_path / "log", broker=mosquitto.url, database=database) as bridge:
        hello(mosquitto)
        if when == "before the bridge came":
            assert bridge.stop() == 0
            back_up()
            bridge.start()
        else:
            back_up()
        client = mosquitto.publisher("", "")
        client.publish_all([("presence/alice/phone/login", b"")])
        until(lambda: query(database, "SELECT 1 FROM users WHERE user_id = 'alice'"), "alice has logged in")
        restore()
        bridge.wait_for_log("committed transactions")
        bridge.wait_for_log("all statuses are published again")
        client.publish_all([("presence/bob/phone/login", b"")])
        until(lambda: query(database, "SELECT 1 FROM users WHERE user_id = 'bob'"), "bob has logged in")
        assert "Traceback" not in bridge.log()
        assert bridge.stop() == 0
