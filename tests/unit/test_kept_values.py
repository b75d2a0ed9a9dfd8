"""What survives a restart, and that nothing counts as kept before it is committed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mqtt_presence.bridge.outbox import LastStatus
from mqtt_presence.bridge.recovery.kept_values import KeptValue, save_changed
from mqtt_presence.errors import StoreError
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.store import Store, Transaction
from tests.support.held_bridge import losses, parts_on


@pytest.fixture
def store(sqlite_url: str) -> Iterator[Store]:
    """Open an empty database."""
    store = Store(sqlite_url)
    store.open()
    yield store
    store.close()


def recall(store: Store, name: str) -> str | None:
    with store.transaction() as tx:
        return tx.read_value(name)


@contextmanager
def failing(store: Store) -> Iterator[Transaction]:
    """Do everything, but fail to commit it."""
    with store.transaction() as tx:
        yield tx
        raise StoreError("the disk is full")


def test_memory_is_written_when_it_has_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several go in one transaction; what is known already costs none; None is nothing."""
    known: dict[str, str | None] = {"a": "1", "b": None}
    a, b = KeptValue("a", lambda: known["a"]), KeptValue("b", lambda: known["b"])
    save_changed(store, a, b)
    assert (recall(store, "a"), recall(store, "b")) == ("1", None)
    known |= {"a": None, "b": "2"}
    assert a.has_changed
    save_changed(store, a, b)
    assert (recall(store, "a"), recall(store, "b")) == (None, "2")
    monkeypatch.setattr(store, "transaction", None)
    save_changed(store, a, b)


def test_memory_that_was_not_committed_is_still_news(store: Store) -> None:
    """It is written at the next opportunity."""
    memory = KeptValue("a", lambda: "1")
    broken: Any = type("Broken", (), {"transaction": lambda _: failing(store)})()
    with pytest.raises(StoreError):
        save_changed(broken, memory)
    assert recall(store, "a") is None
    save_changed(store, memory)
    assert recall(store, "a") == "1"


@pytest.mark.parametrize(
    ("kept", "dropped", "started_at"),
    [("- -", None, None), ("5 -", 5, None), ("5 1800000000000", 5, 1_800_000_000_000)],
)
def test_losses_of_an_earlier_version_are_read(
    store: Store, kept: str, dropped: int | None, started_at: int | None
) -> None:
    """A database keeps its sense when the bridge is updated."""
    with store.transaction() as tx:
        tx.write_value("losses", kept)
    watch = losses(store)
    with store.transaction() as tx:
        watch.restore(tx)
    assert (watch._dropped, watch._broker.started_at) == (dropped, started_at)
    save_changed(store, watch.reports)
    assert recall(store, "losses") == (None if kept == "- -" else kept)


def test_probe_of_a_forgotten_user_goes_though_the_first_commit_failed(store: Store) -> None:
    """Else the next start would miss that user's status and have everybody log in again."""
    topics = Topics()
    convergence = parts_on(store).retained
    with store.transaction() as tx:
        convergence.save_witness(tx, LastStatus(topics.status("alice"), 3))
    with pytest.raises(StoreError), failing(store) as tx:
        convergence.forget(tx, "alice")
    assert recall(store, "probe") is not None
    with store.transaction() as tx:
        convergence.forget(tx, "alice")
    assert recall(store, "probe") is None
