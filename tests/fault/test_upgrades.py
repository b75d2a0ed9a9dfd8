"""Processes of two releases beside each other: nothing stops, and a schema that is too new is refused clearly."""

import json
import shutil
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from mqtt_presence.store import Store, upgrades
from mqtt_presence.store.database import LEASE_MS
from tests.support.brokers import Shipped
from tests.support.checker import assert_true
from tests.support.playing import hello
from tests.support.postgres import Postgres, query
from tests.support.releases import Release, ReleaseProcess
from tests.support.said import Said, life_of
from tests.support.waiting import until

ADDS = """
from peewee import BigIntegerField, Model, TextField


class More(Model):
    name = TextField(primary_key=True)

    class Meta:
        table_name = "more"


def up(migrator, db):
    More.bind(db)
    More.create_table()
    migrator.migrate(
        migrator.add_column("connection_records", "more", BigIntegerField(null=True)),
        migrator.add_column("pulses", "more", BigIntegerField(null=True)),
        migrator.add_column("seats", "more", BigIntegerField(null=True)),
    )
"""
REMOVES = """
from mqtt_presence.store.upgrades import require_release


def up(migrator, db):
    require_release(db, "0.10.0")
    migrator.migrate(migrator.drop_column("notify_failures", "attempts"))
"""


def seats(release: Release, database: str) -> dict[str, tuple[int | None, str]]:
    """Return the seat and the release of each node, as a command of a release shows them."""
    listed = release.run("seats", "--json", f"--database={database}")
    assert listed.returncode == 0, listed.stderr
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    return {row["node"]: (row["seat"], row["release"]) for row in rows if row["node"] is not None}


def test_releases_work_side_by_side(mosquitto: Shipped, postgres: Postgres, tmp_path: Path) -> None:
    """A rolling upgrade of two bridges and a spare, under load: no message is lost or counted twice."""
    database = postgres.database()
    old = Release(tmp_path / "old", "0.9.1")
    new = Release(tmp_path / "new", "0.10.0", {"0900_more": ADDS})
    watched, said = mosquitto.recorder(), Said()
    settings = {"broker": mosquitto.url, "database": database, "seats": 2}
    with ExitStack() as stack:

        def start(release: Release, node: str) -> ReleaseProcess:
            log = tmp_path / f"{node}-{release.version}"
            return stack.enter_context(ReleaseProcess(release, log, node=node, **settings))

        first, second = start(old, "first"), start(old, "second")
        first.wait_for_log("connected to")
        second.wait_for_log("connected to")
        hello(mosquitto)
        client = mosquitto.publisher("", "")

        def talk(part: int) -> None:
            client.publish_all(said.all(life_of(range(part * 60, part * 60 + 60), 60)))

        def assert_commands_work(*releases: Release) -> None:
            for release in releases:
                for arguments in (("users",), ("history", "user-1"), ("verify", f"--broker={mosquitto.url}")):
                    done = release.run(*arguments, f"--database={database}")
                    assert done.returncode == 0, (release.version, arguments, done.stdout, done.stderr)

        talk(0)
        third = start(new, "third")  # it migrates the database under the old ones, and waits
        third.wait_for_log("waiting as a standby")
        talk(1)
        expected = {"first": "0.9.1", "second": "0.9.1", "third": "0.10.0"}
        for release in (old, new):
            assert {node: of for node, (_, of) in seats(release, database).items()} == expected
        assert query(database, "SELECT COUNT(*) AS n FROM more") == [{"n": 0}]
        assert first.stop() == 0
        third.wait_for_log("connected to")
        talk(2)
        until(
            lambda: [of for _, of in seats(new, database).values()].count("0.10.0") == 1, "both hold a seat"
        )
        assert_commands_work(old, new)
        first = start(new, "first")
        first.wait_for_log("waiting as a standby")
        talk(3)
        assert second.stop() == 0
        first.wait_for_log("connected to")
        talk(4)
        second = start(old, "second")  # one that was forgotten
        second.wait_for_log("waiting as a standby")
        third.kill()
        second.wait_for_log("connected to", deadline_s=30)
        talk(5)
        assert_true(mosquitto, database, said, watched, late=True, deadline_s=60)
        assert {node: of for node, (_, of) in seats(old, database).items()} == {
            "first": "0.10.0",
            "second": "0.9.1",
        }
        assert not any("deadlock" in process.log() for process in (first, second, third))


def test_migration_that_waits_for_a_table_stops_no_bridge(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statements queue behind a migration that waits for a long query; so it gives up its place, and tries again."""
    database = postgres.database()
    Store(database).open()
    migrations = tmp_path / "migrations"
    shutil.copytree(upgrades.MIGRATIONS, migrations)
    (migrations / "0900_more.py").write_text(ADDS)
    monkeypatch.setattr(upgrades, "MIGRATIONS", migrations)
    with psycopg.connect(database) as reader, psycopg.connect(database, autocommit=True) as bridge:
        reader.execute("SELECT COUNT(*) FROM connection_records")
        bridge.execute(f"SET statement_timeout = {LEASE_MS}")
        upgrade = threading.Thread(target=Store(database).open, daemon=True)
        upgrade.start()
        waits = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        for _ in range(2):
            until(lambda: bridge.execute(waits).fetchone() == (1,), "the migration waits")
            began = time.monotonic()
            bridge.execute("SELECT COUNT(*) FROM connection_records")
            assert time.monotonic() - began < LEASE_MS / 2000
        assert upgrade.is_alive()
        reader.rollback()
        upgrade.join(20)
        assert bridge.execute("SELECT COUNT(*) FROM more").fetchone() == (0,)


def test_release_that_does_not_know_what_was_removed_is_refused(
    mosquitto: Shipped, postgres: Postgres, tmp_path: Path
) -> None:
    """A migration that removes waits for the old processes; afterwards old bridges and commands end at once."""
    database = postgres.database()
    old = Release(tmp_path / "old", "0.9.1")
    new = Release(tmp_path / "new", "0.10.0", {"0900_less": REMOVES}, oldest_known="0900_less")
    of_bridges = {"broker": mosquitto.url, "database": database}
    standby = ReleaseProcess(old, tmp_path / "b", node="b", **of_bridges)
    with ReleaseProcess(old, tmp_path / "a", node="a", **of_bridges) as holder, ExitStack() as stack:
        holder.wait_for_log("connected to")
        stack.enter_context(standby)
        standby.wait_for_log("waiting as a standby")
        for still, others in (("a (0.9.1), b (0.9.1)", holder), ("b (0.9.1)", standby)):
            refused = new.run("run", *(f"--{name}={value}" for name, value in of_bridges.items()))
            assert refused.returncode == 1
            wanted = f"needs 0.10.0 or later in all processes: first upgrade {still}"
            assert wanted in refused.stderr
            assert "Traceback" not in refused.stderr
            assert others.stop() == 0
    with ReleaseProcess(new, tmp_path / "c", node="c", **of_bridges) as upgraded:
        upgraded.wait_for_log("connected to")
        for arguments in (("users",), ("seats",), ("run", f"--broker={mosquitto.url}")):
            done = old.run(*arguments, f"--database={database}")
            assert done.returncode == 1, arguments
            assert (
                "made by a newer mqtt-presence (it needs migration 0900_less): upgrade this one"
                in done.stderr
            )
            assert "Traceback" not in done.stderr
        assert new.run("users", f"--database={database}").returncode == 0
