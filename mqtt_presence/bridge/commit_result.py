"""The result of a commit: the outcomes, their publications, and the work that is left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from mqtt_presence.bridge.outbox import LastStatus
from mqtt_presence.protocol.publications import Publication
from mqtt_presence.rules.model import Outcome, UserId
from mqtt_presence.store import Transaction

AfterCommit: TypeAlias = Callable[[Sequence[Outcome]], None]
"""Called with the outcomes once they are committed."""
Recorded: TypeAlias = tuple[Sequence[Publication], Callable[[], None]]
"""More publications of a transaction, and a function to call once it is committed."""


class OutcomeRecorder(Protocol):
    """Stores something of its own with every outcome, of messages and of jobs."""

    def record(self, tx: Transaction, outcomes: Sequence[Outcome]) -> Recorded:
        """Store it, in the transaction of the outcomes."""


@dataclass(slots=True)
class Decisions:
    """The rules' results for one transaction."""

    outcomes: list[Outcome] = field(default_factory=list)
    new_users: int = 0
    refused_users: list[tuple[UserId, int]] = field(default_factory=list)
    """New users beyond the limit, each with the number of its messages."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The work that a commit leaves to do."""

    users: int
    """The number of users that the events were about."""
    decisions: Decisions
    clearable: int | None
    number: int | None
    """The outbox number; None: no publications."""
    publications: list[Publication]
    last_status: LastStatus | None
    after: AfterCommit
    recorded: Callable[[], None]
    attempt: int
    """The number of the transaction (`Transaction.attempt`)."""
