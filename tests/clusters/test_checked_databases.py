"""`mqtt-presence check` and PostgreSQL with real standbys: which of them lose commits."""

from collections.abc import Iterator

import psycopg
import pytest

from mqtt_presence.tools.check.database_probe import look_at
from mqtt_presence.tools.check.findings import Verdict
from tests.support.postgres import Postgres, Standby
from tests.support.waiting import until

FOLLOWERS = "SELECT 1 FROM pg_stat_replication"


@pytest.fixture
def primary() -> Iterator[Postgres]:
    """Run a primary of the test's own, which allows logical replication."""
    with Postgres() as started:
        started.execute("ALTER SYSTEM SET wal_level = 'logical'")
        started.stop()
        started.start()
        yield started


def test_only_a_synchronous_standby_passes(primary: Postgres) -> None:
    """The promotion of an asynchronous standby loses the last commits; a standby itself is no database."""
    url = primary.database()
    with Standby(primary) as standby:
        standby.wait_until_streaming()
        found = look_at(url)
        assert found.verdict is Verdict.FAIL
        assert "standbys: 1; synchronous_standby_names is empty" in found.evidence
        assert look_at(standby.url_of_both(url)).evidence == found.evidence
        found = look_at(url.replace(str(primary.port), str(standby.port)))
        assert found.verdict is Verdict.FAIL
        assert "a standby: it takes no commits" in found.evidence
        assert "target_session_attrs=read-write" in found.remedy
        primary.set("synchronous_standby_names", Standby.NAME)
        found = look_at(url)
        assert found.verdict is Verdict.PASS
        assert found.evidence.endswith(
            "survives the loss of the primary, if a synchronous standby takes over"
        )
        standby.stop("immediate")
        until(lambda: not primary.execute(FOLLOWERS), "the standby is gone")
        found = look_at(url)
        assert found.verdict is Verdict.FAIL
        assert "each commit waits for a synchronous standby, and none follows" in found.evidence


def test_subscriber_of_logical_replication_is_no_standby(primary: Postgres) -> None:
    """Such a program follows the server, and cannot become the primary."""
    url = primary.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('logical', 'test_decoding')")
    following = psycopg.connect(url, autocommit=True, replication="database")
    try:
        following.pgconn.exec_(b"START_REPLICATION SLOT logical LOGICAL 0/0")
        until(lambda: primary.execute(FOLLOWERS), "it follows")
        assert look_at(url).verdict is Verdict.PASS
    finally:
        following.close()
