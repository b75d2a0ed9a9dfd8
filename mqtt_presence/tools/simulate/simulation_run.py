"""A simulation from beginning to end: carry out the plan, settle, compare, take leave, compare again."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mqtt_presence.errors import BrokerError
from mqtt_presence.protocol.client_messages import UserStatus
from mqtt_presence.tools.simulate.scenario import Expected, Plan, Step
from mqtt_presence.tools.simulate.simulated_devices import Count, SimulatedDevices
from mqtt_presence.tools.simulate.socket_loop import Loop
from mqtt_presence.tools.simulate.status_reader import StatusReader

_TICK_S = 0.02
_TELL_EVERY_S = 0.1
_ROUND_S = 0.25
_BURST = 500
_PAUSED_S = 5.0  # a longer time between two looks at the sockets: this process was stopped
_UNACKNOWLEDGED = "the broker has not acknowledged all that was sent"


@dataclass(frozen=True, slots=True)
class WrongStatus:
    """A user whose status is not what it must be."""

    user_id: str
    expected: Expected | None
    found: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    doing: str
    elapsed_s: float
    count: Count
    away_s: float | None
    """For how long the broker has been away; None: it is there."""
    bridge_away_s: float | None
    """For how long no bridge has been there; None: one is, or the broker is away."""


class Simulation:
    """Carries out a plan, and compares what comes of it.

    Args:
        plan: what is to be done.
        fleet: who does it.
        observer: sees what comes of it.
        loop: serves both.
        settle_s: how long broker and bridge have, at the end, to come to rest, and how long the broker may
            be away, seconds.
        tell: told how far it is, about ten times a second.
        monotonic: tells the time in seconds.

    """

    def __init__(
        self,
        plan: Plan,
        fleet: SimulatedDevices,
        observer: StatusReader,
        loop: Loop,
        *,
        settle_s: float,
        tell: Callable[[Progress], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._fleet = fleet
        self._observer = observer
        self._loop = loop
        self._settle_s = settle_s
        self._tell = tell
        self._monotonic = monotonic
        self._began = self._tell_at = self._served_at = monotonic()
        self._doing = "connecting"
        self._stopping = False
        self._user_ids = [fleet.names.user(n) for n in range(fleet.names.users)]

    @property
    def progress(self) -> Progress:
        """How far it is."""
        now, observer = self._monotonic(), self._observer
        away_s, bridge_away_s = (
            None if began is None else now - began
            for began in (observer.away_since, observer.bridge_away_since)
        )
        return Progress(self._doing, now - self._began, self._fleet.count, away_s, bridge_away_s)

    def stop(self) -> None:
        """Make no more steps; from a signal handler."""
        self._stopping = True

    def run(self) -> list[WrongStatus]:
        """Carry out the plan to its end, or until `stop`, and compare.

        Raises:
            BrokerError: the broker does not let us, does not take all in time, or stays away.

        """
        self._do("connecting")
        self._serve_until_none(lambda: not self._observer.is_up, "the broker does not answer")
        self._carry_out(self._plan.arrivals())
        self._serve_until_none(lambda: self._fleet.left, _UNACKNOWLEDGED)
        self._began = self._monotonic()
        self._do("simulating")
        self._carry_out(self._plan.steps())
        return self._settled()

    def take_leave(self) -> list[WrongStatus]:
        """Log all out, and compare; `stop` cuts it short.

        Raises:
            BrokerError: as for `run`.

        """
        self._do("logging out")
        self._stopping = False
        self._carry_out(self._plan.logouts())
        return self._settled()

    def leave_quietly(self) -> None:
        """Disconnect all without a logout: they stay online."""
        self._fleet.leave_quietly()
        self._serve(0.0)

    # The plan.

    def _carry_out(self, steps: Iterable[Step]) -> None:
        for step in self._in_time(steps):
            self._fleet.ask(step.client, step.do)
            # A step that was made must be done: the plan counts on it. So we stop in between only.

    def _in_time(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Yield each step when its time has come and the sockets have been served; `stop` ends the wait."""
        upcoming = iter(steps)
        burst = 0
        while not self._stopping and (step := next(upcoming, None)) is not None:
            burst += 1
            while not self._stopping and (
                (early_s := self._began + step.at_s - self._monotonic()) > 0
                or burst >= _BURST
                or self._fleet.is_busy
            ):
                self._serve(min(_TICK_S, max(0.0, early_s)))
                burst = 0
            yield step

    # Serving.

    def _do(self, what: str) -> None:
        self._doing = what
        self._tell_at = self._monotonic()

    def _serve(self, timeout_s: float) -> None:
        self._skip_pause(timeout_s)
        self._observer.tend()
        self._fleet.tend()
        self._loop.run_once(timeout_s)
        progress = self.progress
        if self._monotonic() >= self._tell_at:
            self._tell_at = self._monotonic() + _TELL_EVERY_S
            self._tell(progress)
        if progress.away_s is not None and progress.away_s > self._settle_s:
            raise BrokerError(_away(progress.away_s))

    def _skip_pause(self, timeout_s: float) -> None:
        """Move the plan by a pause of this process, or all missed steps would come at once."""
        now = self._monotonic()
        if now - self._served_at > _PAUSED_S:
            self._began += now - self._served_at
        self._served_at = now + timeout_s

    def _serve_until_none(self, left: Callable[[], int], complaint: str) -> None:
        """Serve until nothing is left; complain if it does not become less in the time that all may take.

        The least so far counts: a broker that comes and goes has the same done again and again.
        """
        deadline, least = self._monotonic() + self._settle_s, None
        while (now_left := left()) > 0:
            if least is None or now_left < least:
                deadline, least = self._monotonic() + self._settle_s, now_left
            if self._monotonic() > deadline:
                away_s = self.progress.away_s
                late = f"{complaint} within {self._settle_s:g} s{self._outside()}"
                raise BrokerError(late if away_s is None else _away(away_s))
            self._serve(_TICK_S)

    def _outside(self) -> str:
        if not self._fleet.outside:
            return ""
        return (
            f": {self._fleet.count.here} connections are up, {self._fleet.outside} are not let in; "
            "has the broker open files for more (ulimit -n)?"
        )

    def _pause(self, duration_s: float) -> None:
        end = self._monotonic() + duration_s
        while self._monotonic() < end:
            self._serve(_TICK_S)

    # Comparing.

    def _settled(self) -> list[WrongStatus]:
        """Look until all is as it must be, twice in a row, or time is up."""
        self._do("settling")
        self._serve_until_none(lambda: self._fleet.left, _UNACKNOWLEDGED)
        self._do("verifying")
        deadline = self._monotonic() + self._settle_s
        expected = dict(zip(self._user_ids, self._plan.expected(), strict=True))
        self._observer.look_all()
        wrong, was_right = self._compare(expected), False
        while self._monotonic() < deadline:
            if not wrong and was_right:
                break
            was_right = not wrong
            self._pause(_ROUND_S)
            self._observer.look([w.user_id for w in wrong] or self._user_ids)
            wrong = self._compare(expected)
        return wrong

    def _compare(self, expected: dict[str, Expected | None]) -> list[WrongStatus]:
        self._serve_until_none(lambda: self._observer.left, "the statuses do not come")
        return list(_wrong(expected, self._observer.seen))


def _wrong(expected: dict[str, Expected | None], seen: dict[str, UserStatus | None]) -> Iterator[WrongStatus]:
    for user_id, right in expected.items():
        status = seen.get(user_id)
        if user_id not in seen:
            found, is_right = "no status", right is None
        elif status is None:
            found, is_right = "an unreadable status", False
        else:
            found = f"{status.state}, connections={status.connections}"
            is_right = (status.state, status.connections) == right
        if not is_right:
            yield WrongStatus(user_id, right, found)


def describe_first(wrong: Sequence[WrongStatus], count: int) -> list[str]:
    """Tell of the first few, a line each."""
    return [f"{w.user_id}: {w.found}; must be {_told(w.expected)}" for w in wrong[:count]]


def since(duration_s: float) -> str:
    """Say when something began that has lasted for so long, e.g. ``since 17:03:22``."""
    return time.strftime("since %H:%M:%S", time.localtime(time.time() - duration_s))


def _away(duration_s: float) -> str:
    return f"the broker has been away {since(duration_s)}, for {duration_s:.0f} s: nothing can be compared"


def _told(expected: Expected | None) -> str:
    if expected is None:
        return "no status"
    return f"{expected.state}, connections={expected.connections}"
