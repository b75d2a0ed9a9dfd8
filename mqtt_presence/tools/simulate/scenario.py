"""What simulated clients do, and what must come of it. Pure: the same scenario has the same plan.

What must come of it is kept while the plan is made, client by client, without the bridge's rules.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from mqtt_presence.errors import ConfigError
from mqtt_presence.rules.model import State

_MAX_COUNT = 10_000_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """How much happens, and of what.

    Args:
        users: how many.
        connections: how many clients each user has.
        rate: steps a second over all, 0: nothing but logins and storms.
        churn: the share of steps that end a connection; who is away comes back by such a step, too.
        abrupt: the share of ends that are cuts: the broker publishes the will.
        idle: the share of reports that say idle.
        storm_every_s: so often all are cut and come back at once; None: never.
        duration_s: for how long; None: for ever.
        seed: of the plan.

    Raises:
        ConfigError: one of them is out of range.

    """

    users: int = 100
    connections: int = 2
    rate: float = 50.0
    churn: float = 0.2
    abrupt: float = 0.3
    idle: float = 0.5
    storm_every_s: float | None = None
    duration_s: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("users", "connections"):
            value = getattr(self, name)
            if not 1 <= value <= _MAX_COUNT:
                raise ConfigError(f"{name}={value} must be 1 to {_MAX_COUNT}")
        for name in ("churn", "abrupt", "idle"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be 0 to 1")
        if not 0 <= self.rate <= 1_000_000:
            raise ConfigError(f"rate={self.rate} must be 0 to 1000000 messages a second")
        if self.storm_every_s is not None and self.storm_every_s <= 0:
            raise ConfigError(f"storm_every={self.storm_every_s} must be more than 0 seconds")


class Action(Enum):
    """What a client can do."""

    LOGIN = auto()
    HEARTBEAT = auto()
    IDLE = auto()
    ACTIVE = auto()
    LOGOUT = auto()
    CUT = auto()


class Step(NamedTuple):
    """Something that a client does."""

    at_s: float
    """Not before so many seconds after the beginning."""
    client: int
    """`user * connections + number`."""
    do: Action


class Expected(NamedTuple):
    """What the status of a user must be."""

    state: State
    connections: int


class Plan:
    """Makes the plan step by step, and knows what must come of the steps made so far.

    Args:
        scenario: what is wanted.

    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._random = random.Random(scenario.seed)  # noqa: S311, no secret
        self.clients = scenario.users * scenario.connections
        self._heard_of = [False] * self.clients
        self._here = [False] * self.clients
        self._idle: list[bool | None] = [None] * self.clients
        """What the present connection has said last; None: nothing yet."""

    def arrivals(self) -> Iterator[Step]:
        """Log all in."""
        return (self._step(0.0, client, Action.LOGIN) for client in range(self.clients))

    def steps(self) -> Iterator[Step]:
        """Make the steps of the scenario, from when all have arrived."""
        scenario = self._scenario
        storm_at = scenario.storm_every_s or float("inf")
        step_at = self._next(0.0)
        end = float("inf") if scenario.duration_s is None else scenario.duration_s
        while min(step_at, storm_at) < end:
            if storm_at <= step_at:
                yield from self._storm(storm_at)
                storm_at += scenario.storm_every_s or 0.0
            else:
                client = self._random.randrange(self.clients)
                yield self._step(step_at, client, self._choose(client))
                step_at = self._next(step_at)

    def logouts(self) -> Iterator[Step]:
        """Log out all who are there."""
        return (
            self._step(0.0, client, Action.LOGOUT) for client in range(self.clients) if self._here[client]
        )

    def expected(self) -> list[Expected | None]:
        """Tell what the status of each user must be once all steps are done; None: there must be none."""
        size = self._scenario.connections
        return [self._of_user(range(first, first + size)) for first in range(0, self.clients, size)]

    def _of_user(self, clients: range) -> Expected | None:
        if not any(self._heard_of[client] for client in clients):
            return None
        here = [client for client in clients if self._here[client]]
        if not here:
            return Expected(State.OFFLINE, 0)
        if all(self._idle[client] for client in here):
            return Expected(State.IDLE, len(here))
        return Expected(State.ONLINE, len(here))

    def _next(self, at_s: float) -> float:
        rate = self._scenario.rate
        return at_s + self._random.expovariate(rate) if rate else float("inf")

    def _storm(self, at_s: float) -> Iterator[Step]:
        here = [client for client in range(self.clients) if self._here[client]]
        for do in (Action.CUT, Action.LOGIN):
            self._random.shuffle(here)
            for client in here:
                yield self._step(at_s, client, do)

    def _choose(self, client: int) -> Action:
        scenario, chance = self._scenario, self._random.random
        if not self._here[client]:
            return Action.LOGIN
        if chance() < scenario.churn:
            return Action.CUT if chance() < scenario.abrupt else Action.LOGOUT
        # Who has never reported and sends heartbeats is monitored by the bridge: its idle check decides then.
        if self._idle[client] is not None and chance() < 0.5:
            return Action.HEARTBEAT
        return Action.IDLE if chance() < scenario.idle else Action.ACTIVE

    def _step(self, at_s: float, client: int, do: Action) -> Step:
        self._heard_of[client] = True
        self._here[client] = do not in (Action.LOGOUT, Action.CUT)
        match do:
            case Action.LOGIN | Action.LOGOUT | Action.CUT:
                self._idle[client] = None
            case Action.IDLE:
                self._idle[client] = True
            case Action.ACTIVE | Action.HEARTBEAT:
                self._idle[client] = False
        return Step(at_s, client, do)
