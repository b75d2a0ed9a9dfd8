"""A commit that no synchronous standby has confirmed is visible, and may be lost: it counts only later."""

import threading
from collections.abc import Iterator

import pytest

from mqtt_presence.errors import StoreError
from mqtt_presence.store import Store
from tests.support.postgres import Postgres, query
from tests.support.waiting import until

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def primary() -> Iterator[Postgres]:
    """Run a primary of the test's own."""
    with Postgres() as started:
        yield started


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend", "restart"])
def test_ended_wait_for_the_standby_is_no_commit(primary: Postgres, how: str) -> None:
    """The transaction fails, although it is visible; the next confirmed transaction decides that it is done."""
    database = primary.database()
    store = Store(database)
    store.wait_for_seat(lambda: False)
    with store.transaction() as tx:
        tx.write_value("first", "1")
    primary.set("synchronous_standby_names", "nobody")
    attempts: list[tuple[int, int]] = []

    def end_the_wait() -> None:
        ((pid,),) = until(lambda: primary.execute(WAITING), "the commit waits for the standby")
        if how == "restart":
            primary.stop("immediate")
            primary.start()
        else:
            primary.execute(f"SELECT {how}({pid})")

    ending = threading.Thread(target=end_the_wait)
    ending.start()

    def commit() -> None:
        with store.transaction() as tx:
            tx.write_value("second", "1")
            attempts.append((tx.attempt, tx.put_outbox(b"")))

    with pytest.raises(StoreError) as failed:
        commit()
    ending.join(20)
    assert failed.value.transient
    assert query(database, "SELECT value FROM bridge WHERE name = 'second'"), "it is visible"
    primary.set("synchronous_standby_names", "")
    with store.transaction() as tx:
        is_done = store.was_committed(tx, *attempts[0])
    assert is_done
    store.close()
