"""The witness, the status that the bridge asks for after a connect, and the republish of all statuses."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from mqtt_presence.bridge.assembly import Assembly
from mqtt_presence.bridge.outbox import LastStatus, Outbox, last_status
from mqtt_presence.bridge.recovery.retained_statuses import Republished, RetainedStatuses
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.protocol.publications import Publication
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.events import Login
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import RuleSettings
from mqtt_presence.store import Store
from tests.support.held_bridge import parts_on
from tests.unit.test_link import Ends

ALICE = LastStatus("status/alice", 7)
STATUS = [Publication("status/alice", b"{}", retain=True)]
EVENT = [Publication("events/alice/connectionIdle", b"{}")]


def test_witness_whose_commit_failed_is_stored_by_the_next(sqlite_url: str) -> None:
    """A value of a rolled back transaction must not count as stored."""
    store = Store(sqlite_url)
    retained = parts_on(store).retained
    store.open()
    with suppress(ZeroDivisionError), store.transaction() as tx:
        retained.save_witness(tx, ALICE)
        raise ZeroDivisionError
    with store.transaction() as tx:
        retained.save_witness(tx, ALICE)
    with store.transaction() as tx:
        assert tx.read_value("probe") == '{"topic":"status/alice","version":7}'
    store.close()


def test_last_status_is_no_other_retained_message() -> None:
    """Those of other outputs have no version that the broker could be asked for."""
    status = Publication("status/alice", b'{"version":7}', retain=True)
    others = [Publication("display/alice", b"in", retain=True), Publication("status/bob", b"", retain=True)]
    assert last_status([status, *others], Topics()) == ALICE
    assert last_status(others, Topics()) is None


def test_last_status_is_offered_until_it_is_stored() -> None:
    """The status of a user who was forgotten since then is no witness: the broker would seem to have lost it."""
    outbox = Outbox(Topics(), lambda: True)
    outbox.add(1, STATUS, ALICE)
    outbox.delivered(1, 1)
    assert (outbox.clearable, outbox.last_status) == (1, ALICE)
    outbox.cleared(1)
    outbox.add(2, EVENT, None)
    outbox.delivered(2, 1)
    assert (outbox.clearable, outbox.last_status) == (2, None)


def test_last_status_acknowledged_during_a_commit_is_still_offered() -> None:
    """The commit that clears a part of the outbox does not include later acknowledgements."""
    outbox = Outbox(Topics(), lambda: True)
    outbox.add(1, STATUS, None)
    outbox.add(2, STATUS, ALICE)
    outbox.delivered(1, 1)
    clearing = outbox.clearable
    outbox.delivered(2, 1)
    assert clearing is not None
    outbox.cleared(clearing)
    assert (outbox.clearable, outbox.last_status) == (2, ALICE)


@pytest.mark.parametrize("was_alone", [True, False])
@pytest.mark.parametrize("is_alone", [True, False])
def test_status_is_looked_at_unless_the_bridge_was_alone_throughout(was_alone: bool, is_alone: bool) -> None:
    """A second bridge may begin, or end, while a status is on its way: an older one may reach the broker last."""
    state = [was_alone]
    outbox = Outbox(Topics(), lambda: state[0])
    outbox.add(1, STATUS, ALICE)
    state[0] = is_alone
    outbox.delivered(1, 1)
    must_look = not (was_alone and is_alone)
    assert (outbox.look_in_s(0.0) < 1) == must_look
    assert outbox.statuses.keys() == ({"status/alice"} if must_look else set())


# When the broker may lack something, the database says so: a bridge that is killed begins anew.


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.link.close()
    made.sock.close()


@pytest.fixture
def store(sqlite_url: str) -> Iterator[Store]:
    """Store three users."""
    store = Store(sqlite_url)
    store.open()
    logins = {u: [Login(user_id=u, client_id="phone", connection_id="c1", now=1)] for u in ("a", "b", "c")}
    with store.transaction() as tx:
        users = tx.load(logins)
        tx.save([fold(users[u], of_user, RuleSettings()) for u, of_user in logins.items()])
    yield store
    store.close()


def recall(store: Store, name: str) -> str | None:
    with store.transaction() as tx:
        return tx.read_value(name)


def is_doubted(store: Store) -> bool:
    return recall(store, "republishing") is not None


def restored(store: Store) -> RetainedStatuses:
    return restored_parts(store).retained


def restored_parts(store: Store) -> Assembly:
    parts = parts_on(store)
    with store.transaction() as tx:
        parts.retained.restore(tx)
    return parts


def renewals(ends: Ends) -> list[Outgoing]:
    """Return the statuses with a new version that are in flight."""
    return [m for m in ends.link._publications.in_flight.values() if isinstance(m.ticket, int)]


def test_status_acknowledged_before_the_answer_is_no_witness(store: Store, ends: Ends) -> None:
    """It proves nothing about the statuses that the broker had before."""
    with store.transaction() as tx:
        tx.write_value("probe", '{"topic":"status/b","version":1}')
    retained = restored(store)
    retained.connected(ends.link, session_present=True, contested=False)
    assert not is_doubted(store)
    with store.transaction() as tx:
        retained.save_witness(tx, LastStatus("status/a", 2))
    assert is_doubted(store)
    answer = Incoming("status/b", b'{"version":1}', 1, retain=True, dup=False, mid=1, epoch=1)
    assert retained.handle(ends.link, answer)
    retained.step(ends.link)
    assert not is_doubted(store)
    assert recall(store, "probe") == '{"topic":"status/a","version":2}'


def test_republish_ends_with_the_last_acknowledgement(store: Store, ends: Ends) -> None:
    """To have sent the statuses is not enough, and the witness must be newer than all of them."""
    parts = restored_parts(store)
    retained = parts.retained
    retained.connected(ends.link, session_present=True, contested=False)
    for _ in range(3):  # one page, the end, nothing more
        retained.step(ends.link)
        assert is_doubted(store)
        assert renewals(ends) == []
    with store.transaction() as tx:
        retained.save_witness(tx, LastStatus("status/a", 1))  # published before, acknowledged now
    assert recall(store, "probe") is None
    run = next(
        m.ticket for m in ends.link._publications.in_flight.values() if isinstance(m.ticket, Republished)
    )
    for ticket, count in ((Republished(0), 3), (run, 2)):  # the first is of an earlier connection
        retained.acknowledged(ticket, count)
        retained.step(ends.link)
        assert renewals(ends) == []
    retained.acknowledged(run, 1)
    retained.step(ends.link)
    (renewal,) = renewals(ends)
    assert is_doubted(store)
    retained.step(ends.link)
    assert not is_doubted(store)
    assert recall(store, "probe") is None
    parts.committer.acknowledged(renewal.ticket, 1)
    retained.step(ends.link)
    assert recall(store, "probe") == '{"topic":"status/c","version":2}'
    assert restored(store)._page_after is None


def test_republish_begins_again_beside_a_new_bridge(store: Store, ends: Ends) -> None:
    """What is on its way may arrive after a newer status of that bridge: all are sent again, and looked at."""
    retained = restored(store)
    retained.connected(ends.link, session_present=True, contested=False)
    retained.step(ends.link)
    assert renewals(ends) == []
    store.seat.seats = 2
    retained.step(ends.link)
    assert [m.topic for m in renewals(ends)] == ["status/a", "status/b", "status/c"]


@pytest.mark.parametrize("topic", ["status/stranger", "acme/status/a"])
def test_witness_of_an_unknown_user_is_ignored(store: Store, topic: str) -> None:
    """The user was forgotten while the bridge was away, or the prefix was another one."""
    with store.transaction() as tx:
        tx.write_value("probe", f'{{"topic":"{topic}","version":1}}')
    assert restored(store)._witness is None


def test_users_of_an_earlier_version_are_published_once(store: Store) -> None:
    """That version has stored no count, so later additions are unknown."""
    with store.transaction() as tx:
        tx.write_value("probe", '{"topic":"status/b","version":1}')
        tx.write_value("user_count", None)
    assert restored(store)._page_after == ""
    assert is_doubted(store)
    with store.transaction() as tx:
        tx.write_value("republishing", None)  # they are published
    assert restored(store)._page_after is None


@pytest.mark.parametrize("change", ["INSERT INTO user_states SELECT 'd', {rest} FROM user_states WHERE user_id = 'a'",
                                    "DELETE FROM user_states WHERE user_id = 'a'"])  # fmt: skip
def test_users_changed_by_sql_are_detected(store: Store, change: str) -> None:
    """Added or removed without the bridge."""
    with store.transaction() as tx:
        assert not tx.has_other_users()
        columns = [c.name for c in tx._database.get_columns("user_states") if c.name != "user_id"]
        tx._database.execute_sql(change.format(rest=", ".join(columns)))
        assert tx.has_other_users()
        tx.accept_users()
        assert not tx.has_other_users()
        tx.forget("b")
        assert not tx.has_other_users()
