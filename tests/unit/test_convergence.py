"""Which status the broker is asked for after a connect: the last that it acknowledged, and of nobody who is forgotten."""

from contextlib import suppress

from mqtt_presence.convergence import Convergence
from mqtt_presence.outbox import Outbox, Probe
from mqtt_presence.publications import Publication
from mqtt_presence.store import Store
from mqtt_presence.topics import Topics

ALICE = Probe("status/alice", 7)
STATUS = [Publication("status/alice", b"{}", retain=True)]
EVENT = [Publication("events/alice/connectionIdle", b"{}")]


def test_probe_whose_commit_failed_is_kept_by_the_next(sqlite_url: str) -> None:
    """What a transaction that was rolled back has written is not written: it must not pass for that."""
    store, convergence = Store(sqlite_url), Convergence(Topics())
    store.open()
    with suppress(ZeroDivisionError), store.transaction() as tx:
        convergence.remember(tx, ALICE)
        raise ZeroDivisionError
    with store.transaction() as tx:
        convergence.remember(tx, ALICE)
    with store.transaction() as tx:
        assert tx.recall("probe") == '{"topic":"status/alice","version":7}'
    store.close()


def test_probe_is_offered_until_it_is_kept() -> None:
    """Who was forgotten since then is not asked for: the broker would seem to have lost a status."""
    outbox = Outbox()
    outbox.add(1, STATUS, ALICE)
    outbox.delivered(1, 1)
    assert (outbox.clearable, outbox.probe) == (1, ALICE)
    outbox.cleared(1)
    outbox.add(2, EVENT, None)
    outbox.delivered(2, 1)
    assert (outbox.clearable, outbox.probe) == (2, None)


def test_probe_that_came_while_another_was_kept_is_still_offered() -> None:
    """The commit that clears some of the outbox knows nothing of what is acknowledged meanwhile."""
    outbox = Outbox()
    outbox.add(1, STATUS, None)
    outbox.add(2, STATUS, ALICE)
    outbox.delivered(1, 1)
    clearing = outbox.clearable
    outbox.delivered(2, 1)
    assert clearing is not None
    outbox.cleared(clearing)
    assert (outbox.clearable, outbox.probe) == (2, ALICE)
