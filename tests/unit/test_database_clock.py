"""The clock of a database server, from answers of any delay."""

import time

from hypothesis import given
from hypothesis import strategies as st

from mqtt_presence.store.database_clock import DatabaseClock

START_S = 1_800_000_000
DRIFT = 0.0005
ROUNDING_MS = 1

delays = st.floats(0, 3)
gaps = st.floats(0, 300)


class Clock(DatabaseClock):
    """Its machine has been on for `on_s` seconds; the server's clock runs ahead of that, at a speed of its own."""

    def __init__(self, speed: float = 1.0) -> None:
        super().__init__()
        self.on_s = 0.0
        self._speed = speed

    def monotonic(self) -> float:  # type: ignore[override]
        return self.on_s

    def server_s(self) -> float:
        return START_S + self.on_s * self._speed

    def ask(self, there_s: float, back_s: float) -> None:
        asked_s = self.on_s
        self.on_s += there_s
        server_ms = round(self.server_s() * 1000)
        self.on_s += back_s
        self.sample(server_ms, asked_s, self.on_s)

    def error_ms(self) -> float:
        return abs(self.now() - self.server_s() * 1000)


@given(st.lists(st.tuples(gaps, delays, delays), min_size=1, max_size=20), st.floats(1 - DRIFT, 1 + DRIFT))
def test_every_answer_bounds_the_error_of_all_later_ones(
    answers: list[tuple[float, float, float]], speed: float
) -> None:
    """The error is at most half of any round trip so far, and what the clocks have drifted since."""
    clock, bounds = Clock(speed), []
    for gap_s, there_s, back_s in answers:
        clock.on_s += gap_s
        clock.ask(there_s, back_s)
        bounds.append((clock.on_s, (there_s + back_s) / 2))
        best_s = min(error_s + (clock.on_s - at_s) * 2 * DRIFT for at_s, error_s in bounds)
        assert clock.error_ms() <= best_s * 1000 + 2 * ROUNDING_MS


def test_a_slow_answer_replaces_no_good_one_a_minute_later() -> None:
    clock = Clock()
    clock.ask(0.001, 0.001)
    clock.on_s += 61
    clock.ask(0, 0.4)
    assert clock.error_ms() <= ROUNDING_MS


def test_a_step_of_the_server_is_followed() -> None:
    clock = Clock()
    clock.ask(0.001, 0.001)
    before = clock.now()
    clock.sample(before + 5_000, clock.on_s, clock.on_s + 0.3)
    assert abs(clock.now() - before - 5_000) <= 150 + ROUNDING_MS


def test_before_the_first_answer_the_time_is_that_of_the_machine() -> None:
    assert abs(DatabaseClock().now() - time.time() * 1000) < 1_000
