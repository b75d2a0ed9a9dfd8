"""Seats, broker, database and processes, with crashes anywhere: nothing acknowledged is lost or doubled, statuses agree.

The bridges and PostgreSQL are real, on one thread; the broker and the network are a model
(`tests/support/model_bridges.py`). `make test-model` looks for longer.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from mqtt_presence.bridge.present_statuses import PresentStatuses
from mqtt_presence.store import Store
from mqtt_presence.store.lease import Lease
from tests.support.model_bridges import FAULTS, World
from tests.support.postgres import Postgres

EVERYDAY = 12
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", EVERYDAY))
USERS = ("alice", "bob")
CLIENTS = ("phone", "tv")
processes = st.integers(0, 2)


class Seats(RuleBasedStateMachine):
    """What may happen; each subclass names its database."""

    database = ""
    mutate: Callable[[Any], Any] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.database)
        if self.mutate is not None:
            self.world.mutate = self.mutate
        self.is_whole = True

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException:
            self.is_whole = False
            raise

    @rule(user=st.sampled_from(USERS), client=st.sampled_from(CLIENTS))
    def login(self, user: str, client: str) -> None:
        self.world.login(user, client)

    @rule(user=st.sampled_from(USERS), client=st.sampled_from(CLIENTS))
    def logout(self, user: str, client: str) -> None:
        self.world.logout(user, client)

    @rule(user=st.sampled_from(USERS))
    def nameless(self, user: str) -> None:
        self.world.nameless_life(user)

    @rule(number=processes)
    def step(self, number: int) -> None:
        self._do(self.world.processes[number].step)

    @rule(number=processes)
    def check_jobs(self, number: int) -> None:
        self.world.processes[number].check()

    @rule(number=st.integers(0, 7), packets=st.integers(1, 6))
    def carry(self, number: int, packets: int) -> None:
        """The broker reads from one connection."""
        connections = self.world.broker.connections
        if connections:
            self.world.broker.read(connections[number % len(connections)], packets)

    @rule(ms=st.integers(10, 300))
    def time_passes(self, ms: int) -> None:
        self.world.clock.now_s += ms / 1000

    @rule(number=processes, are_bytes_lost=st.booleans())
    def kill(self, number: int, are_bytes_lost: bool) -> None:
        process = self.world.processes[number]
        if process.is_alive:
            process.die(are_bytes_lost=are_bytes_lost)

    @rule(number=processes)
    def start(self, number: int) -> None:
        process = self.world.processes[number]
        if not process.is_alive:
            process.start()

    @rule(number=processes)
    def freeze(self, number: int) -> None:
        self.world.processes[number].is_frozen = True

    @rule(number=processes)
    def thaw(self, number: int) -> None:
        self.world.processes[number].is_frozen = False

    @rule()
    def lease_runs_out(self) -> None:
        self._do(self.world.lease_runs_out)

    @rule(
        number=processes,
        statements=st.integers(0, 14),
        fault=st.sampled_from(FAULTS),
        turns=st.integers(1, 4),
    )
    def plan_fault(self, number: int, statements: int, fault: str, turns: int) -> None:
        """Something happens at a statement; frozen for so long that others take the seat and work."""

        def meanwhile() -> None:
            self.world.lease_runs_out()
            for _ in range(turns):
                self.world.all_step()

        self.world.processes[number].fail(statements, fault, meanwhile)

    @rule(number=processes, commits=st.integers(0, 2), fault=st.sampled_from(FAULTS))
    def plan_doubt(self, number: int, commits: int, fault: str) -> None:
        """Something happens at a commit: it is done and its answer lost, or it is not done."""
        self.world.processes[number].fail(commits, fault, self.world.lease_runs_out, at_commit=True)

    def teardown(self) -> None:
        try:
            if self.is_whole:
                self.world.settle()
                self.world.check()
        finally:
            self.world.close()


class ChangingSeats(Seats):
    """The same, and the number of seats changes."""

    @rule(number=processes, seats=st.integers(1, 3))
    def restart_with(self, number: int, seats: int) -> None:
        """The operator changes the number of seats of one process: others have another one for a while."""
        self.world.restart(self.world.processes[number], seats)


def search(
    postgres_url: str,
    examples: int,
    *,
    of: type[Seats] = Seats,
    mutate: Callable[[Any], Any] | None = None,
    **options: Any,
) -> None:
    """Run the model on a database."""

    def machine() -> Seats:
        made = type(
            "SeatsOfTest",
            (of,),
            {"database": postgres_url, "mutate": staticmethod(mutate) if mutate else None},
        )
        return made()  # type: ignore[no-any-return]

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=options.pop("derandomize", False),
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


@pytest.fixture(scope="module")
def shared(postgres: Postgres) -> str:
    """Name a database that all examples use one after the other."""
    url = postgres.database()
    store = Store(url)
    store.open()
    store.close()
    with psycopg.connect(url, autocommit=True) as admin:  # who waits for a lock here waits for itself
        admin.execute(f"ALTER DATABASE {url.rsplit('/', 1)[1]} SET lock_timeout = '3s'")  # type: ignore[arg-type]
    return url


@pytest.mark.timeout(int(EXAMPLES * 3 + 120))
def test_whatever_dies_and_whenever_all_counts_once_and_statuses_agree(shared: str) -> None:
    search(shared, EXAMPLES, derandomize=EXAMPLES == EVERYDAY)


@pytest.mark.timeout(int(EXAMPLES * 3 + 120))
def test_seats_come_and_leave_whatever_dies(shared: str) -> None:
    """No message is lost, and the broker keeps no session of a removed seat."""
    is_everyday = EXAMPLES == EVERYDAY
    search(shared, EXAMPLES // 2 if is_everyday else EXAMPLES, of=ChangingSeats, derandomize=is_everyday)


def without_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PresentStatuses, "newer", lambda *_: [])


FENCE = "AND epoch = %s AND since = %s"


def without_fence(statement: Any) -> Any:
    """Let a holder renew its seat whatever the epoch is."""
    if isinstance(statement, str) and statement.startswith("UPDATE seats SET batch"):
        assert FENCE in statement
        return statement.replace(FENCE, "AND %s::bigint IS NOT NULL AND %s::bigint IS NOT NULL")
    return statement


FOUND_IN = 100
"""Examples in which the model must find a fault."""


def test_the_model_finds_a_bridge_that_does_not_look_afterwards(
    shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the look after the acknowledgement an old status stays at the broker."""
    without_look(monkeypatch)
    with pytest.raises(AssertionError, match="the broker has"):
        search(shared, FOUND_IN, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)


def test_the_model_finds_a_seat_without_a_fence(shared: str) -> None:
    """A holder that was frozen, and lost its seat, goes on to commit."""
    with pytest.raises(AssertionError, match="has lost its seat and commits"):
        search(
            shared,
            FOUND_IN,
            mutate=without_fence,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )


@pytest.mark.parametrize("is_sure", [True, False], ids=["by its number", "taken for undone"])
def test_a_commit_whose_answer_is_lost_is_completed(
    shared: str, monkeypatch: pytest.MonkeyPatch, is_sure: bool
) -> None:
    """A bridge that takes it for undone finds nothing new in the same messages, and never publishes the status."""
    if not is_sure:
        monkeypatch.setattr(Lease, "was_committed", lambda *_: False)
    world = World(shared)
    try:
        for _ in range(6):
            world.clock.now_s += 0.3
            world.all_step()
        world.login("alice", "phone")
        for process in world.processes:
            process.fail(0, "cut off after", at_commit=True)
        world.all_step()
        with nullcontext() if is_sure else pytest.raises(AssertionError, match="no rest"):
            world.settle()
            world.check()
    finally:
        world.close()
