"""A sender: sends the queue to one receiver, in order, in a thread of its own.

It reads and writes the database by a connection of its own, in short transactions, and never inside one while
it waits for the receiver. So a receiver that hangs holds up neither the bridge nor another receiver.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable

from mqtt_presence.access.rate_limited_log import RateLimitedLog
from mqtt_presence.bridge.notifications.config import NotificationConfig
from mqtt_presence.bridge.notifications.next_request import Request, count_pending, next_request
from mqtt_presence.bridge.notifications.steady_clock import SteadyClock
from mqtt_presence.errors import StoreError
from mqtt_presence.integrations.notifications.notification import Place
from mqtt_presence.integrations.notifications.receivers import Receiver
from mqtt_presence.integrations.notifications.retry_schedule import delay_ms
from mqtt_presence.integrations.notifications.sending import Answer, Delivered, Failed, Gone, Sending
from mqtt_presence.store.notification_queue import NotificationQueue
from mqtt_presence.store.notification_tables import Failure, NotificationTables, ReceiverState

log = logging.getLogger(__name__)

_DATABASE_AGAIN_S = 1.0
_ERROR_AGAIN_S = 10.0
_SAVE_AFTER_ROWS = 1000
"""Rows without anything for the receiver, after which its place is stored."""


class Sender:
    """Sends to one receiver.

    Args:
        receiver: of the settings file.
        config: of notifications.
        steady: the clock of the queue and of retries.
        now: returns the time, epoch milliseconds.
        chance: returns a random number from 0 to 1.

    """

    def __init__(
        self,
        receiver: Receiver,
        config: NotificationConfig,
        steady: SteadyClock,
        now: Callable[[], int],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.receiver = receiver
        self.failed_attempts = 0
        """Failed requests since the start."""
        self.pending = 0
        """Notifications that wait, as far as this sender has looked."""
        self._config = config
        self._queue = NotificationQueue(config.database)
        self._sending: Sending = config.make_sending(receiver)
        self._steady = steady
        self._now = now
        self._chance = chance
        self._limit = self._sending.limit
        self._passed: tuple[int, Place] = (-1, Place(0, 0))
        """The generation, and a place up to which nothing concerns the receiver."""
        self._counted: tuple[int, int] = (-1, 0)
        """The generation of `pending`, and the last row that it counts."""
        self._news: deque[tuple[int | None, int]] = deque()
        """Changes of `pending` from other threads: the row, and the number of notifications."""
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._lines = RateLimitedLog(log)

    # From any thread.

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name=f"notify-{self.receiver.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread soon, and a request on its way at once; what is not delivered is sent later."""
        self._stopping.set()
        self._wake.set()
        self._sending.cancel()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread; the process may also end without it."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def queued(self, row: int | None, count: int) -> None:
        """Record that so many notifications were queued in a row; negative: so many were dropped."""
        self._news.append((row, count))
        self._wake.set()

    # In the thread.

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                wait_s, until_woken = self.step()
            except StoreError as error:
                self._lines.log("notify %s: %s", self.receiver.name, error)
                self._stopping.wait(_DATABASE_AGAIN_S)
            except Exception:
                log.exception("notify %s: failed", self.receiver.name)
                self._stopping.wait(_ERROR_AGAIN_S)
            else:
                event = self._wake if until_woken else self._stopping
                if wait_s > 0:
                    event.wait(min(wait_s, self._config.look_every_s))
        self._queue.close()

    def step(self) -> tuple[float, bool]:
        """Send one request, if it is time.

        Returns:
            The seconds until there may be more to do, and whether a new notification ends the wait.

        Raises:
            StoreError: nothing is stored; the same is tried again, under the same ids.

        """
        with self._queue.reading() as tables:
            state = tables.receiver(self.receiver.name)
            if state is None or state.disabled:
                return self._config.look_every_s, state is None  # None: not committed yet
            self._count(tables, state)
            wait_ms = self._backoff_ms(state)
            if wait_ms > 0:
                return wait_ms / 1000, False
            begin = Place(*state.next)
            if self._passed[0] == state.generation:
                begin = max(begin, self._passed[1])
            request = next_request(
                tables,
                self.receiver,
                state,
                begin,
                is_quiet=self.receiver.quiet is not None and self.receiver.quiet.cover(self._now()),
                keep_from=self._steady.now() - self._config.keep_ms,
                limit=self._limit,
            )
        if not request.notifications:
            return self._pass_over(state, request)
        wait_ms = self._batch_wait_ms(state, request)
        if wait_ms > 0:
            return wait_ms / 1000, False
        self._fix_end(state, request)
        answer = self._sending.send(request.notifications)
        return self._take(answer, state, request)

    def _backoff_ms(self, state: ReceiverState) -> int:
        if state.attempted_at is None:
            return 0
        # No more than the delay: the clock may have been set back while the bridge was away.
        return min(state.attempted_at + state.delay_ms - self._steady.now(), state.delay_ms)

    def _batch_wait_ms(self, state: ReceiverState, request: Request) -> int:
        batch_ms = self.receiver.batch_ms
        if not batch_ms or request.held_numbers or request.has_more or state.sending is not None:
            return 0
        return min(request.first_at + batch_ms - self._steady.now(), batch_ms)

    def _fix_end(self, state: ReceiverState, request: Request) -> None:
        """Store where the request ends: it is sent again with the same content, and so under the same id."""
        if self.receiver.batch_ms is not None and not request.held_numbers and state.sending is None:
            with self._queue.transaction() as tables:
                tables.update_receiver(
                    self.receiver.name,
                    state.generation,
                    sending_row=request.end.row,
                    sending_position=request.end.position,
                )

    def _pass_over(self, state: ReceiverState, request: Request) -> tuple[float, bool]:
        """Remember that there is nothing to send up to a place."""
        is_far = request.end.row - state.next_row >= _SAVE_AFTER_ROWS
        if request.is_progress or is_far or state.sending is not None:
            self._advance(state, request, {})
        self._passed = state.generation, request.end
        return (0.0, False) if request.has_more else (self._config.look_every_s, True)

    def _take(self, answer: Answer, state: ReceiverState, request: Request) -> tuple[float, bool]:
        """Store the answer of the receiver."""
        name, count = self.receiver.name, len(request.notifications)
        match answer:
            case Delivered():
                self._advance(state, request, {"delivered": count})
                self._limit = self._sending.limit
                if state.reason is not None:
                    self._lines.log("notify %s: delivers again", name, level=logging.INFO)
            case Gone():
                self.failed_attempts += 1
                log.warning(
                    "notify %s: %s: it wants no more, and is disabled; `notify replay` enables it",
                    name,
                    answer.reason,
                )
                with self._queue.transaction() as tables:
                    tables.update_receiver(name, state.generation, disabled=True, reason=answer.reason)
            case Failed() if not self._stopping.is_set():
                self.failed_attempts += 1
                self._fail(answer, state, request)
        return 0.0, False

    def _fail(self, answer: Failed, state: ReceiverState, request: Request) -> None:
        name, count = self.receiver.name, len(request.notifications)
        if answer.is_refused and count > 1:
            # One of them may be at fault: the half is tried at once, until the one is found.
            self._limit = count // 2
            with self._queue.transaction() as tables:
                tables.update_receiver(name, state.generation, sending_row=None, sending_position=None)
            return
        attempts = state.attempts + 1
        delay = delay_ms(attempts, self._chance(), answer.retry_after_s, self._config.delays_s)
        if delay is None:
            log.error(
                "notify %s: gave up %d notifications after %d attempts: %s",
                name,
                count,
                attempts,
                answer.reason,
            )
            self._give_up(answer, state, request, attempts)
            return
        self._lines.log(
            "notify %s: attempt %d failed: %s; the next one in %.0f s",
            name,
            attempts,
            answer.reason,
            delay / 1000,
        )
        with self._queue.transaction() as tables:
            tables.update_receiver(
                name,
                state.generation,
                attempts=attempts,
                attempted_at=self._steady.now(),
                delay_ms=delay,
                reason=answer.reason,
            )

    def _give_up(self, answer: Failed, state: ReceiverState, request: Request, attempts: int) -> None:
        now = self._now()
        failures = [
            Failure(
                now,
                queued.id,
                queued.notification.user_id,
                queued.notification.event,
                attempts,
                answer.reason,
            )
            for queued in request.notifications
        ]
        self._advance(state, request, {"failed": len(failures)}, failures)

    def _advance(
        self,
        state: ReceiverState,
        request: Request,
        sums: dict[str, int],
        failures: list[Failure] | None = None,
    ) -> None:
        """Move the receiver behind a request, and store everything that belongs to it."""
        name = self.receiver.name
        with self._queue.transaction() as tables:
            is_ours = tables.update_receiver(
                name,
                state.generation,
                next_row=request.end.row,
                next_position=request.end.position,
                sending_row=None,
                sending_position=None,
                attempts=0,
                attempted_at=None,
                delay_ms=0,
                reason=None if "delivered" in sums or not request.notifications else state.reason,
                dropped=request.dropped,
                **sums,
            )
            if is_ours:
                tables.drop_held(name, request.cleared)
                tables.hold(name, request.held_rows())
                tables.delete_held(request.held_numbers)
                if failures:
                    tables.put_failures(name, failures)
        if is_ours:
            self.pending -= len(request.notifications) + request.dropped + request.cleared_count
        if request.dropped:
            self._lines.log(
                "notify %s: dropped %d notifications that waited longer than notify_keep",
                name,
                request.dropped,
            )

    def _count(self, tables: NotificationTables, state: ReceiverState) -> None:
        """Keep `pending` up to date; count anew after a start or a replay."""
        if self._counted[0] != state.generation:
            pending, last = count_pending(tables, self.receiver, state)
            self._counted, self.pending = (state.generation, last), pending
        while self._news:
            row_of_news, count = self._news.popleft()
            if row_of_news is None or row_of_news > self._counted[1]:
                self.pending = max(0, self.pending + count)
