"""`mqtt-presence check` and the bridge's database: a real PostgreSQL, and files of SQLite."""

import json
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from mqtt_presence.cli.app import app
from mqtt_presence.store import Store
from mqtt_presence.tools.check.database_probe import look_at
from mqtt_presence.tools.check.findings import Finding, Verdict
from tests.support.brokers import Embedded
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import Postgres
from tests.support.waiting import free_port, until

FINE = "a commit survives a crash of the server and of its machine, not the loss of its disk"
FOLLOWERS = "SELECT 1 FROM pg_stat_replication"


def look(url: str) -> Finding:
    """Return the finding on a database."""
    found = look_at(url)
    assert found.name == "database"
    assert bool(found.consequence) is (found.verdict is not Verdict.PASS)
    assert bool(found.remedy) or found.verdict in {Verdict.PASS, Verdict.NOTE}
    return found


def test_database_of_the_settings_is_checked(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file counts after the variable, as for the bridge; a failure is one of the check."""

    def check(*flags: str) -> tuple[int, str, str]:
        urls = ["--broker", broker.url, "--client", f"mqtt://alice@127.0.0.1:{broker.port}"]
        run = CliRunner().invoke(app, ["check", *urls, *flags, "--only", "database", "--json"])
        assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
        found = {f["check"]: f for f in map(json.loads, run.stdout.splitlines())}["database"]
        return run.exit_code, found["verdict"], found["evidence"]

    url = postgres.database()
    config = tmp_path / "settings.toml"
    config.write_text(f'database = "{url}-and-more"\n')
    with Embedded() as broker:
        code, verdict, evidence = check(f"--config={config}")
        assert (code, verdict) == (1, "fail")
        assert "does not exist" in evidence
        monkeypatch.setenv("MQTT_PRESENCE_DATABASE", url)
        code, verdict, evidence = check(f"--config={config}")
        assert (code, verdict) == (0, "pass")
        assert FINE in evidence


def test_single_server_passes_and_is_only_read(postgres: Postgres) -> None:
    """Its commits survive a crash; the check needs no schema, makes none, and works through a pooler."""
    url = postgres.database()
    with PgBouncer(postgres.port) as pooler:
        for given in (url, pooler.url(url), pooler.url(url)):
            found = look(given)
            assert found.verdict is Verdict.PASS, found
            assert found.evidence.endswith(f"synchronous_commit = on, no standby: {FINE}")
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_unsafe_settings_of_the_user_fail(postgres: Postgres) -> None:
    """The settings are those that the bridge's own user gets, with a remedy for each."""
    url = postgres.database()
    postgres.execute("CREATE ROLE hasty LOGIN")
    postgres.execute("ALTER ROLE hasty SET synchronous_commit = off")
    postgres.set("full_page_writes", "off")
    try:
        found = look(url.replace("postgres@", "hasty@"))
    finally:
        postgres.set("full_page_writes", "on")
    assert found.verdict is Verdict.FAIL
    for words in ("synchronous_commit = off: a crash of the server", "full_page_writes = off: "):
        assert words in found.evidence
    assert found.remedy.startswith("set synchronous_commit = on for")
    assert "set full_page_writes = on: docs/scale.md" in found.remedy


def test_asynchronous_follower_fails(postgres: Postgres) -> None:
    """A follower that no commit waits for may become the primary, and lack the last commits."""
    url = postgres.database()
    postgres.execute("CREATE ROLE plain LOGIN")
    following = psycopg.connect(url, autocommit=True, replication="true")
    try:
        following.pgconn.exec_(b"START_REPLICATION 0/0")
        until(lambda: postgres.execute(FOLLOWERS), "it follows")
        for given in (url, url.replace("postgres@", "plain@")):  # the latter sees its number only
            found = look(given)
            assert found.verdict is Verdict.FAIL
            assert "standbys: 1; synchronous_standby_names is empty" in found.evidence
            assert "name the standby in synchronous_standby_names" in found.remedy
    finally:
        following.close()
        until(lambda: not postgres.execute(FOLLOWERS), "it follows no more")
    assert look(url).verdict is Verdict.PASS


def test_database_that_cannot_be_used_fails(postgres: Postgres) -> None:
    """The finding has the server's reason, and never the password."""
    url = postgres.database()
    postgres.execute("CREATE ROLE asked LOGIN PASSWORD 'right'")
    hba = Path(postgres.execute("SHOW hba_file")[0][0])
    hba.write_text(f"host all asked 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
    postgres.execute("SELECT pg_reload_conf()")
    wrong = url.replace("postgres@", "asked:nonsense@")
    until(lambda: look(wrong).verdict is Verdict.FAIL, "the password is looked at")
    for given, words in (
        (wrong, 'password authentication failed for user "asked"'),
        (f"{url}-and-more", "does not exist"),
        (url.replace(str(postgres.port), str(free_port())), "onnection refused"),
    ):
        found = look(given)
        assert found.verdict is Verdict.FAIL
        assert words in found.evidence, found
        assert "cannot commit" in found.consequence
        assert "nonsense" not in str(found)
    assert look(wrong.replace("nonsense", "right")).verdict is Verdict.PASS


def test_settings_that_the_user_may_not_read_warn(postgres: Postgres) -> None:
    """An administrator may have taken the right from everybody."""
    url = postgres.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE poor LOGIN")
        connection.execute("REVOKE SELECT ON pg_stat_replication FROM PUBLIC")
    found = look(url.replace("postgres@", "poor@"))
    assert found.verdict is Verdict.WARN
    assert "permission denied for" in found.evidence
    assert "pg_stat_replication" in found.remedy


def test_file_of_sqlite_passes(tmp_path: Path) -> None:
    """The evidence has the settings of the bridge; a missing file stays missing."""
    path = tmp_path / "presence.db"
    url = f"sqlite:///{path}"
    found = look(url)
    assert found.verdict is Verdict.NOTE
    assert "there is no such file" in found.evidence
    assert not path.exists()
    store = Store(url)
    store.open()
    store.close()
    found = look(url)
    assert found.verdict is Verdict.PASS
    assert found.evidence == (
        "SQLite, where the bridge sets journal_mode = wal, synchronous = full: a commit survives a crash of "
        "the bridge and of its machine, not the loss of its disk"
    )
    path.write_text("no database " * 99)
    found = look(url)
    assert found.verdict is Verdict.FAIL
    assert "file is not a database" in found.evidence
    path.write_bytes(b"")
    assert "from journal_mode = delete" in look(url).evidence
