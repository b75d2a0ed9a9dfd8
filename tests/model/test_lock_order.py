"""Two writers on few users: with locks in one order there is no deadlock; without the order there soon is one."""

import random
import threading
from collections.abc import Collection, Mapping
from typing import Any

import psycopg
import pytest

from mqtt_presence.errors import StoreError
from mqtt_presence.rules.events import Event
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store, loading
from mqtt_presence.store.batches import Sets
from mqtt_presence.store.database_loss import DatabaseLoss
from tests.fault.test_two_writers import AT, commit, is_waiting, login
from tests.support.postgres import Postgres, query
from tests.support.waiting import until

USERS = [f"user-{number}" for number in range(8)]
BATCHES = 30
"""Of each writer; within so many, a writer without the order meets a deadlock."""


def batch(choice: random.Random) -> dict[UserId, list[Event]]:
    """Make logins of some users, in any order."""
    return {UserId(u): [login(u, choice.choice(("phone", "tv")))] for u in choice.sample(USERS, 6)}


def conflicts(database: str, batches: int, *, until_first: bool) -> int:
    """Have two write at once; return how many transactions the database rolled back for the other one."""
    found: list[StoreError] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def write(seed: int) -> None:
        store, choice = Store(database), random.Random(seed)
        try:
            for _ in range(batches):
                if done.is_set():
                    return
                try:
                    commit(store, batch(choice))
                except StoreError as error:
                    if not error.conflict:
                        raise
                    found.append(error)
                    if until_first:
                        done.set()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)
        finally:
            store.close()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(90)
    assert not failed, failed
    return len(found)


def prepared(postgres: Postgres) -> str:
    database = postgres.database()
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database.rsplit('/', 1)[1]} SET deadlock_timeout = '20ms'")  # type: ignore[arg-type]
    store = Store(database)
    store.open()
    commit(store, {UserId(user): [login(user, "phone")] for user in USERS})
    store.close()
    return database


@pytest.fixture(autouse=True)
def key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock each key by a statement of its own: two writers then have time to meet."""
    at_once = Sets.execute

    def one_by_one(sets: Sets, statement: str, keys: Collection[tuple[str, ...]]) -> list[Any]:
        return [row for key in keys for row in at_once(sets, statement, [key])]

    monkeypatch.setattr(Sets, "execute", one_by_one)


def without_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock users as they come."""
    clause = loading._LOCK_RECORDS
    monkeypatch.setattr(loading, "_LOCK_RECORDS", f" {clause[clause.index('FOR UPDATE') :]}")

    def shuffled(keys: Mapping[Any, Any]) -> list[Any]:
        return random.sample([*keys], len(keys))

    monkeypatch.setattr(loading, "sorted", shuffled, raising=False)


def test_locks_in_one_order_never_meet(postgres: Postgres) -> None:
    assert conflicts(prepared(postgres), 10 * BATCHES, until_first=False) == 0


def test_versions_are_raised_in_the_order_of_locks(postgres: Postgres) -> None:
    """English sorts B after a; a bridge locks B first, in a database of any language."""
    database = postgres.database("TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'")
    bridge, repairing = Store(database), Store(database)
    bridge.open()
    commit(bridge, {UserId(user): [login(user, "phone")] for user in ("a", "B")})
    bridge.note_loss(DatabaseLoss(noticed_at=1))
    repair = threading.Thread(target=repairing.raise_versions)
    with bridge.transaction() as tx:
        tx.load({UserId("B"): []})
        repair.start()
        until(lambda: is_waiting(database), "the repair waits for B")
        free = query(database, "SELECT user_id FROM user_states WHERE user_id = 'a' FOR UPDATE SKIP LOCKED")
    repair.join(20)
    assert free == [{"user_id": "a"}]
    bridge.close()
    repairing.close()


def test_times_are_shifted_with_the_locks_of_users(postgres: Postgres) -> None:
    """A shift that waits for a connection of one user would hold those of others."""
    database = postgres.database()
    bridge, shifting = Store(database), Store(database)
    bridge.open()
    commit(bridge, {UserId(user): [login(user, "phone")] for user in ("a", "B")})

    def shift() -> None:
        with shifting.transaction() as tx:
            tx.shift_last_seen(None, 1_000, AT + 5_000, 10)

    shifts = threading.Thread(target=shift)
    with bridge.transaction() as tx:
        tx.load({UserId("a"): []})
        shifts.start()
        until(lambda: is_waiting(database), "the shift waits for a")
        free = query(
            database,
            "SELECT r.user_id FROM pulses p JOIN connection_records r ON r.id = p.id "
            "WHERE r.user_id = 'B' FOR UPDATE OF p SKIP LOCKED",
        )
    shifts.join(20)
    assert free == [{"user_id": "B"}]
    assert query(database, "SELECT DISTINCT last_seen FROM pulses") == [{"last_seen": AT + 1_000}]
    bridge.close()
    shifting.close()


def test_locks_in_any_order_soon_meet(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: the same writers without the order, in a tenth of the batches."""
    database = prepared(postgres)
    without_order(monkeypatch)
    assert conflicts(database, BATCHES, until_first=True) > 0
