"""A simulation from beginning to end: perform the plan, settle, compare, log out, compare again."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mqtt_presence.errors import BrokerError
from mqtt_presence.protocol.client_messages import UserStatus
from mqtt_presence.tools.simulate.scenario import Expected, Plan, Step
from mqtt_presence.tools.simulate.simulated_devices import SimulatedDevices
from mqtt_presence.tools.simulate.simulated_names import Count
from mqtt_presence.tools.simulate.socket_loop import Loop
from mqtt_presence.tools.simulate.status_reader import StatusReader

_TICK_S = 0.02
_REPORT_EVERY_S = 0.1
_ROUND_S = 0.25
_BURST = 500
_PAUSED_S = 5.0  # a longer gap between two polls means that this process was stopped
_UNACKNOWLEDGED = "the broker has not acknowledged all publications"
_SEEN_AFTER_S = 3.0
"""When a client without messages has a status for certain, with the default of `implicit_after`."""


@dataclass(frozen=True, slots=True)
class WrongStatus:
    """A user whose status differs from the plan."""

    user_id: str
    expected: Expected | None
    found: str


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The progress of a simulation."""

    doing: str
    elapsed_s: float
    count: Count
    away_s: float | None
    """Seconds since the connection to the broker ended; None while it is open."""
    bridge_away_s: float | None
    """Seconds without a bridge; None with a bridge, or without a broker."""


class Simulation:
    """Performs a plan, and compares the resulting statuses.

    Args:
        plan: the steps and the expected statuses.
        devices: the simulated clients.
        reader: reads the statuses.
        loop: serves the connections of both.
        settle_s: the time limit for settling at the end, and for an absent broker, seconds.
        report: called with the progress, about ten times a second.
        monotonic: returns the time in seconds.

    """

    def __init__(
        self,
        plan: Plan,
        devices: SimulatedDevices,
        reader: StatusReader,
        loop: Loop,
        *,
        settle_s: float,
        report: Callable[[RunProgress], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._devices = devices
        self._reader = reader
        self._loop = loop
        self._settle_s = settle_s
        self._report = report
        self._monotonic = monotonic
        self._began = self._report_at = self._served_at = monotonic()
        self._doing = "connecting"
        self._stopping = False
        self._user_ids = [devices.names.user(n) for n in range(devices.names.users)]

    @property
    def progress(self) -> RunProgress:
        """The current progress."""
        now, reader = self._monotonic(), self._reader
        away_s, bridge_away_s = (
            None if began is None else now - began for began in (reader.away_since, reader.bridge_away_since)
        )
        return RunProgress(self._doing, now - self._began, self._devices.count, away_s, bridge_away_s)

    def stop(self) -> None:
        """Make no more steps; callable in a signal handler."""
        self._stopping = True

    def run(self) -> list[WrongStatus]:
        """Perform the plan to its end, or until `stop`, and compare.

        Raises:
            BrokerError: the broker refuses a client, is too slow, or stays away.

        """
        self._enter("connecting")
        self._serve_until_none(lambda: not self._reader.is_up, "the broker does not answer")
        self._perform(self._plan.arrivals())
        self._serve_until_none(lambda: self._devices.left, _UNACKNOWLEDGED)
        if self._devices.implicit:
            self._pause(_SEEN_AFTER_S)
        self._began = self._monotonic()
        self._enter("simulating")
        self._perform(self._plan.steps())
        return self._settled()

    def log_out(self) -> list[WrongStatus]:
        """Log out all clients, and compare; `stop` ends this early.

        Raises:
            BrokerError: as for `run`.

        """
        self._enter("logging out")
        self._stopping = False
        self._perform(self._plan.logouts())
        return self._settled()

    def disconnect_without_logout(self) -> None:
        """Disconnect all clients without a logout: the users stay online."""
        self._devices.disconnect_without_logout()
        self._serve(0.0)

    # The plan.

    def _perform(self, steps: Iterable[Step]) -> None:
        for step in self._in_time(steps):
            self._devices.add(step.client, step.action)
            # The plan counts every step that it has made, so `stop` takes effect between steps only.

    def _in_time(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Yield each step at its time, after serving the sockets; `stop` ends the wait."""
        upcoming = iter(steps)
        burst = 0
        while not self._stopping and (step := next(upcoming, None)) is not None:
            burst += 1
            while not self._stopping and (
                (early_s := self._began + step.at_s - self._monotonic()) > 0
                or burst >= _BURST
                or self._devices.is_busy
            ):
                self._serve(min(_TICK_S, max(0.0, early_s)))
                burst = 0
            yield step

    # Serving.

    def _enter(self, phase: str) -> None:
        self._doing = phase
        self._report_at = self._monotonic()

    def _serve(self, timeout_s: float) -> None:
        self._skip_pause(timeout_s)
        self._reader.maintain()
        self._devices.maintain()
        self._loop.run_once(timeout_s)
        progress = self.progress
        if self._monotonic() >= self._report_at:
            self._report_at = self._monotonic() + _REPORT_EVERY_S
            self._report(progress)
        if progress.away_s is not None and progress.away_s > self._settle_s:
            raise BrokerError(_broker_absence(progress.away_s))

    def _skip_pause(self, timeout_s: float) -> None:
        """Shift the plan by a pause of this process, or all missed steps would follow at once."""
        now = self._monotonic()
        if now - self._served_at > _PAUSED_S:
            self._began += now - self._served_at
        self._served_at = now + timeout_s

    def _serve_until_none(self, left: Callable[[], int], failure: str) -> None:
        """Serve until no work is left.

        Each new minimum starts the time limit again; work that a flapping broker repeats is no progress.

        Raises:
            BrokerError: the remaining work has not fallen within the time limit.

        """
        deadline, least = self._monotonic() + self._settle_s, None
        while (now_left := left()) > 0:
            if least is None or now_left < least:
                deadline, least = self._monotonic() + self._settle_s, now_left
            if self._monotonic() > deadline:
                away_s = self.progress.away_s
                late = f"{failure} within {self._settle_s:g} s{self._connection_advice()}"
                raise BrokerError(late if away_s is None else _broker_absence(away_s))
            self._serve(_TICK_S)

    def _connection_advice(self) -> str:
        if not self._devices.unaccepted:
            return ""
        return (
            f": {self._devices.count.connected} connections are open, {self._devices.unaccepted} are not "
            "accepted; does the broker's limit of open files (ulimit -n) allow more?"
        )

    def _pause(self, duration_s: float) -> None:
        end = self._monotonic() + duration_s
        while self._monotonic() < end:
            self._serve(_TICK_S)

    # Comparing.

    def _settled(self) -> list[WrongStatus]:
        """Compare until all statuses are right twice in a row, or until the time limit."""
        self._enter("settling")
        self._serve_until_none(lambda: self._devices.left, _UNACKNOWLEDGED)
        self._enter("verifying")
        deadline = self._monotonic() + self._settle_s
        expected = dict(zip(self._user_ids, self._plan.expected(), strict=True))
        self._reader.read_all()
        wrong, was_right = self._compare(expected), False
        while self._monotonic() < deadline:
            if not wrong and was_right:
                break
            was_right = not wrong
            self._pause(_ROUND_S)
            self._reader.read([w.user_id for w in wrong] or self._user_ids)
            wrong = self._compare(expected)
        return wrong

    def _compare(self, expected: dict[str, Expected | None]) -> list[WrongStatus]:
        self._serve_until_none(lambda: self._reader.left, "the broker does not deliver the statuses")
        return list(_wrong(expected, self._reader.seen))


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
    """Return a line about each of the first few users."""
    return [f"{w.user_id}: {w.found}; must be {_describe(w.expected)}" for w in wrong[:count]]


def since(duration_s: float) -> str:
    """Return the wall-clock time at which a duration began, e.g. ``since 17:03:22``."""
    return time.strftime("since %H:%M:%S", time.localtime(time.time() - duration_s))


def _broker_absence(duration_s: float) -> str:
    return f"the broker has been away {since(duration_s)}, for {duration_s:.0f} s: no comparison is possible"


def _describe(expected: Expected | None) -> str:
    if expected is None:
        return "no status"
    return f"{expected.state}, connections={expected.connections}"
