"""A part of the bridge: one concern, which the loop calls at fixed moments.

The loop knows a list of parts, and not their concerns. A part overrides the methods it needs; all others have
no effect. The order of the list is the order of the calls (`assembly.py`).
"""

import math
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Protocol

from mqtt_presence.bridge.link.link import Link
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.rules.model import Outcome
from mqtt_presence.store import Transaction


class Due(Enum):
    """A job that the schedule requests."""

    CHECK = auto()
    """Deadlines of rules B1, B2 and B3, the end of a grace, forgotten users, totals of refusals."""
    RETENTION = auto()
    """Deletion of connections that ended longer ago than `retention`."""
    WRITE_TEST = auto()
    """A test whether the database takes a commit."""


class Part:
    """A concern of the bridge."""

    is_of_all = True
    """Whether each bridge of the database has the concern; False: only the one that holds seat 0."""

    def restore(self, tx: Transaction) -> None:
        """Read the state that the last run of the bridge stored."""

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Begin a new network connection to the broker.

        Args:
            link: connected.
            session_present: the broker has kept the session (MQTT 3.1.1 §3.2.2.2).
            contested: the connection before was short: another client may use this client id.

        """

    def disconnected(self) -> None:
        """Forget the questions that the lost connection leaves unanswered."""

    def subscribed(self, topic_filter: str) -> None:
        """Record that the broker has granted a required subscription."""

    def unsubscribed(self, topic_filter: str) -> None:
        """Record that the broker has answered a request to unsubscribe."""

    def handle(self, link: Link, message: Incoming) -> bool:
        """Process a message that no adapter reads; return whether it belongs to this part."""
        del link, message
        return False

    def acknowledged(self, ticket: Any, count: int) -> None:
        """Record that the broker has acknowledged `count` publications with this ticket."""

    def refused(self, message: Outgoing) -> None:
        """Record that the broker has refused a publication (MQTT 5 §3.4.2.1)."""

    def clock_stepped(self, by_ms: int, now: int) -> None:
        """Adapt stored times to a step of the wall clock.

        Args:
            by_ms: the step in milliseconds; negative: back.
            now: the time after the step, epoch milliseconds.

        """

    def caught_up(self, until: int, until_s: float) -> None:
        """Record that every message that had arrived until then is processed.

        Args:
            until: by the wall clock, epoch milliseconds.
            until_s: the same by the monotonic clock, seconds.

        """

    def fell_behind(self) -> None:
        """Record that messages wait, here or at the broker."""

    def requested(self, due: Due) -> None:
        """Record that a job of the schedule is due."""

    def wait_s(self) -> float:
        """Return how long the loop may wait for messages before this part has work, seconds."""
        return math.inf

    def step(self, link: Link) -> bool:
        """Do one short step of the pending work; return True if no work is left for now.

        Raises:
            StoreError: no effect of the step is stored; the loop repeats it later.

        """
        del link
        return True

    def turned(self, link: Link) -> None:
        """Record that the loop has done a turn, with or without work; at least once a second."""

    def leaving(self, link: Link) -> None:
        """Publish last messages before a clean stop."""

    def finish(self, tx: Transaction) -> None:
        """Store the state that the next run needs, at a clean stop."""

    def close(self) -> None:
        """End threads of its own, at any stop; must not wait for others."""


class CommitObserver(Protocol):
    """Learns of the outcomes that are committed, once of each."""

    def committed(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes; in memory only, and fast: it runs for every batch."""


class OnCheck(Part):
    """A part whose work begins with each `Due.CHECK` and goes on, step by step, until it is done."""

    def __init__(self) -> None:
        self._is_due = False

    def requested(self, due: Due) -> None:
        """See `Part`."""
        self._is_due = self._is_due or due is Due.CHECK

    def step(self, link: Link) -> bool:
        """See `Part`."""
        if self._is_due and self.check(link):
            self._is_due = False
        return not self._is_due

    def check(self, link: Link) -> bool:
        """Do one step of the check; return True when it is complete.

        Raises:
            StoreError: as of `step`.

        """
        raise NotImplementedError


Parts = Sequence[Part]
