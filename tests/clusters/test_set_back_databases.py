"""Holders and standbys notice a database that is back in an earlier state; one of them notes the loss, once."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from mqtt_presence.errors import SeatLostError, SeatTakenError, SetBackError, StoreError
from mqtt_presence.store import DatabaseLoss, Store
from mqtt_presence.store.rows import VERSION_FLOOR
from mqtt_presence.store.seat import Candidate
from tests.support.postgres import Postgres, cursor
from tests.support.waiting import until

GAP = 1 << 20
MakeStore = Callable[[str], Store]


@pytest.fixture
def database(postgres: Postgres) -> str:
    """Make a database."""
    return postgres.database()


@pytest.fixture
def make_store(database: str) -> Iterator[MakeStore]:
    """Make processes that want a seat of the database, of two in all if the name begins so."""
    with ExitStack() as stores:

        def make(node: str) -> Store:
            store = Store(database, Candidate(node, 2 if node.startswith("two") else 1))
            stores.callback(store.close)
            return store

        yield make


def commit(store: Store, times: int = 1) -> None:
    """Commit, at the second attempt where the connection was ended."""
    for _ in range(times):
        try:
            write(store)
        except StoreError:
            write(store)


def write(store: Store) -> None:
    with store.transaction() as tx:
        tx.write_value("some", "thing")


def noted(store: Store) -> tuple[DatabaseLoss | None, int]:
    """Return the stored loss, and the floor of all versions."""
    with store.transaction() as tx:
        return tx.database_loss()[0], int(tx.read_value(VERSION_FLOOR) or 0)


def watch(store: Store) -> None:
    """Look at the holder until it is known to be alive."""

    def is_taken() -> bool:
        try:
            return store._try_to_take_seat()
        except SeatTakenError:
            return True

    until(is_taken, "the holder is known to be alive")


def test_holder_notices(postgres: Postgres, database: str, make_store: MakeStore) -> None:
    """It counts its lost transactions, and writes under no epoch of the state before."""
    holder = make_store("holder")
    holder.take_seat()
    commit(holder)
    copy = postgres.back_up(database)
    commit(holder, 5)
    postgres.restore(database, copy)
    with pytest.raises(SetBackError, match="has lost 5 committed transactions"):
        commit(holder)
    after = make_store("after")
    expire_leases(database)
    after.take_seat()
    loss, floor = noted(after)
    assert loss is not None
    assert (loss.transactions, floor) == (5, GAP)


def test_standby_notices(postgres: Postgres, database: str, make_store: MakeStore) -> None:
    """The holder is gone with its memory; the process that watched knows, notes the loss, and takes the seat."""
    holder, standby = make_store("holder"), make_store("standby")
    holder.take_seat()
    standby.open()
    watch_while(standby, holder)
    copy = postgres.back_up(database)
    commit(holder, 5)
    reconnect(standby)
    watch(standby)
    postgres.restore(database, copy)
    expire_leases(database)
    reconnect(standby)
    standby.take_seat()
    loss, floor = noted(standby)
    assert loss is not None
    assert loss.transactions is not None
    assert (loss.transactions >= 5, floor) == (True, GAP)


def test_frozen_holder_knows_what_its_successor_found(
    postgres: Postgres, database: str, make_store: MakeStore
) -> None:
    """A successor without memory took the seat of an earlier state: the old holder notes the loss all the same."""
    holder, successor = make_store("holder"), make_store("successor")
    holder.take_seat()
    commit(holder)
    copy = postgres.back_up(database)
    commit(holder, 5)
    postgres.restore(database, copy)
    expire_leases(database)
    successor.take_seat()
    commit(successor, 20)
    assert noted(successor)[0] is None, "it cannot know"
    with pytest.raises(SetBackError, match="has lost 5 committed transactions"):
        commit(holder)
    with pytest.raises(SetBackError, match="another process has noticed"):
        commit(successor)


def test_frozen_holder_with_a_successor_has_lost_nothing(database: str, make_store: MakeStore) -> None:
    """Its successor found all that it had committed: no loss is noted, however few the successor has committed."""
    holder, successor = make_store("holder"), make_store("successor")
    holder.take_seat()
    commit(holder, 5)
    expire_leases(database)
    successor.take_seat()
    with pytest.raises(SeatLostError):
        commit(holder)
    assert noted(successor) == (None, 0)


def test_two_holders_note_one_loss(postgres: Postgres, database: str, make_store: MakeStore) -> None:
    """The second one to notice goes back, too, and raises no version again."""
    stores = [make_store("two-a"), make_store("two-b")]
    for store in stores:
        store.take_seat()
        commit(store)
    copy = postgres.back_up(database)
    for store in stores:
        commit(store, 5)
    postgres.restore(database, copy)
    for store in stores:
        with pytest.raises(SetBackError):
            commit(store)
    expire_leases(database)
    for store in stores:
        store.close()
    for node in ("two-c", "two-d"):
        store = make_store(node)
        store.take_seat()
        loss, floor = noted(store)
        assert loss is not None
        assert (loss.transactions, floor) == (5, GAP)


def test_second_loss_is_noted_though_the_backup_has_an_older_one(
    postgres: Postgres, database: str, make_store: MakeStore
) -> None:
    """A loss that the earlier state knows is not taken for the one that was just noticed."""
    holder = make_store("holder")
    holder.take_seat()
    copies = []
    for transactions in (3, 4, 5):
        commit(holder)
        copies.append(postgres.back_up(database))
        commit(holder, transactions)
        # The third time back to the state after the first loss: it has that, and not the second one.
        postgres.restore(database, copies[0] if transactions < 5 else copies[1])
        with pytest.raises(SetBackError, match="committed transactions"):
            commit(holder)
        holder.close()
        expire_leases(database)
        holder.take_seat()
        loss, _ = noted(holder)
        assert loss is not None
        assert loss.transactions is not None
        assert loss.transactions >= transactions


def expire_leases(database: str) -> None:
    """Have all leases run out."""
    with cursor(database) as cur:
        cur.execute("UPDATE seats SET expires_at = 0")


def reconnect(store: Store) -> None:
    """Begin a new connection, as `wait_for_seat` does after a failure."""
    store._disconnect()
    store.open()


def watch_while(standby: Store, holder: Store) -> None:
    """Have a standby see a holder renew its lease."""
    assert not standby._try_to_take_seat()
    commit(holder)
    watch(standby)
