"""What is known of messages that the broker delivers again (mqtt_presence/redelivery.py)."""

from collections.abc import Iterable, Iterator
from typing import cast

import pytest

from mqtt_presence import link, redelivery
from mqtt_presence.link import Incoming
from mqtt_presence.redelivery import Redeliveries
from mqtt_presence.store import Store, Transaction


def message(mid: int, *, dup: bool = False, payload: bytes = b"", qos: int = 1) -> Incoming:
    return Incoming("presence/a/c/login", payload, qos, False, dup, mid, 1)


class Database:
    """Counts what is written into a real one."""

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self.store.open()
        self.written = 0

    def commit(self, known: Redeliveries, *messages: tuple[Incoming, bool]) -> None:
        """Do with a batch what the bridge does."""
        page = known.page(messages)
        with self.store.transaction() as tx:
            self._tx = tx
            known.remember(cast("Transaction", self), page)
        known.kept(page)
        known.committed(page)

    def remember(self, name: str, value: str | None) -> None:
        self.written += len(value or "")
        self._tx.remember(name, value)

    def restored(self) -> Redeliveries:
        """Know what a bridge knows that starts now."""
        known = Redeliveries()
        with self.store.transaction() as tx:
            known.restore(tx)
        return known

    def rows(self) -> Iterable[str]:
        with self.store.transaction() as tx:
            return tx.recall_all("redeliver").keys()


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    made = Database(sqlite_url)
    yield made
    made.store.close()


def committed(*messages: tuple[Incoming, bool]) -> Redeliveries:
    known = Redeliveries()
    known.committed(known.page(messages))
    return known


def test_redelivery_committed_message_is_known_again() -> None:
    """A nameless message that is committed and comes again with its DUP flag is not taken twice."""
    known = committed((message(7), True))
    assert known.is_repeated(message(7, dup=True))


def test_redelivery_without_dup_flag_is_a_new_message() -> None:
    """The same packet id without DUP is another message."""
    known = committed((message(7), True))
    assert not known.is_repeated(message(7))


def test_redelivery_other_content_is_a_new_message() -> None:
    """The packet id alone does not make a message a repetition."""
    known = committed((message(7), True))
    assert not known.is_repeated(message(7, dup=True, payload=b"{}"))


def test_redelivery_named_messages_are_left_to_the_rules(database: Database) -> None:
    """Messages that name their connection are not kept: the rules make them harmless."""
    known = Redeliveries()
    database.commit(known, (message(7), False))
    assert not known.is_repeated(message(7, dup=True))
    assert not database.rows()


def test_redelivery_packet_id_used_anew_forgets_the_old_message() -> None:
    """A later message under the same packet id replaces what was known of it."""
    known = committed((message(7), True), (message(7, payload=b"{}"), False))
    assert not known.is_repeated(message(7, dup=True))


def test_redelivery_packet_id_used_anew_is_forgotten_before_the_new_message_is_committed(
    database: Database,
) -> None:
    """The broker gives out an id again only when the old message is over; then the new one may say the same."""
    known = Redeliveries()
    database.commit(known, (message(1), True), (message(2), True))
    known.hear(message(1))
    database.commit(known, (message(3), False))
    for bridge in (known, database.restored()):
        assert not bridge.is_repeated(message(1, dup=True))
        assert bridge.is_repeated(message(2, dup=True))


def test_redelivery_itself_or_a_message_without_an_id_forgets_nothing() -> None:
    """It may come a third time; and at QoS 0 there is no packet id."""
    known = committed((message(7), True))
    known.hear(message(7, dup=True))
    known.hear(message(7, qos=0))
    assert known.is_repeated(message(7, dup=True))


def test_redelivery_is_known_for_as_long_as_the_broker_may_not_have_the_acknowledgement() -> None:
    """What the link lets a broker have unacknowledged may all come again; what is of QoS 0 does not count."""
    known = committed((message(7), True))
    known.committed(known.page([(message(0, qos=0), False)] * 30_000))
    known.committed(known.page((message(100 + i), True) for i in range(link._RECEIVE_MAXIMUM)))
    assert known.is_repeated(message(7, dup=True))
    assert known.is_repeated(message(100, dup=True))


def test_redelivery_is_forgotten_before_packet_ids_come_round(database: Database) -> None:
    """What so many messages have followed is acknowledged for certain, and forgotten; by the database, too."""
    assert redelivery._KEPT < 65_535 / 2
    known = Redeliveries()
    database.commit(known, (message(7), True))
    database.commit(known, *((message(100 + i), False) for i in range(redelivery._KEPT)))
    assert not known.is_repeated(message(7, dup=True))
    database.commit(known)
    assert not database.rows()


def test_redelivery_survives_the_database(database: Database) -> None:
    """What is written and read again knows the same, and goes on counting."""
    known = Redeliveries()
    database.commit(known, (message(7), True))
    database.commit(known, (message(8), True))
    again = database.restored()
    assert again.is_repeated(message(7, dup=True))
    assert again.is_repeated(message(8, dup=True))
    assert again.page([(message(9), True)]).row == known.page([(message(9), True)]).row


def test_redelivery_writes_of_a_batch_what_the_batch_has(database: Database) -> None:
    """However much is known: a device's single message costs no more than it did at the beginning."""
    known = Redeliveries()
    database.commit(known, *((message(100 + i), True) for i in range(20_000)))
    database.written = 0
    database.commit(known, (message(7), True))
    assert database.written < 100


def test_redelivery_of_another_session_means_other_messages(database: Database) -> None:
    """A broker that lost the session begins with its packet ids anew: an old one hides no new message."""
    known = Redeliveries()
    database.commit(known, (message(7), True))
    late = known.page([(message(8), True)])
    with database.store.transaction() as tx:
        known.remember(tx, late)
    known.begin_anew()
    known.kept(late)  # that it was committed was in doubt until now
    known.committed(late)
    assert not known.is_repeated(message(7, dup=True))
    assert not known.is_repeated(message(8, dup=True))
    database.commit(known)
    assert not database.rows()
