"""Several real bridges on one PostgreSQL and a `ModelBroker`; a test moves each by hand, and kills it anywhere."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from mqtt_presence.bridge.assembly import Assembly
from mqtt_presence.bridge.config import BridgeConfig
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.part import Due
from mqtt_presence.errors import SeatDrainedError, SeatLostError, SeatTakenError, StoreError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.store import LEASE_MS, Store
from mqtt_presence.store.database import store_errors
from mqtt_presence.store.seat import Candidate
from tests.support.held_bridge import CONFIRM_MS, HeldClock
from tests.support.model_broker import ModelBroker, ModelLink

_URL = BrokerUrl.parse("mqtt://bridge@127.0.0.1")
_TABLES = (
    "pulses",
    "connection_records",
    "connection_history",
    "user_states",
    "seats",
    "standbys",
    "outbox",
    "redeliveries",
    "tombstones",
)
TOPICS = Topics()
FAULTS = ("killed", "killed after", "cut off", "cut off after", "frozen")
"""What may happen at a statement: before it, or after it was executed."""


class Killed(BaseException):
    """The process is gone: no handler may run on."""


class Process:
    """A process that wants a seat, and is a bridge while it has one."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self.name = name
        self.seats = world.seats
        self.is_frozen = False
        self.is_alive = False
        self.loop: Any = None
        self.link: ModelLink | None = None
        self._fault: tuple[int, str, Callable[[], None]] | None = None
        self.start()

    def start(self) -> None:
        """Begin as a process that waits for a seat."""
        self.is_alive, self.loop, self.link = True, None, None
        self._fault = None
        self._is_fault_at_commit = False
        self._batches: list[tuple[Any, ...]] = []
        """The transactions of all seats when this process began its turn, or was let go in it."""
        self.store = Store(self._world.database, Candidate(self.name, seats=self.seats))
        database: Any = self.store._database
        database.connect_params["cursor_factory"] = self._cursor_class()
        commit = database.commit

        def watched_commit() -> None:
            with self._around(is_commit=True):
                commit()

        database.commit = watched_commit
        self.store.open = self._open  # type: ignore[method-assign]

    def _open(self) -> None:
        """Connect, without the migrations: another store has done them."""
        with store_errors("open the database"):
            self.store._database.connect(reuse_if_open=True)

    def fail(
        self,
        statements: int,
        fault: str,
        meanwhile: Callable[[], None] = lambda: None,
        *,
        at_commit: bool = False,
    ) -> None:
        """Have something happen at a later statement.

        Args:
            statements: how many come before it.
            fault: one of `FAULTS`.
            meanwhile: what others do while this process is frozen.
            at_commit: only commits count as statements.

        """
        self._fault = (statements, fault, meanwhile)
        self._is_fault_at_commit = at_commit

    def step(self) -> None:
        """Do one turn: look for a seat, or one turn of the bridge's loop."""
        if not self.is_alive or self.is_frozen:
            return
        try:
            self._step()
        except Killed:
            self.die()

    def _step(self) -> None:
        try:
            if self.loop is None:
                self._look_for_seat()
            else:
                self._turn()
        except SeatDrainedError:
            self._remove_seat()
            self._leave()
        except SeatLostError:
            self._leave()
        except StoreError:
            if self.link is not None:
                raise
            self.die()  # a process that cannot begin ends

    def _remove_seat(self) -> None:
        with suppress(SeatLostError):
            self.loop.remove_seat()

    def _look_for_seat(self) -> None:
        try:
            self._open()
            with store_errors("wait for a seat"):
                try:
                    has_seat = self.store._seat.take()
                except SeatTakenError:
                    has_seat = False
                if not has_seat:
                    self.store._seat.wait()
                    return
        except StoreError:
            self.store._disconnect()
            return
        config = BridgeConfig(link=lambda i: LinkConfig((_URL,), i), confirm_within_ms=CONFIRM_MS)

        def make_link(of: LinkConfig, _will: object) -> Any:
            self.link = ModelLink(self._world.broker, of.client_id)
            return self.link

        assembly = Assembly(config, self.store, clock=self._world.clock, make_link=make_link)
        self.loop = assembly.bridge
        self.loop.start()

    def _turn(self) -> None:
        assert self.link is not None
        self._batches, connections = self._world.batches(), self.link.connections
        is_zombie = self.is_zombie
        try:
            self.loop.step()
        finally:
            if is_zombie and self._world.batches() != self._batches:
                raise AssertionError(f"{self.name} has lost its seat and commits")
            if is_zombie and self.link.connections != connections:
                raise AssertionError(f"{self.name} has lost its seat and connects")

    @property
    def is_zombie(self) -> bool:
        """Whether another process has taken the seat, which this one does not know yet."""
        seat: Any = self.store.seat
        return seat._epoch is not None and self._world.epoch(seat.number) != seat._epoch

    def check(self) -> None:
        """Have the jobs of each second done."""
        if self.loop is not None:
            self.loop.request(Due.CHECK)

    def die(self, *, are_bytes_lost: bool = False) -> None:
        """Kill -9: the system closes the sockets; what was written may arrive, or not."""
        self.is_alive = False
        self._undo_at_server()
        if self.link is not None:
            if are_bytes_lost and self.link.connection is not None:
                self.link.connection.up.clear()
            self.link.close()
        self.loop = self.link = None

    def _leave(self) -> None:
        """Wait as a standby again, as `serving.serve_again` does."""
        for part in self.loop._parts:
            part.close()
        if self.link is not None:
            self.link.close()
        self.store.close()
        self.start()

    @property
    def _is_in_transaction(self) -> bool:
        connection: Any = self.store._database._state.conn
        return connection is not None and connection.info.transaction_status != TransactionStatus.IDLE

    def _undo_at_server(self) -> None:
        connection: Any = self.store._database._state.conn
        if connection is not None and not connection.closed:
            connection.pgconn.exec_(b"ROLLBACK")
            connection.close()

    def _cursor_class(self) -> type[psycopg.Cursor[Any]]:
        process = self

        class WatchedCursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, *args: Any, **options: Any) -> Any:
                query = process._world.mutate(query)
                with process._around():
                    try:
                        return super().execute(query, *args, **options)
                    except psycopg.errors.LockNotAvailable as error:
                        raise AssertionError(f"waits for a lock, on one thread: {query}") from error

            def executemany(self, *args: Any, **options: Any) -> None:
                with process._around():
                    super().executemany(*args, **options)

        return WatchedCursor

    @contextmanager
    def _around(self, *, is_commit: bool = False) -> Iterator[None]:
        """Let the planned fault happen before or after a statement."""
        if not self.is_alive:
            raise Killed
        fault = None
        if self._fault is not None and (is_commit or not self._is_fault_at_commit):
            left, fault, meanwhile = self._fault
            self._fault = (left - 1, fault, meanwhile) if left else None
            fault = None if left else fault
        if fault == "frozen":
            if self._is_in_transaction:
                self._undo_at_server()  # as the server does with an idle transaction after a lease
            self.is_frozen = True
            meanwhile()
            self.is_frozen = False
            self._batches = self._world.batches()
        elif fault in ("killed", "cut off"):
            self._happen(fault)
        yield
        if fault in ("killed after", "cut off after"):
            self._happen(fault)

    def _happen(self, fault: str) -> None:
        self._undo_at_server()
        if fault.startswith("killed"):
            self.is_alive = False
            raise Killed
        raise psycopg.OperationalError("the connection to the server is lost")


class World:
    """Broker, database, processes, one clock; and what clients have published."""

    def __init__(self, database: str, *, seats: int = 2, processes: int = 3) -> None:
        self.database = database
        self.seats = seats
        self.has_changed = False
        """Whether the number of seats was another one meanwhile: nameless messages may then arrive twice."""
        self.mutate: Callable[[Any], Any] = lambda statement: statement
        self._admin = psycopg.connect(database, autocommit=True)
        # The change log stays, because it always has an entry.
        for table in _TABLES:  # not by TRUNCATE, which makes new files
            self._admin.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]
        self._admin.execute("DELETE FROM bridge WHERE name <> 'change_log'")
        self.clock = HeldClock()
        self.broker = ModelBroker()
        self._patch = pytest.MonkeyPatch()
        for module in ("lease", "store"):
            self._patch.setattr(f"mqtt_presence.store.{module}.moment", self.clock.monotonic)
        self.logins: set[tuple[str, str, str]] = set()
        self.logouts: set[tuple[str, str, str]] = set()
        self.nameless: Counter[tuple[str, str]] = Counter()
        self._count = 0
        self.processes = [Process(self, f"node{number}") for number in range(processes)]
        for _ in range(4):  # all seats are held and have subscribed when the first client comes
            self.all_step()

    def close(self) -> None:
        for process in self.processes:
            process.die()
        self._patch.undo()
        self._admin.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._admin.execute(sql).fetchall()  # type: ignore[call-overload]

    def batches(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT id, batch, epoch FROM seats ORDER BY id")

    def epoch(self, seat: int) -> int:
        rows = self.rows(f"SELECT epoch FROM seats WHERE id = {seat}")
        return int(rows[0][0]) if rows else -1

    # The clients.

    def login(self, user: str, client: str) -> None:
        self._count += 1
        self.logins.add((user, client, f"c{self._count}"))
        self._say(user, client, "login", {"connectionId": f"c{self._count}"})

    def logout(self, user: str, client: str) -> None:
        """End the newest connection of a client."""
        ids = [int(i[1:]) for u, c, i in self.logins if (u, c) == (user, client)]
        if ids:
            self.logouts.add((user, client, f"c{max(ids)}"))
            self._say(user, client, "logout", {"connectionId": f"c{max(ids)}"})

    def nameless_life(self, user: str) -> None:
        """Log a new client in and out without a connection id: only packet ids distinguish such messages.

        In turn, the two messages reach two seats. A login that counts again after the logout is a second record.
        """
        self._count += 1
        client = f"n{self._count}"
        self.nameless[user, client] = 1
        self._say(user, client, "login", {})
        self._say(user, client, "logout", {})

    def _say(self, user: str, client: str, verb: str, payload: dict[str, Any]) -> None:
        self.broker.publish(f"presence/{user}/{client}/{verb}", json.dumps(payload).encode())

    # Time and its course.

    def carry_all(self) -> None:
        for connection in list(self.broker.connections):
            self.broker.read(connection, 10_000)

    def all_step(self) -> None:
        for process in self.processes:
            process.step()
        self.carry_all()

    def lease_runs_out(self) -> None:
        """Let so much time pass that those who do nothing may lose their seats; all others go on."""
        for _ in range(5):
            self.clock.now_s += LEASE_MS / 4000
            for process in self.processes:
                process.step()
        held = [p.store.seat for p in self.processes if p.loop is not None and p.is_alive and not p.is_frozen]
        numbers = [str(seat.number) for seat in held]
        self._admin.execute(
            f"UPDATE seats SET expires_at = 0 WHERE expires_at IS NOT NULL AND id NOT IN ({','.join([*numbers, '-1'])})"  # type: ignore[arg-type]
        )

    def restart(self, process: Process, seats: int) -> None:
        """Kill a process, and start it with another number of seats."""
        self.has_changed = True
        process.die()
        process.is_frozen = False
        process.seats = seats
        process.start()

    # The end.

    def settle(self) -> None:
        """Thaw and start all, until nothing is left to do."""
        for process in self.processes:
            process.is_frozen = False
            if not process.is_alive:
                process.start()
            process._fault = None
            if process.seats != self.seats:
                self.restart(process, self.seats)
        self.lease_runs_out()
        quiet = 0
        for turn in range(200 if self.has_changed else 100):
            self.clock.now_s += 0.5
            if turn % 4 == 0:
                for process in self.processes:
                    process.check()
            self.all_step()
            is_quiet = self.broker.is_quiet and self.rows("SELECT COUNT(*) FROM outbox") == [(0,)]
            quiet = quiet + 1 if is_quiet and self._is_complete else 0
            if quiet == 3:
                return
        raise AssertionError(
            f"no rest: {self.batches()}, outbox {self.rows('SELECT id, seat FROM outbox')}, "
            f"{[(c.client_id[-4:], len(c.up), len(c.down), c.is_open) for c in self.broker.connections]}, "
            f"{[(len(s.queue), len(s.unacknowledged)) for s in self.broker.sessions.values()]}"
        )

    @property
    def _is_complete(self) -> bool:
        if self.rows("SELECT COUNT(*) FROM seats") != [(self.seats,)]:
            return False
        return sum(p.link is not None and p.link.is_connected for p in self.processes) == self.seats

    def check(self) -> None:
        """Compare the clients' messages, the database and the broker."""
        records = self.rows("SELECT user_id, client_id, connection_id, logout_time FROM connections")
        of_id = Counter(row[:3] for row in records)
        lost = [key for key in self.logins if of_id[key] != 1]
        assert not lost, f"logins without one record: {lost}"
        open_ids = {row[:3] for row in records if row[3] is None}
        assert not self.logouts & open_ids, f"logged out and open: {self.logouts & open_ids}"
        counted = Counter(row[:2] for row in records if row[:2] in self.nameless)
        if self.has_changed:
            assert counted.keys() == self.nameless.keys(), "a nameless client has no record"
        else:
            assert counted == self.nameless, f"nameless logins: said {self.nameless}, recorded {counted}"
        users = {
            TOPICS.status(user_id): (version, state, connections)
            for user_id, version, state, connections in self.rows(
                "SELECT user_id, version, state, connections FROM users"
            )
        }
        left = self.broker.sessions.keys() - {row[0] for row in self.rows("SELECT client_id FROM seats")}
        assert not left, f"sessions of removed seats: {left}"
        live = Counter(row[0] for row in records if row[3] is None)
        for topic, (_, _, connections) in users.items():
            assert connections == live[TOPICS.parse_status(topic)], (
                f"{topic}: the row has {connections}, {live}"
            )
        retained = {t: _summary(p) for t, p in self.broker.retained.items() if t in users}
        assert retained == users, f"the broker has {retained}, the database {users}"
        contents: dict[tuple[str, int], Any] = {}
        for topic, payload in self.broker.statuses:
            if topic in users and payload:
                summary = _summary(payload)
                assert summary[0] <= users[topic][0], f"{topic}: version {summary[0]} was never committed"
                known = contents.setdefault((topic, summary[0]), summary)
                assert known == summary, f"{topic}: one version, two contents: {known}, {summary}"


def _summary(payload: bytes) -> tuple[int, str, int]:
    status = json.loads(payload)
    return status["version"], status["state"], status["connections"]
