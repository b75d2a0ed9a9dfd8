"""The plan of a simulation: the actions of the clients, and the statuses that must result. Pure.

The same scenario gives the same plan. The plan computes the expected statuses client by client, independently
of the bridge's rules.
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
    """The amount and the mixture of actions.

    Args:
        users: the number of users.
        connections: the number of clients of each user.
        rate: steps a second over all clients; 0 for logins and storms only.
        churn: the share of steps that end a connection; a step of an absent client connects it again.
        abrupt: the share of ends without DISCONNECT, after which the broker publishes the will.
        idle: the share of reports with idle true.
        storm_every_s: the interval at which all clients are cut and reconnect at once; None for no storms.
        duration_s: the length of the plan; None for a plan without end.
        seed: of the random choices.

    Raises:
        ConfigError: a value is out of range.

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
    """An action of a client."""

    LOGIN = auto()
    HEARTBEAT = auto()
    IDLE = auto()
    ACTIVE = auto()
    LOGOUT = auto()
    CUT = auto()


class Step(NamedTuple):
    """An action of one client at a time of the plan."""

    at_s: float
    """The earliest time, in seconds after the beginning."""
    client: int
    """`user * connections + number`."""
    action: Action


class Expected(NamedTuple):
    """The expected status of a user."""

    state: State
    connections: int


class Plan:
    """Makes the steps one by one, and computes the statuses that result from the steps so far.

    Args:
        scenario: the amount and the mixture of actions.

    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._random = random.Random(scenario.seed)  # noqa: S311, no secret
        self.clients = scenario.users * scenario.connections
        self._has_logged_in = [False] * self.clients
        self._is_connected = [False] * self.clients
        self._idle: list[bool | None] = [None] * self.clients
        """The last report of the current connection; None before the first."""

    def arrivals(self) -> Iterator[Step]:
        """Log in all clients."""
        return (self._step(0.0, client, Action.LOGIN) for client in range(self.clients))

    def steps(self) -> Iterator[Step]:
        """Make the steps of the scenario, after all clients have logged in."""
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
        """Log out all connected clients."""
        return (
            self._step(0.0, client, Action.LOGOUT)
            for client in range(self.clients)
            if self._is_connected[client]
        )

    def expected(self) -> list[Expected | None]:
        """Return the expected status of each user after all steps; None for no status."""
        size = self._scenario.connections
        return [self._of_user(range(first, first + size)) for first in range(0, self.clients, size)]

    def _of_user(self, clients: range) -> Expected | None:
        if not any(self._has_logged_in[client] for client in clients):
            return None
        connected = [client for client in clients if self._is_connected[client]]
        if not connected:
            return Expected(State.OFFLINE, 0)
        if all(self._idle[client] for client in connected):
            return Expected(State.IDLE, len(connected))
        return Expected(State.ONLINE, len(connected))

    def _next(self, at_s: float) -> float:
        rate = self._scenario.rate
        return at_s + self._random.expovariate(rate) if rate else float("inf")

    def _storm(self, at_s: float) -> Iterator[Step]:
        connected = [client for client in range(self.clients) if self._is_connected[client]]
        for action in (Action.CUT, Action.LOGIN):
            self._random.shuffle(connected)
            for client in connected:
                yield self._step(at_s, client, action)

    def _choose(self, client: int) -> Action:
        scenario, chance = self._scenario, self._random.random
        if not self._is_connected[client]:
            return Action.LOGIN
        if chance() < scenario.churn:
            return Action.CUT if chance() < scenario.abrupt else Action.LOGOUT
        # The bridge monitors a client that sends heartbeats without reports: its own idle check decides then.
        if self._idle[client] is not None and chance() < 0.5:
            return Action.HEARTBEAT
        return Action.IDLE if chance() < scenario.idle else Action.ACTIVE

    def _step(self, at_s: float, client: int, action: Action) -> Step:
        self._has_logged_in[client] = True
        self._is_connected[client] = action not in (Action.LOGOUT, Action.CUT)
        match action:
            case Action.LOGIN | Action.LOGOUT | Action.CUT:
                self._idle[client] = None
            case Action.IDLE:
                self._idle[client] = True
            case Action.ACTIVE | Action.HEARTBEAT:
                self._idle[client] = False
        return Step(at_s, client, action)
