"""Who may be said to be silent: up to when all was heard, and whether clients are to be asked (contract B3).

Not by the clock alone. What they have said may still wait for us, or with the broker; and the clock may be
set.
"""

import time

from msgspec import Struct

from mqtt_presence.bridge.recovery.kept_values import KeptValue
from mqtt_presence.store import Transaction

_ASKED = "announced_at"
_SETTLED_S = 2.0  # after connecting the broker has begun to send what has waited
_ASK_AGAIN_S = 10.0  # after the broker has refused the question
# By less the clock may be set without further ado.
_SET_BACK_S = 0.1
_SET_FORWARD_S = 1.0


class Asked(Struct, frozen=True):
    """Ticket of `bridge/announce`: whoever is connected has it once the broker has."""

    at: int
    """When, epoch milliseconds."""


class Announcements:
    """Knows what the bridge has heard, and what it waits for.

    Args:
        answer_within_ms: how long clients may take to answer `bridge/announce`.

    """

    def __init__(self, answer_within_ms: int) -> None:
        self._answer_within_ms = answer_within_ms
        self.must_ask = False
        """The clients are to be asked as soon as their answers would be heard."""
        self.memory = KeptValue("must_announce", lambda: "1" if self.must_ask else None)
        self.heard_until = 0
        """Up to when all is decided on, epoch milliseconds: B1 and B2 hold for then."""
        self._settled_from_s = 0.0
        self._asked_at: int | None = None
        self._question: int | None = None
        """The same, as the ticket has it: by the clock as it was then."""
        self._asks_from_s = 0.0
        # These by the clock that nobody sets: nobody is silent because ours was set.
        self._asked_s: float | None = None
        self._heard_until_s = 0.0
        self._clock_is_behind_s = 0.0

    def restore(self, tx: Transaction, now: int) -> None:
        """Go on; whether a question that was open was heard nobody knows, so it is asked again."""
        self._clock_is_behind_s = time.monotonic() - now / 1000
        self.must_ask = self.memory.restore(tx) is not None or tx.recall(_ASKED) is not None

    @property
    def now(self) -> int:
        """The time by the clock as it was when it was last looked at, epoch milliseconds."""
        return round((time.monotonic() - self._clock_is_behind_s) * 1000)

    def was_set(self, now: int) -> int:
        """Compare the clock with the one that nobody sets; afterwards, nothing counts as heard.

        Args:
            now: what it tells, epoch milliseconds.

        Returns:
            By how much it was set since the last time, milliseconds. Less than 0: back; what was stamped
            before may lie ahead of it. More: forward; it looks longer ago than it is.

        """
        before, self._clock_is_behind_s = self._clock_is_behind_s, time.monotonic() - now / 1000
        forward_s = before - self._clock_is_behind_s
        if -_SET_BACK_S <= forward_s <= _SET_FORWARD_S:
            return 0
        forward = round(forward_s * 1000)
        self.heard_until = 0
        if self._asked_at is not None and forward > 0:
            self._asked_at += forward  # as all stamps are
        elif self._asked_at is not None:
            # Who has answered, and when, can no longer be told by the stamps.
            self._asked_at = self._question = None
            self.must_ask = True
        return forward

    def connected(self) -> None:
        """Take note that the broker begins to send what has waited."""
        self._settled_from_s = time.monotonic() + _SETTLED_S

    def heard_all(self, now: int) -> None:
        """Take note that all was decided on that there was at a time."""
        if time.monotonic() >= self._settled_from_s:
            self.heard_until = now
            self._heard_until_s = now / 1000 + self._clock_is_behind_s

    # The question.

    @property
    def is_time_to_ask(self) -> bool:
        """They are to be asked, and the broker has not just refused it."""
        return self.must_ask and time.monotonic() >= self._asks_from_s

    def remember_asked(self, tx: Transaction, now: int) -> None:
        """Keep that they are being asked; only then are they."""
        tx.remember(_ASKED, str(now))
        tx.remember(self.memory.name, None)

    def asked(self, now: int) -> None:
        """That is committed."""
        self.must_ask, self.memory.kept = False, None
        self._asked_at = self._question = now
        self._asked_s = None

    def taken(self, question: Asked) -> None:
        """The broker has it: from now on answers are waited for."""
        if question.at == self._question:
            self._asked_s = time.monotonic()

    def refused(self, question: Asked) -> None:
        """The broker has not passed it on: ask again in a while."""
        if question.at == self._question:
            self._asked_at = self._question = None
            self.must_ask = True
            self._asks_from_s = time.monotonic() + _ASK_AGAIN_S

    @property
    def over_since(self) -> int | None:
        """When they were asked, if they have had their time; else None."""
        if self._asked_s is None:
            return None
        waited_ms = (self._heard_until_s - self._asked_s) * 1000
        return self._asked_at if waited_ms > self._answer_within_ms else None

    def remember_over(self, tx: Transaction) -> None:
        """Keep that nobody is waited for."""
        tx.remember(_ASKED, None)

    def over(self) -> None:
        """That is committed."""
        self._asked_at = self._question = None
