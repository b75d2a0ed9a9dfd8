"""What is known of messages that the broker delivers again (mqtt_presence/redelivery.py)."""

from mqtt_presence.link import Incoming
from mqtt_presence.redelivery import Redeliveries


def message(mid: int, *, dup: bool = False, payload: bytes = b"", qos: int = 1) -> Incoming:
    return Incoming("presence/a/c/login", payload, qos, False, dup, mid, 1)


def test_redelivery_committed_message_is_known_again():
    """A nameless message that is committed and comes again with its DUP flag is not taken twice."""
    known = Redeliveries().with_committed([(message(7), True)])
    assert known.is_repeated(message(7, dup=True))


def test_redelivery_without_dup_flag_is_a_new_message():
    """The same packet id without DUP is another message."""
    known = Redeliveries().with_committed([(message(7), True)])
    assert not known.is_repeated(message(7))


def test_redelivery_other_content_is_a_new_message():
    """The packet id alone does not make a message a repetition."""
    known = Redeliveries().with_committed([(message(7), True)])
    assert not known.is_repeated(message(7, dup=True, payload=b"{}"))


def test_redelivery_named_messages_are_left_to_the_rules():
    """Messages that name their connection are not kept: the rules make them harmless."""
    known = Redeliveries().with_committed([(message(7), False)])
    assert known.is_empty
    assert known.dump() is None


def test_redelivery_packet_id_used_anew_forgets_the_old_message():
    """A later message under the same packet id replaces what was known of it."""
    known = Redeliveries().with_committed([(message(7), True), (message(7, payload=b"{}"), False)])
    assert not known.is_repeated(message(7, dup=True))


def test_redelivery_packet_id_used_anew_is_forgotten_before_the_new_message_is_committed() -> None:
    """The broker gives out an id again only when the old message is over; then the new one may say the same."""
    known = Redeliveries().with_committed([(message(1), True), (message(2), True)])
    known.hear(message(1))
    assert not known.is_repeated(message(1, dup=True))
    assert Redeliveries.load(known.dump()) == known
    assert known.is_repeated(message(2, dup=True))


def test_redelivery_itself_or_a_message_without_an_id_forgets_nothing() -> None:
    """It may come a third time; and at QoS 0 there is no packet id."""
    known = Redeliveries().with_committed([(message(7), True)])
    known.hear(message(7, dup=True))
    known.hear(message(7, qos=0))
    assert known.is_repeated(message(7, dup=True))


def test_redelivery_is_forgotten_before_packet_ids_come_round():
    """What 4,000 messages have followed is acknowledged for certain, and forgotten."""
    known = Redeliveries().with_committed([(message(7), True)])
    known = known.with_committed([(message(100 + i), False) for i in range(4_000)])
    assert not known.is_repeated(message(7, dup=True))


def test_redelivery_survives_the_database():
    """What is written and read again knows the same, and goes on counting."""
    known = Redeliveries().with_committed([(message(7), True), (message(8), True)])
    again = Redeliveries.load(known.dump())
    assert again == known
    assert again.is_repeated(message(8, dup=True))
