"""The bridge: one loop, one thread, from the broker's messages to records, statuses and events.

Read a batch, decide, commit, acknowledge, publish, again (docs/design.md). Other threads and signal handlers
only leave a word (`request`, `stop`); nothing here is shared with them.
"""

import logging
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum, auto
from itertools import islice

from msgspec.structs import replace

from mqtt_presence.adapters.registry import AUTO, MOSQUITTO
from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.bridge.committer import Committer
from mqtt_presence.bridge.config import BridgeConfig
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.limits import TOO_FAST, Limiter
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.outbox import LastStatus
from mqtt_presence.bridge.recovery.announcements import Announcements, Asked
from mqtt_presence.bridge.recovery.broker_losses import BrokerLosses
from mqtt_presence.bridge.recovery.clock_steps import ClockSteps
from mqtt_presence.bridge.recovery.forgotten_users import ClearTicket, ForgottenUsers
from mqtt_presence.bridge.recovery.kept_values import keep
from mqtt_presence.bridge.recovery.retained_statuses import Again, RetainedStatuses
from mqtt_presence.bridge.redeliveries import Redeliveries
from mqtt_presence.bridge.state_topic import StateTopic
from mqtt_presence.errors import PayloadError, ReplacedError, SeatLostError, StoreError
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.protocol.incoming import TimeRequest, parse
from mqtt_presence.protocol.outgoing import encode_time_reply
from mqtt_presence.protocol.sizes import TOO_LARGE
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.protocol.topics import ENDS
from mqtt_presence.rules.activity import is_heartbeat
from mqtt_presence.rules.model import (
    BrokerReport,
    CheckDeadlines,
    ClientId,
    ClockSteppedBack,
    EndUnconfirmed,
    Event,
    Message,
    Outcome,
    Renew,
    UserId,
)
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)
# Each heartbeat of a batch changes another page of a large database, written once for the whole batch: the
# larger it is, the fewer pages. What else is in it must be published: the sooner, the more does the
# broker do at the same time. Each of the two takes some 50 ms.
MAX_BATCH = 4000
_MAX_NEWS = 1000
# Half of the window that a broker is often told to give us: it fills one half while we decide on the other.
_MAX_BATCH_V311 = 500
# Messages for the broker that wait: beyond it nothing more is decided, and so acknowledged, until it has
# taken some. Reading goes on, for its acknowledgements come among the clients' messages; its window bounds
# those, but for QoS 0: what comes of that beyond a batch is refused.
_MAX_BACKLOG = 20_000
OVERLOADED = "overloaded"
_MAX_DELETED = 1000  # connections
_CHUNK = 200  # users of one step of a job: messages wait no longer than that takes
_IDLE_S = 1.0
_BEHIND_MS = 2_000
_FINISH_S = 5.0
_START_S = 30.0  # to wait for others who lock the database; who started us must learn of what is worse


class Due(Enum):
    """What is to be done from time to time."""

    CHECK = auto()
    """B1, B2, B3, the end of a grace, forgotten users."""
    RETENTION = auto()
    SET_BACK = auto()
    """Nothing may lie ahead of a clock that was set back."""
    SET_FORWARD = auto()
    """Nobody may look silent for as long as a clock was set forward by."""


class Bridge:
    """Turns clients' messages into presence.

    Args:
        config: what it must know.
        store: where to keep it.
        now: the clock that is authoritative (contract section 3), epoch milliseconds.
        peer_address: where a broker within this process says that a user's client is connected from.

    """

    def __init__(
        self,
        config: BridgeConfig,
        store: Store,
        *,
        now: Callable[[], int] = wall_clock,
        peer_address: Callable[[str, str], str | None] | None = None,
    ) -> None:
        self._config = config
        self._topics = config.topics
        self._store = store
        self._now = now
        self._peer_address = peer_address
        self._witness = BrokerConnections(config.source)
        self.counters = Counters()
        self._limiter = Limiter(config.limits)
        self._requests: queue.SimpleQueue[Due] = queue.SimpleQueue()
        self._stopping = False
        self._link: Link | None = None
        self._convergence = RetainedStatuses(config.topics)
        self._pending: deque[tuple[Incoming, Message | BrokerReport | None]] = deque()
        self._losses = BrokerLosses(now, follows=config.source in {AUTO, MOSQUITTO})
        self._redeliveries = Redeliveries()
        self._batch_limit = MAX_BATCH
        self._retry_at = 0.0
        self._retry_s = 0.0
        self._jobs: dict[Due, Callable[[], bool]] = {}
        self._forgetting = ForgottenUsers(config.topics)
        self._silence = Announcements(config.confirm_within_ms)
        self._cut_up_to = ""
        self._confirmed_up_to = ""
        self._set_forward = ClockSteps()
        self._own = StateTopic(now)
        self._decider = Committer(
            store,
            config.topics,
            config.rules,
            self._limiter,
            self.counters,
            private=config.publish_private,
            remember=self._remember_told,
        )

    # From any thread.

    def request(self, due: Due) -> None:
        """Ask for a job to be done by the loop, soon."""
        self._requests.put(due)
        self._wake()

    def stop(self) -> None:
        """Ask the loop to finish what it has begun, say offline and end."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    # The loop.

    def run(self) -> None:
        """Work until `stop`.

        Raises:
            StoreError: the database cannot be opened at the start, or then not be used for half a minute.
            BrokerError: the broker refuses us for good.
            SeatTakenError: another process is the bridge of this database.
            SeatLostError: another process has become that, after we did nothing for long.
            ReplacedError: another database is where ours was, or an older state of it.

        """
        try:
            self._start()
            if self._link is not None:
                while not self._stopping:
                    self._step(self._link)
                self._finish(self._link)
        finally:
            if self._link is not None:
                self._link.close()
            self._store.close()

    def _start(self) -> None:
        """Go on from what is known; without a link if we are stopped while others lock the database."""
        self._store.take_seat(lambda: self._stopping)
        give_up_at = time.monotonic() + _START_S
        while not self._stopping:
            try:
                self._restore()
            except StoreError as error:
                if time.monotonic() >= give_up_at:
                    raise
                self._put_off(error)
                time.sleep(self._retry_s)
            else:
                self._retry_s = 0.0
                return

    def _restore(self) -> None:
        with self._store.transaction() as tx:
            client_id = tx.client_id()
            self._own.restore(tx)
            self._silence.restore(tx, self._now())
            self._convergence.restore(tx)
            self._losses.restore(tx)
            self._witness.restore(tx)
            self.counters.restore(tx.recall("refused"))
            if self._limiter.counts_users:
                self._limiter.users_are(tx.count_users())
            self._redeliveries = Redeliveries(tx.redeliveries())
            unpublished = self._decider.unpublished(tx)
            if tx.lies_ahead(self._now()):  # while nobody looked the clock was set back
                self._jobs[Due.SET_BACK] = self._cut_what_lies_ahead
            if self._set_forward.restore(tx):
                self._jobs[Due.SET_FORWARD] = self._move_what_lies_behind
        link = self._link = Link(self._config.link(client_id), self._will)
        self._decider.publish_again(link, unpublished)

    def _keep_seat(self) -> None:
        """Renew the seat before the broker is asked for anything: a frozen process may have lost it."""
        if self._store.seat_is_due and time.monotonic() >= self._retry_at:
            try:
                with self._store.transaction():
                    pass
            except StoreError as error:
                self._put_off(error)

    def _step(self, link: Link) -> None:
        self._keep_seat()
        room = MAX_BATCH
        if link.backlog <= _MAX_BACKLOG:
            room = max(0, MAX_BATCH - len(self._pending))
        arrivals = link.poll(self._patience(link), room)
        heard_until = self._look_at_the_clock()
        self._take(link, arrivals)
        is_full = arrivals.cut_short or len(arrivals.messages) >= min(room, link.receive_window)
        self._look_how_far(link, heard_until, is_full=is_full)
        if not link.is_connected:
            self._convergence.disconnected()
        while not self._requests.empty():
            due = self._requests.get()
            self._jobs[due] = {Due.CHECK: self._check, Due.RETENTION: self._retain}[due]
        if time.monotonic() >= self._retry_at:
            self._work(link)
        self._look_how_far(link, heard_until, is_full=is_full)

    def _look_at_the_clock(self) -> int:
        """Tell the time; if the clock was set, have what was stamped before made to fit."""
        now = self._now()
        set_by = self._silence.was_set(now)
        if set_by:
            by = max(0, set_by)
            self._pending = deque(
                (message, event if event is None else replace(event, now=min(event.now + by, now)))
                for message, event in self._pending
            )
        if set_by < 0:
            self._cut_up_to = ""
            self._jobs[Due.SET_BACK] = self._cut_what_lies_ahead
        elif set_by > 0:
            log.warning("the clock was set forward by %.1f s", set_by / 1000)
            self._set_forward.add(set_by)
            self._jobs[Due.SET_FORWARD] = self._move_what_lies_behind
        return now

    def _look_how_far(self, link: Link, heard_until: int, *, is_full: bool) -> None:
        """Take note of up to when all is decided on: of what is later, nobody can be said to be silent.

        Args:
            link: to the broker.
            heard_until: when it was last read, epoch milliseconds.
            is_full: as much came at once as could, so there may be more.

        """
        if self._pending or is_full:
            self._convergence.is_behind()
        elif link.is_connected:
            self._silence.heard_all(heard_until)

    def _patience(self, link: Link) -> float:
        """How long to wait for something to happen, seconds."""
        announcing = self._silence.is_time_to_ask and self._convergence.is_subscribed
        deciding = self._pending and link.backlog <= _MAX_BACKLOG
        if deciding or self._jobs or announcing or self._convergence.has_a_page(link):
            return min(_IDLE_S, max(0.0, self._retry_at - time.monotonic()))
        return _IDLE_S

    def _work(self, link: Link) -> None:
        """Take one step in everything there is to do; what fails for now is tried again later."""
        try:
            self._decider.settle_doubt(link)
            if self._silence.must_ask:
                keep(self._store, self._silence.memory)
            if self._pending and link.backlog <= _MAX_BACKLOG:
                self._commit_batch(link)
            can_ask = self._convergence.is_subscribed and not self._is_clock_new
            if can_ask and self._silence.is_time_to_ask:
                self._say_announce(link)
            for due, job in list(self._jobs.items()):
                if job():
                    del self._jobs[due]
            self._convergence.republish(self._store, link, self._config.publish_private)
            self._provide_witness(link)
        except StoreError as error:
            self._put_off(error)
        else:
            self._retry_s = 0.0

    def _provide_witness(self, link: Link) -> None:
        """Have a status that tells, after the next connect, whether the broker still has all of them."""
        convergence = self._convergence
        if convergence.must_renew:

            def gather(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
                convergence.drop_witness(tx)
                return {user_id: (Renew(user_id=user_id, now=self._now()),) for user_id in tx.last_user()}

            self._decider.decide(link, gather, lambda _: convergence.renewed())
        elif convergence.has_no_witness:
            self._decider.clear_now()

    def _put_off(self, error: StoreError) -> None:
        if not error.transient:
            raise error
        if error.conflict:
            self._retry_s = self._retry_at = 0.0
            log.info("%s; trying again", error)
            return
        self._retry_s = min(5.0, max(0.1, self._retry_s * 2))
        self._retry_at = time.monotonic() + self._retry_s
        log.warning("%s; nothing is lost, next try in %.1f s", error, self._retry_s)

    # Messages.

    def _take(self, link: Link, arrivals: Arrivals) -> None:
        if arrivals.connected:
            self._connected(link, session_present=arrivals.session_present)
            if arrivals.contested:
                self._convergence.republish_all()
        for topic_filter in arrivals.subscribed:
            self._convergence.subscribed(topic_filter)
        self._take_acknowledgements(arrivals)
        now, moment = self._now(), time.monotonic()
        is_stuck = link.backlog > _MAX_BACKLOG
        for message in arrivals.messages:
            self.counters.received += 1
            self._redeliveries.hear(message)
            if not self._topics.is_input(message.topic) and self._take_from_broker(link, message, now):
                continue
            if is_stuck and not message.qos and len(self._pending) >= MAX_BATCH:
                self.counters.refuse(OVERLOADED, message.topic)
            else:
                event = self._understand(link, message, now, moment)
                if event is not None:
                    self._pending.append((message, event))
                elif message.qos:  # it waits for its acknowledgement, without what may be large
                    self._pending.append((replace(message, topic="", payload=b""), None))

    def _take_from_broker(self, link: Link, message: Incoming, now: int) -> bool:
        """Take what the broker says of itself, or of what it retains; tell whether it was that."""
        if self._convergence.heard(link, message) or self._losses.heard(message):
            link.ack((message,))
            return True
        if self._witness.is_about(message):
            is_known = self._redeliveries.is_repeated(message)
            self._pending.append((message, None if is_known else self._witness.hear(message, now)))
            return True
        return False

    def _take_acknowledgements(self, arrivals: Arrivals) -> None:
        for message in arrivals.refused:
            if isinstance(message.ticket, ClearTicket):
                self._forgetting.refused(message.ticket)
                continue
            if isinstance(message.ticket, Asked):
                self._silence.refused(message.ticket)
            elif isinstance(message.ticket, Again):
                self._convergence.taken(message.ticket, 1)
            elif message.ticket is not None:
                self._decider.delivered(message.ticket, 1)
            if self._topics.parse_status(message.topic) is not None:
                self._convergence.refused()
        for message in arrivals.unsent:
            self.counters.refuse("bad_name", message.topic)
        done = [t for m in arrivals.unsent for t in (*m.replaced, m.ticket) if t is not None]
        for ticket, times in Counter(arrivals.delivered + done).items():
            if isinstance(ticket, ClearTicket):
                self._forgetting.taken(ticket)
            elif isinstance(ticket, Asked):
                self._silence.taken(ticket)
            elif isinstance(ticket, Again):
                self._convergence.taken(ticket, times)
            else:
                self._decider.delivered(ticket, times)

    def _understand(self, link: Link, message: Incoming, now: int, moment: float) -> Message | None:
        """Make an event of a message; None: there is nothing to decide on."""
        try:
            name = self._topics.parse_input(message.topic)
            if message.retain:
                self.counters.refuse("retained", message.topic)
                return None
            # An end is always heard: who was refused must not be taken for present for ever.
            if name.verb not in ENDS and not self._limiter.admits(name.user_id, moment):
                self.counters.refuse(TOO_FAST, message.topic)
                return None
            if message.oversize:
                self.counters.refuse(TOO_LARGE, f"{message.topic}: {message.oversize} bytes")
                return None
            event = parse(name, message.payload, now, *self._where(*name[:2]))
        except PayloadError as error:
            self.counters.refuse(error.reason, f"{message.topic}: {error.detail}")
            return None
        if isinstance(event, TimeRequest):
            reply = self._topics.reply(event.user_id, event.client_id)
            link.send_now(reply, encode_time_reply(event, self._now()))
            return None
        return event

    def _where(self, user_id: UserId, client_id: ClientId) -> tuple[str | None, int | None]:
        """Tell the address of a client, and by which of the broker's connections it is here."""
        if self._peer_address is not None:
            return self._peer_address(user_id, client_id), None
        peer = self._witness.peer(user_id, client_id)
        return (None, None) if peer is None else (peer.address, peer.number)

    def _commit_batch(self, link: Link) -> None:
        most = min(self._batch_limit, MAX_BATCH if link.is_mqtt5 else _MAX_BATCH_V311)
        batch: list[Incoming] = []
        events: dict[UserId, list[Event]] = {}
        lines: list[Incoming] = []
        may_come_again: list[tuple[Incoming, bool]] = []
        news = 0
        for message, event in islice(self._pending, most):
            news += not is_heartbeat(event)
            if news > _MAX_NEWS:
                break
            batch.append(message)
            is_line, is_nameless = self._witness.has_read(message), _is_nameless(event)
            if is_line:
                lines.append(message)
            may_come_again.append((message, is_line or is_nameless))
            if event is not None and not (is_nameless and self._redeliveries.is_repeated(message)):
                events.setdefault(event.user_id, []).append(event)
        committed = self._redeliveries.line(may_come_again)

        def note(tx: Transaction) -> None:
            self._witness.remember_batch(tx, lines, (e for of_user in events.values() for e in of_user))
            if committed is not None:
                tx.put_redeliveries(committed.number, committed.body)
                tx.clear_redeliveries(committed.obsolete)

        def done() -> None:
            self._batch_limit = MAX_BATCH
            if committed is not None:  # what is refused, too: its packet id has been given out
                self._redeliveries.committed(committed)
            for message in batch:
                # Unless it is gone, to be sent again: there may have been another connection meanwhile.
                if self._pending and self._pending[0][0] is message:
                    self._pending.popleft()
            self.counters.batches += 1
            link.ack(batch)
            link.flush()

        def decided(outcomes: Sequence[Outcome]) -> None:
            self._forgetting.are_back(o.user.user_id for o in outcomes if o.status_changed)
            self._witness.committed()
            done()

        if not (events or lines):
            done()
            return
        try:
            step = self._decider.commit(events, note, decided)
        except Exception as error:
            if not _is_of_the_batch(error):
                raise
            if len(batch) > 1:
                # One of these messages cannot be taken: find it, so that the others can.
                self._batch_limit = len(batch) // 2
                return
            log.exception("a message cannot be processed")
            self.counters.refuse("unprocessable", f"{batch[0].topic}: {error}")
            self._witness.give_up(batch[0])
            done()
        else:
            self._decider.complete(link, step)

    # Connections with the broker.

    def _will(self) -> tuple[str, bytes]:
        return self._topics.bridge_state, self._own.will()

    def _remember_told(self, tx: Transaction, probe: LastStatus | None) -> None:
        """Keep what the broker has, beside the outbox."""
        self._own.remember(tx)
        self._convergence.remember(tx, probe)

    def _connected(self, link: Link, *, session_present: bool) -> None:
        if session_present:
            # The broker sends again what it has no acknowledgement for.
            self._pending = deque(item for item in self._pending if item[0].qos == 0)
        else:
            self._redeliveries.forget()
            self._silence.must_ask = True
            log.info("the broker had no session for the bridge: asking all clients to log in again")
        # Not behind a backlog: the convergence takes it, retained, for the end of the broker's answer.
        birth = self._own.birth()
        link.publish_ahead(Outgoing(self._topics.bridge_state, birth, retain=True, of_connection=True))
        self._convergence.connected(link)
        self._forgetting.connected()
        # Last: some brokers close the connection on who asks for more than they tell.
        self._losses.connected(link, session_present=session_present)
        self._witness.connected(link, session_present=session_present)
        self._limiter.connected(time.monotonic())
        self._silence.connected()

    def _say_announce(self, link: Link) -> None:
        now = self._silence.now  # should the clock have been set since, that is still to be noticed
        with self._store.transaction() as tx:
            self._silence.remember_asked(tx, now)
            tx.clear_redeliveries(self._redeliveries.forgotten)
        self._silence.asked(now)
        link.publish([Outgoing(self._topics.bridge_announce, b"{}", ticket=Asked(now))])

    # Jobs: each does one step and tells whether it has come to its end.

    @property
    def _is_clock_new(self) -> bool:
        """Not all that was stamped before it was set fits it yet."""
        return not self._jobs.keys().isdisjoint({Due.SET_BACK, Due.SET_FORWARD})

    def _check(self) -> bool:
        assert self._link is not None
        if Due.SET_FORWARD in self._jobs:
            return False  # many would look silent
        now = self._now()
        self._remember_refusals(now)
        # Not by the clock alone: a sign of life may still wait for us, or with the broker.
        until = self._silence.heard_until
        due = self._decider.decide(
            self._link,
            lambda tx: {u: (CheckDeadlines(user_id=u, now=until),) for u in tx.due_users(until, _CHUNK)},
        )
        return due == 0 and self._confirm(self._link, now) and self._clear_forgotten(self._link)

    def _remember_refusals(self, now: int, *, at_once: bool = False) -> None:
        """Keep for operators what was refused, so that it outlives the log; not often, it costs a commit."""
        text = self.counters.news(time.monotonic(), now, at_once=at_once)
        if text is not None:
            with self._store.transaction() as tx:
                tx.remember("refused", text)
            self.counters.kept()

    def _confirm(self, link: Link, now: int) -> bool:
        if self._convergence.has_news_of_a_loss():
            self._losses.suspect()
        # While we are behind the broker may still be dropping: what they answer would be lost, too.
        if now - self._silence.heard_until <= _BEHIND_MS and self._losses.must_announce():
            self._silence.must_ask = True
        keep(self._store, self._losses.memory, self._witness.memory, self._silence.memory)
        since = self._silence.over_since
        if since is None or not link.is_connected:
            self._confirmed_up_to = ""
            return True
        page: dict[UserId, bool] = {}

        def gather(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            page.update(tx.unconfirmed_users(since, self._confirmed_up_to, _CHUNK))
            return {
                u: (EndUnconfirmed(user_id=u, now=now, announced_at=since),)
                for u, is_unconfirmed in page.items()
                if is_unconfirmed
            }

        self._decider.decide(link, gather)
        is_last = len(page) < _CHUNK
        self._confirmed_up_to = "" if is_last else next(reversed(page))
        if not is_last:
            return False
        with self._store.transaction() as tx:
            self._silence.remember_over(tx)
        self._silence.over()
        return True

    def _clear_forgotten(self, link: Link) -> bool:
        def forget(tx: Transaction, user_ids: Collection[UserId]) -> None:
            for user_id in user_ids:
                self._convergence.forget(tx, user_id)
            if self._limiter.counts_users:
                self._limiter.users_are(tx.count_users())

        self._forgetting.clear(self._store, link, self._now(), forget)
        return True

    def _cut_what_lies_ahead(self) -> bool:
        """After the clock was set back: have silence count from now, not from a time that is yet to come."""
        assert self._link is not None
        now = self._now() - 1  # strictly before whoever is asked next, and answers
        page: dict[UserId, bool] = {}

        def gather(tx: Transaction) -> Mapping[UserId, Sequence[Event]]:
            page.update(tx.live_users(self._cut_up_to, now, _CHUNK))
            return {u: (ClockSteppedBack(user_id=u, now=now),) for u, is_ahead in page.items() if is_ahead}

        self._decider.decide(self._link, gather)
        self._cut_up_to = next(reversed(page), "")
        return not page

    def _move_what_lies_behind(self) -> bool:
        """After the clock was set forward: have silence count as if it had always been so far ahead."""
        return self._set_forward.step(self._store, self._now() - 1)  # strictly before whoever is asked next

    def _retain(self) -> bool:
        if self._config.retention_ms is None:
            return True
        with self._store.transaction() as tx:
            return tx.delete_ended(self._now() - self._config.retention_ms, _MAX_DELETED) == 0

    # The end.

    def _finish(self, link: Link) -> None:
        """Commit what was read, publish what is committed, say offline, leave."""
        deadline = time.monotonic() + _FINISH_S
        if self._pending:
            self._work(link)
        link.publish([Outgoing(self._topics.bridge_state, self._own.farewell(), retain=True)])
        while link.is_connected and link.backlog and time.monotonic() < deadline:
            # Messages that come now stay with the broker, unacknowledged.
            self._take_acknowledgements(link.poll(0.1, MAX_BATCH))
        try:
            self._remember_refusals(self._now(), at_once=True)
            with self._store.transaction() as tx:
                self._decider.clear(tx)
                self._own.remember(tx)
        except StoreError as error:
            log.warning("%s; what is not known to be published will be published again", error)
        if link.is_connected and link.backlog:
            # It has perhaps not come to our farewell: without a DISCONNECT the will says the same.
            log.warning("%d messages are not published yet: they will be at the next start", link.backlog)
        else:
            link.disconnect()


def _is_nameless(event: Message | BrokerReport | None) -> bool:
    """Tell whether nothing in it but its packet id tells it from another one."""
    return isinstance(event, Message) and event.connection_id is None


def _is_of_the_batch(error: Exception) -> bool:
    """Tell whether one of the messages is at fault, and would be again."""
    if isinstance(error, StoreError):
        return not error.transient
    return not isinstance(error, SeatLostError | ReplacedError)
