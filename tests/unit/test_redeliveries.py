"""Messages that the broker delivers again (mqtt_presence/bridge/redeliveries.py)."""

from collections.abc import Iterable

import pytest

from mqtt_presence.mqtt.messages import Incoming
from tests.support.redelivery_journal import RedeliveryJournal


def message(mid: int, *, dup: bool = False, payload: bytes = b"", qos: int = 1) -> Incoming:
    return Incoming("presence/a/c/login", payload, qos, False, dup, mid, 1)


def recognised(journal: RedeliveryJournal, mids: Iterable[int]) -> list[int]:
    """Return the ids that are recognised, before and after a restart."""
    wanted = [*mids]
    known = [mid for mid in wanted if journal.redeliveries.is_repeated(message(mid, dup=True))]
    journal.restart()
    assert [mid for mid in wanted if journal.redeliveries.is_repeated(message(mid, dup=True))] == known
    return known


@pytest.fixture
def journal() -> RedeliveryJournal:
    return RedeliveryJournal()


def test_redelivered_message_is_recognised(journal: RedeliveryJournal) -> None:
    """A committed nameless message that arrives again with its DUP flag is not processed twice."""
    journal.commit([(message(7), True), (message(8), True)])
    assert recognised(journal, [6, 7, 8]) == [7, 8]


def test_message_without_dup_flag_is_new(journal: RedeliveryJournal) -> None:
    """The same packet id without DUP is another message."""
    journal.commit([(message(7), True)])
    assert not journal.redeliveries.is_repeated(message(7))


def test_message_with_other_content_is_new(journal: RedeliveryJournal) -> None:
    """The packet id alone does not make a message a repetition."""
    journal.commit([(message(7), True)])
    assert not journal.redeliveries.is_repeated(message(7, dup=True, payload=b"{}"))


def test_named_messages_are_left_to_the_rules(journal: RedeliveryJournal) -> None:
    """The journal has neither messages that name their connection nor messages without a packet id."""
    journal.commit([(message(7), False), (message(0, qos=0), True)])
    assert recognised(journal, [0, 7]) == []
    assert journal.entries == {}


def test_reused_packet_id_replaces_the_old_message(journal: RedeliveryJournal) -> None:
    """In the same batch or in another one."""
    journal.commit([(message(6), True), (message(7), True), (message(7, payload=b"{}"), False)])
    assert recognised(journal, [6, 7]) == [6]
    journal.commit([(message(6, payload=b"{}"), False)])
    assert recognised(journal, [6, 7]) == []


def test_reused_packet_id_counts_before_the_new_message_is_committed(journal: RedeliveryJournal) -> None:
    """The broker reuses an id only when the old message is acknowledged; the new one may be equal to it."""
    journal.commit([(message(1), True), (message(2), True)])
    journal.redeliveries.forget_packet_id(message(1))
    assert not journal.redeliveries.is_repeated(message(1, dup=True))
    assert journal.redeliveries.is_repeated(message(2, dup=True))
    journal.commit([(message(1), True)])
    assert recognised(journal, [1, 2]) == [1, 2]


def test_repetition_and_qos_0_keep_the_packet_id(journal: RedeliveryJournal) -> None:
    """A message may arrive a third time; QoS 0 has no packet id."""
    journal.commit([(message(7), True)])
    journal.redeliveries.forget_packet_id(message(7, dup=True))
    journal.redeliveries.forget_packet_id(message(7, qos=0))
    assert recognised(journal, [7]) == [7]


def test_message_is_forgotten_before_packet_ids_are_reused() -> None:
    """After as many messages as a broker leaves unacknowledged, the first is acknowledged."""
    journal = RedeliveryJournal(10)
    journal.commit([(message(1), True), (message(2), True)])
    journal.commit([(message(mid), mid == 5) for mid in range(3, 12)])
    assert recognised(journal, range(12)) == [1, 2, 5]
    journal.commit([(message(12), False)])
    assert recognised(journal, range(13)) == [5]
    journal.commit([(message(mid), False) for mid in range(13, 21)])
    assert recognised(journal, range(22)) == [5]
    journal.commit([(message(5, payload=b"{}"), False), (message(1), False)])
    assert recognised(journal, range(22)) == []


def test_whole_window_of_unacknowledged_messages_is_recognised(journal: RedeliveryJournal) -> None:
    """Of 20,000 committed messages without an acknowledgement, none is processed twice."""
    for first in range(1, 20_001, 500):
        journal.commit([(message(mid), True) for mid in range(first, first + 500)])
    assert recognised(journal, range(1, 20_001)) == [*range(1, 20_001)]


def test_lost_session_redelivers_nothing(journal: RedeliveryJournal) -> None:
    """Its entries can be deleted; those of the new session stay."""
    journal.commit([(message(1), True), (message(2), True)])
    journal.lose_session()
    assert not journal.redeliveries.is_repeated(message(1, dup=True))
    journal.commit([(message(3), True)])
    assert recognised(journal, [1, 2, 3]) == [3]


def test_uncertain_commit_of_a_lost_session_is_not_remembered(journal: RedeliveryJournal) -> None:
    """Its result is known only after another session has begun: the entry can be deleted."""
    journal.commit([(message(1), True)])
    entry = journal.journal.journal_entry([(message(2), True)])
    assert entry is not None
    journal.entries[entry.number] = entry.body
    journal.lose_session()
    journal.journal.batch_done(entry)
    journal.commit([(message(3), True)])
    assert recognised(journal, [1, 2, 3]) == [3]
    assert len(journal.entries) == 1


def test_repeated_redelivery_adds_no_entry(journal: RedeliveryJournal) -> None:
    """A bridge that is killed again and again after its commit does not fill the database."""
    journal.commit([(message(mid), True) for mid in range(1, 9)])
    for _ in range(20):
        journal.restart()
        journal.commit([(message(mid, dup=True), True) for mid in range(1, 9)])
    assert len(journal.entries) == 1
