"""A redelivered message counts once (mqtt_presence/bridge/packet_id_journal.py), wherever acknowledgements and kills fall."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqtt_presence.mqtt.messages import Incoming
from tests.support.redelivery_journal import RedeliveryJournal

WINDOW = 8
"""What the broker leaves unacknowledged, and so what is known again."""

FIRST_ID = 65_515
"""The packet ids soon begin again at 1: a greater one is no later one."""


@dataclass
class Sent:
    number: int
    is_nameless: bool
    is_dup: bool = False
    """It was on its way before, whether it got there or not."""


class BrokerAndBridge:
    """A broker with a window, and a bridge that is killed."""

    def __init__(self) -> None:
        self.journal = RedeliveryJournal(WINDOW)
        self.effects: Counter[int] = Counter()
        self.unacknowledged: list[Sent] = []
        self.count = 0
        self.nameless: set[int] = set()
        self.restart(kill=True)

    def restart(self, *, kill: bool) -> None:
        """The connection ends: what is not acknowledged comes again."""
        self.pending: list[tuple[Incoming, Sent]] = []
        self.written = self.committed = 0
        if kill:
            self.journal.restart()

    def write(self, count: int, *, is_nameless: bool = True, arrives: bool = True) -> None:
        """The broker sends as much as its window lets it; what does not arrive is lost with the connection."""
        for _ in range(count):
            if self.written == len(self.unacknowledged) == WINDOW:
                return
            if self.written == len(self.unacknowledged):
                self.unacknowledged.append(Sent(self.count, is_nameless))
                self.nameless |= {self.count} if is_nameless else set()
                self.count += 1
            sent = self.unacknowledged[self.written]
            self.written += 1
            # All are equal, as heartbeats are: only the packet id distinguishes them.
            message = Incoming(
                "presence/a/c/activity", b"", 1, False, sent.is_dup, 1 + (FIRST_ID + sent.number) % 65_535, 1
            )
            sent.is_dup = True
            if arrives:
                self.journal.redeliveries.forget_packet_id(message)
                self.pending.append((message, sent))
        if not arrives:
            self.restart(kill=False)

    def commit(self, count: int) -> None:
        batch, self.pending = self.pending[:count], self.pending[count:]
        for message, sent in batch:
            if not (sent.is_nameless and self.journal.redeliveries.is_repeated(message)):
                self.effects[sent.number] += 1
        self.journal.commit([(message, sent.is_nameless) for message, sent in batch])
        self.committed += len(batch)

    def acknowledge(self, count: int) -> None:
        count = min(count, self.committed)
        del self.unacknowledged[:count]
        self.written -= count
        self.committed -= count


counts = st.integers(1, WINDOW)
steps = st.one_of(
    st.tuples(st.just("write"), counts),
    st.tuples(st.just("named"), counts),
    st.tuples(st.just("lost"), counts),
    st.tuples(st.just("commit"), counts),
    st.tuples(st.just("commit"), counts),
    st.tuples(st.just("acknowledge"), counts),
    st.tuples(st.just("break")),
    st.tuples(st.just("kill")),
)


@settings(deadline=None, max_examples=500)
@given(st.lists(steps, max_size=60))
@example([("write", 2), ("commit", 2), ("kill",)])
@example([("write", 4), ("commit", 4), ("kill",)])
@example([*[("write", 1), ("commit", 1), ("acknowledge", 1)] * 20, ("lost", 1)])
@example([("named", 7), ("write", 1), *[("named", 8), ("commit", 8), ("acknowledge", 1), ("kill",)] * 6])
def test_no_redelivered_message_counts_twice(plan: list[tuple[str, int]]) -> None:
    """Each nameless message has one effect, and the journal stays small."""
    model = BrokerAndBridge()
    for step, *number in plan:
        count = number[0] if number else 0
        match step:
            case "write":
                model.write(count)
            case "named":
                model.write(count, is_nameless=False)
            case "lost":
                model.write(count, arrives=False)
            case "commit":
                model.commit(count)
            case "acknowledge":
                model.acknowledge(count)
            case _:
                model.restart(kill=step == "kill")
    model.restart(kill=True)
    model.write(WINDOW)
    model.commit(WINDOW)
    assert {number: model.effects[number] for number in model.nameless} == dict.fromkeys(model.nameless, 1)
    assert len(model.journal.redeliveries.committed) <= 3 * WINDOW
