"""What is known of messages that the broker delivers again (mqtt_presence/bridge/redeliveries.py)."""

from collections.abc import Iterable

import pytest

from mqtt_presence.mqtt.messages import Incoming
from tests.support.kept import Kept


def message(mid: int, *, dup: bool = False, payload: bytes = b"", qos: int = 1) -> Incoming:
    return Incoming("presence/a/c/login", payload, qos, False, dup, mid, 1)


def knows(kept: Kept, mids: Iterable[int]) -> list[int]:
    """Tell which ids are known, and that who starts now and reads the lines knows the same."""
    wanted = [*mids]
    known = [mid for mid in wanted if kept.known.is_repeated(message(mid, dup=True))]
    kept.restart()
    assert [mid for mid in wanted if kept.known.is_repeated(message(mid, dup=True))] == known
    return known


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_redelivery_committed_message_is_known_again(kept: Kept) -> None:
    """A nameless message that is committed and comes again with its DUP flag is not taken twice."""
    kept.commit([(message(7), True), (message(8), True)])
    assert knows(kept, [6, 7, 8]) == [7, 8]


def test_redelivery_without_dup_flag_is_a_new_message(kept: Kept) -> None:
    """The same packet id without DUP is another message."""
    kept.commit([(message(7), True)])
    assert not kept.known.is_repeated(message(7))


def test_redelivery_other_content_is_a_new_message(kept: Kept) -> None:
    """The packet id alone does not make a message a repetition."""
    kept.commit([(message(7), True)])
    assert not kept.known.is_repeated(message(7, dup=True, payload=b"{}"))


def test_redelivery_named_messages_are_left_to_the_rules(kept: Kept) -> None:
    """Messages that name their connection are not kept: the rules make them harmless. Nor is what has no packet id."""
    kept.commit([(message(7), False), (message(0, qos=0), True)])
    assert knows(kept, [0, 7]) == []
    assert kept.lines == {}


def test_redelivery_packet_id_used_anew_forgets_the_old_message(kept: Kept) -> None:
    """A later message under the same packet id replaces what was known of it, in the same batch or another."""
    kept.commit([(message(6), True), (message(7), True), (message(7, payload=b"{}"), False)])
    assert knows(kept, [6, 7]) == [6]
    kept.commit([(message(6, payload=b"{}"), False)])
    assert knows(kept, [6, 7]) == []


def test_redelivery_packet_id_used_anew_is_forgotten_before_the_new_message_is_committed(kept: Kept) -> None:
    """The broker gives out an id again only when the old message is over; then the new one may say the same."""
    kept.commit([(message(1), True), (message(2), True)])
    kept.known.forget_packet_id(message(1))
    assert not kept.known.is_repeated(message(1, dup=True))
    assert kept.known.is_repeated(message(2, dup=True))
    kept.commit([(message(1), True)])
    assert knows(kept, [1, 2]) == [1, 2]


def test_redelivery_itself_or_a_message_without_an_id_forgets_nothing(kept: Kept) -> None:
    """It may come a third time; and at QoS 0 there is no packet id."""
    kept.commit([(message(7), True)])
    kept.known.forget_packet_id(message(7, dup=True))
    kept.known.forget_packet_id(message(7, qos=0))
    assert knows(kept, [7]) == [7]


def test_redelivery_is_forgotten_before_packet_ids_come_round() -> None:
    """What as many messages have followed as a broker leaves unacknowledged is acknowledged, and forgotten."""
    kept = Kept(10)
    kept.commit([(message(1), True), (message(2), True)])
    kept.commit([(message(mid), mid == 5) for mid in range(3, 12)])
    assert knows(kept, range(12)) == [1, 2, 5]
    kept.commit([(message(12), False)])
    assert knows(kept, range(13)) == [5]
    kept.commit([(message(mid), False) for mid in range(13, 21)])
    assert knows(kept, range(22)) == [5]
    kept.commit([(message(5, payload=b"{}"), False), (message(1), False)])
    assert knows(kept, range(22)) == []


def test_redelivery_may_be_as_late_as_the_broker_may_leave_messages_unacknowledged(kept: Kept) -> None:
    """Of 20,000 that are committed while no acknowledgement gets through, none is taken twice."""
    for first in range(1, 20_001, 500):
        kept.commit([(message(mid), True) for mid in range(first, first + 500)])
    assert knows(kept, range(1, 20_001)) == [*range(1, 20_001)]


def test_redelivery_of_a_session_that_is_over_is_none(kept: Kept) -> None:
    """Its lines may go; those of the new session stay."""
    kept.commit([(message(1), True), (message(2), True)])
    kept.forget()
    assert not kept.known.is_repeated(message(1, dup=True))
    kept.commit([(message(3), True)])
    assert knows(kept, [1, 2, 3]) == [3]


def test_redelivery_of_a_commit_in_doubt_is_none_once_its_session_is_over(kept: Kept) -> None:
    """Whether it was done is learnt when another session has begun: its line may go, and nothing is known of it."""
    kept.commit([(message(1), True)])
    line = kept.known.journal_entry([(message(2), True)])
    assert line is not None
    kept.lines[line.number] = line.body
    kept.forget()
    kept.known.batch_done(line)
    kept.commit([(message(3), True)])
    assert knows(kept, [1, 2, 3]) == [3]
    assert len(kept.lines) == 1


def test_redelivery_is_not_kept_again_each_time_it_comes(kept: Kept) -> None:
    """A bridge that is killed again and again after its commit does not fill the database."""
    kept.commit([(message(mid), True) for mid in range(1, 9)])
    for _ in range(20):
        kept.restart()
        kept.commit([(message(mid, dup=True), True) for mid in range(1, 9)])
    assert len(kept.lines) == 1
