"""The bridge's loop: one thread that reads messages, commits them in batches and steps the parts.

Other threads and signal handlers only call `request` and `stop`, which put a note into a queue.
The loop shares no other state with them, so it needs no lock.
"""

import logging
import queue
from collections import Counter
from collections.abc import Callable

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.config import Tuning
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.intake import Intake
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.pace import Pace
from mqtt_presence.bridge.part import Due, Part, Parts
from mqtt_presence.bridge.recovery.clock_steps import ClockSteps
from mqtt_presence.bridge.tenure import Tenure
from mqtt_presence.errors import SeatDrainedError, SeatGivenUpError, StoreError
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)

OpenLink = Callable[[Transaction], Link]
"""Makes the link, under the client id that the database holds."""


class Bridge:
    """Turns clients' messages into presence.

    Use `assembly.bridge` to build one.

    Args:
        store: the database.
        open_link: makes the link to the broker.
        clock: the authoritative clock, and the monotonic one.
        intake: holds the messages that are not committed yet.
        clock_steps: detects that the clock was set.
        parts: all concerns, in the order of the calls.
        counters: of the work since the start.
        tuning: how long to wait at the start and at the end.

    """

    def __init__(
        self,
        store: Store,
        open_link: OpenLink,
        clock: Clock,
        *,
        intake: Intake,
        clock_steps: ClockSteps,
        parts: Parts,
        counters: Counters,
        tuning: Tuning,
    ) -> None:
        self.counters = counters
        self._store = store
        self._open_link = open_link
        self._clock = clock
        self._intake = intake
        self._clock_steps = clock_steps
        self._parts = parts
        self._tuning = tuning
        self._pace = Pace(clock)
        self._tenure = Tenure(store, clock)
        self._requests: queue.SimpleQueue[Due] = queue.SimpleQueue()
        self._link: Link | None = None
        self._is_stopping = False

    def add(self, part: Part) -> None:
        """Add a part, which the loop calls last; before `run` only."""
        self._parts = (*self._parts, part)

    # From any thread.

    def request(self, due: Due) -> None:
        """Request a job; the loop does it soon."""
        self._requests.put(due)
        self._wake()

    def stop(self) -> None:
        """Request a clean stop: finish the current work, publish the offline state, disconnect."""
        self._is_stopping = True
        self._wake()

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    # The loop.

    def run(self) -> None:
        """Work until `stop`.

        Raises:
            StoreError: the database cannot be opened at the start, or stays unusable.
            BrokerError: the broker refuses the bridge for good.
            SeatLostError: another process has the seat, or shall have it (`Tenure`), or the seat is removed.
            SetBackError: the database has lost transactions; the next bridge repairs it.
            ReplacedError: the database was replaced by another one.

        """
        parts = self._parts
        try:
            self.start()
            while self._link is not None and not self._is_stopping:
                self.step()
            if self._link is not None:
                self._finish(self._link)
        except SeatGivenUpError:
            if self._link is not None:
                self._finish(self._link)
            raise
        except SeatDrainedError:
            self.remove_seat()
            raise
        finally:
            for part in parts:
                part.close()
            if self._link is not None:
                self._link.close()
            self._store.close()

    def start(self) -> None:
        """Restore the parts and make the link; `step` needs both. Without a link if stopped meanwhile."""
        self._store.wait_for_seat(lambda: self._is_stopping)
        if self._store.seat.number:
            self._parts = [part for part in self._parts if part.is_of_all]
        give_up_at = self._clock.monotonic() + self._tuning.start_s
        while not self._is_stopping:
            try:
                self._store.raise_versions()
                with self._store.transaction() as tx:
                    for part in self._parts:
                        part.restore(tx)
                    link = self._open_link(tx)
            except StoreError as error:
                self._pace.sleep_after(error, give_up_at)
            else:
                self._link = link
                self._pace.worked(has_more=True)
                return

    def step(self) -> None:
        """Read once, process the messages, do one step of all pending work."""
        link = self._link
        assert link is not None
        self._keep_seat()
        self._tenure.check(link)
        room = self._intake.pending.room(link)
        wait_s = min(self._pace.wait_s, *(part.wait_s() for part in self._parts))
        arrivals = link.poll(wait_s, room, may_connect=not self._store.seat.is_overdue)
        until, until_s = self._check_clock()
        self._process(link, arrivals)
        is_full = arrivals.cut_short or len(arrivals.messages) >= min(room, link.receive_window)
        self._note_progress(link, until, until_s, is_full=is_full)
        while not self._requests.empty():
            due = self._requests.get()
            for part in self._parts:
                part.requested(due)
        if self._pace.is_time:
            self._work(link)
        self._note_progress(link, until, until_s, is_full=is_full)
        for part in self._parts:
            part.turned(link)

    def _keep_seat(self) -> None:
        """Renew the seat before the broker is asked for anything: a frozen process may have lost it."""
        if self._store.seat.is_due and self._pace.is_time:
            try:
                with self._store.transaction():
                    pass
            except StoreError as error:
                self._pace.failed(error)

    def _check_clock(self) -> tuple[int, float]:
        """Return the time by both clocks; after a step of the wall clock, have all parts adapt."""
        now = self._clock.now()
        now_s = self._clock.monotonic()
        by_ms = self._clock_steps.detect(now, now_s)
        if by_ms:
            for part in self._parts:
                part.clock_stepped(by_ms, now)
        return now, now_s

    def _process(self, link: Link, arrivals: Arrivals) -> None:
        if arrivals.connected:
            for part in self._parts:
                part.connected(link, session_present=arrivals.session_present, contested=arrivals.contested)
        for topic_filter in arrivals.subscribed:
            for part in self._parts:
                part.subscribed(topic_filter)
        for topic_filter in arrivals.unsubscribed:
            for part in self._parts:
                part.unsubscribed(topic_filter)
        self._acknowledge(arrivals)
        self._intake.receive(link, arrivals, self._parts)
        if not link.is_connected:
            for part in self._parts:
                part.disconnected()

    def _acknowledge(self, arrivals: Arrivals) -> None:
        for message in arrivals.refused:
            for part in self._parts:
                part.refused(message)
        for ticket, count in Counter(arrivals.delivered).items():
            for part in self._parts:
                part.acknowledged(ticket, count)

    def _note_progress(self, link: Link, until: int, until_s: float, *, is_full: bool) -> None:
        """Record the time up to which all messages are processed; silence is judged only up to then.

        Args:
            link: to the broker.
            until: the time of the last read, epoch milliseconds.
            until_s: the same by the monotonic clock, seconds.
            is_full: the last read was as large as it could be, so more may wait.

        """
        if self._intake.pending or is_full:
            for part in self._parts:
                part.fell_behind()
        elif link.is_connected:
            for part in self._parts:
                part.caught_up(until, until_s)

    def _work(self, link: Link) -> None:
        """Do one step of each part; after a failure of the database, try again later."""
        try:
            done = [part.step(link) for part in self._parts]
        except StoreError as error:
            self._pace.failed(error)
        else:
            self._pace.worked(has_more=not all(done))

    # The end.

    def remove_seat(self) -> None:
        """End the session at the broker, then delete the seat; after a failure its next holder does it."""
        link = self._link
        assert link is not None
        number = self._store.seat.number
        try:
            with self._store.transaction() as tx:
                for part in self._parts:
                    part.finish(tx)
                is_ready = not tx.has_publications()  # a part may have added some
            is_removed = is_ready and link.end_session() and self._store.remove_seat()
        except StoreError as error:
            log.warning("seat %d is not removed yet: %s", number, error)
        else:
            log.info("seat %d is %s", number, "removed" if is_removed else "not removed yet")

    def _finish(self, link: Link) -> None:
        """Commit the messages that were read, finish publishing, publish offline, disconnect."""
        deadline = self._clock.monotonic() + self._tuning.finish_s
        if self._intake.pending:
            self._work(link)
        for part in self._parts:
            part.leaving(link)
        while link.is_connected and link.backlog and self._clock.monotonic() < deadline:
            # Messages that arrive now stay with the broker, unacknowledged.
            self._acknowledge(link.poll(0.1, self._tuning.max_batch))
        try:
            with self._store.transaction() as tx:
                for part in self._parts:
                    part.finish(tx)
        except StoreError as error:
            log.warning("%s; publications that may be unpublished will be published again", error)
        if link.is_connected and link.backlog:
            # The broker may not have read the offline message: without a DISCONNECT it publishes the will.
            log.warning("%d messages are not published yet: they will be at the next start", link.backlog)
        else:
            link.disconnect()
