"""Alarms are pure: the conditions as text, and one alarm and one all-clear for each outage, beside a simple model."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_presence.integrations.notifications.alarms import (
    AlarmChange,
    Outage,
    after_count,
    after_event,
    restarted,
    when_due,
)
from mqtt_presence.integrations.notifications.conditions import Condition, ConditionKind, read_condition

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
WALL = 1_800_000_000_000
"""How far the time to show is ahead of the steady clock, in these tests."""

States = Sequence[tuple[int, str]]
"""The state from a time on."""
EVENTS = {
    ("offline", "online"): ["userOnline"],
    ("offline", "idle"): ["userOnline", "userIdle"],
    ("online", "idle"): ["userIdle"],
    ("idle", "online"): ["userActive"],
    ("online", "offline"): ["userOffline"],
    ("idle", "offline"): ["userOffline"],
}


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("offline > 10m", "offline > 10m"),
        ("offline>600s", "offline > 10m"),
        (" idle >  1h ", "idle > 1h"),
        ("idle > 90", "idle > 90s"),
        ("offline > 0", "offline > 0s"),
        ("offline > 1500ms", "offline > 1500ms"),
        ("flaps > 5/h", "flaps > 5/h"),
        ("flaps > 10 / d", "flaps > 10/d"),
        ("online < 3", "online < 3"),
        ("online<3 for 300", "online < 3 for 5m"),
        ("nobody", "nobody"),
        ("nobody for 1h", "nobody for 1h"),
    ],
)
def test_condition_has_one_text(text: str, canonical: str) -> None:
    """A condition is named by one text, which describes the same condition."""
    condition = read_condition(text)
    assert condition is not None
    assert str(condition) == canonical
    assert read_condition(canonical) == condition


@pytest.mark.parametrize(
    "text", ["", "offline", "offline < 10m", "online > 3", "flaps > 5", "somebody", "back"]
)
def test_other_text_is_no_condition(text: str) -> None:
    """A text of another shape is no condition."""
    assert read_condition(text) is None


@pytest.mark.parametrize(
    "text", ["offline > soon", "idle > 400d", "online < 0", "flaps > 0/h", "nobody for x"]
)
def test_wrong_value_in_a_condition_is_an_error(text: str) -> None:
    """A number or duration that makes no sense is an error, not another kind of word."""
    with pytest.raises(ValueError, match="must be"):
        read_condition(text)


class Follower:
    """Follows one subject as the bridge does, checking at each moment that it is given."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.outage: Outage | None = None
        self.told: list[tuple[str, int]] = []
        """Alarms and all-clears, each with its time."""

    def _note(self, step: tuple[Outage | None, AlarmChange | None], now: int) -> None:
        self.outage, change = step
        if change is not None:
            self.told.append((change.name.lower(), now))

    def check(self, now: int) -> None:
        while self.outage is not None and self.outage.due_at is not None and self.outage.due_at <= now:
            due_at = self.outage.due_at
            self._note(when_due(self.condition, self.outage, now), due_at)

    def event(self, name: str, now: int) -> None:
        self.check(now)
        self._note(after_event(self.condition, self.outage, name, WALL + now, now), now)

    def count(self, online: int, now: int) -> None:
        self.check(now)
        self._note(after_count(self.condition, self.outage, online, WALL + now, now), now)

    def restart(self, now: int) -> None:
        if self.outage is not None:
            self.outage = restarted(self.condition, self.outage, now)


steps = st.lists(
    st.tuples(st.integers(1, 90 * MINUTE), st.sampled_from(["online", "idle", "offline"])), max_size=25
)


def history(moves: Sequence[tuple[int, str]]) -> States:
    """Return the times at which the state changes."""
    states, now = [(0, "online")], 0
    for after, state in moves:
        now += after
        if state != states[-1][1]:
            states.append((now, state))
    return states


def naive(states: States, holds: str, longest: int, end: int) -> list[tuple[str, int]]:
    """The simple model: look at each stretch of time in which the condition held."""
    told = []
    for (begin, state), (until, _) in zip(states, [*states[1:], (end, "")], strict=True):
        if state == holds and until - begin > longest:
            told.append(("raised", begin + longest))
            if until < end:
                told.append(("cleared", until))
    return told


@given(
    steps,
    st.sampled_from([ConditionKind.OFFLINE, ConditionKind.IDLE]),
    st.integers(1, 3 * HOUR),
    st.lists(st.integers(0, 50 * HOUR)),
)
def test_one_alarm_and_one_all_clear_for_each_outage(
    moves: Sequence[tuple[int, str]], kind: ConditionKind, longest: int, restarts: Sequence[int]
) -> None:
    """Each stretch that lasts long enough is one alarm in time, and its end one all-clear; restarts change nothing."""
    states, follower = history(moves), Follower(Condition(kind, longest))
    end = states[-1][0] + 2 * longest + 1
    happenings: list[tuple[int, int, str, Any]] = [
        (time, 0, "restart", None) for time in restarts if time <= end
    ]
    for (_, before), (now, state) in pairwise(states):
        happenings += [(now, number, "event", name) for number, name in enumerate(EVENTS[before, state])]
    for now, _, what, name in sorted(happenings, key=lambda happening: happening[:2]):
        if what == "event":
            follower.event(name, now)
        else:
            follower.restart(now)
    follower.check(end)
    # A stretch that ends at the very moment at which it is due is an alarm, too.
    expected = naive(states, kind.value, longest - 1, end)
    assert follower.told == [(what, time + 1 if what == "raised" else time) for what, time in expected]


@given(
    st.lists(st.tuples(st.integers(1, 10 * MINUTE), st.integers(0, 5)), min_size=1, max_size=25),
    st.integers(1, 5),
    st.integers(0, 20 * MINUTE),
)
def test_too_few_users_are_one_alarm(moves: Sequence[tuple[int, int]], limit: int, longest: int) -> None:
    """A group is one alarm for each stretch with too few users online, and one all-clear at its end."""
    follower, now = Follower(Condition(ConditionKind.ONLINE, longest, limit)), 0
    states: list[tuple[int, str]] = []
    for after, online in moves:
        now += after
        follower.count(online, now)
        state = "few" if online < limit else "enough"
        if not states or states[-1][1] != state:
            states.append((now, state))
    end = now + 2 * longest + 2
    follower.check(end)
    expected = naive(states, "few", longest - 1, end)
    assert follower.told == [(what, time + 1 if what == "raised" else time) for what, time in expected]


@given(st.lists(st.integers(1, 40 * MINUTE), max_size=40), st.integers(1, 4))
def test_flaps(gaps: Sequence[int], limit: int) -> None:
    """More ends in a period than the limit are one alarm; a whole period without an end is the all-clear."""
    follower, now, ends = Follower(Condition(ConditionKind.FLAPS, HOUR, limit)), 0, []
    for gap in gaps:
        now += gap
        ends.append(now)
        follower.event("userOffline", now)
        follower.event("userOnline", now)
        follower.check(now)
    follower.check(now + 2 * HOUR)
    expected: list[tuple[str, int]] = []
    raised_until: int | None = None
    begin = 0
    for number, end in enumerate(ends):
        if raised_until is not None and end >= raised_until:
            expected.append(("cleared", raised_until))
            raised_until, begin = None, number
        if raised_until is not None:
            raised_until = end + HOUR
        elif sum(end - HOUR < other <= end for other in ends[begin : number + 1]) > limit:
            expected.append(("raised", end))
            raised_until = end + HOUR
    if raised_until is not None:
        expected.append(("cleared", raised_until))
    assert follower.told == expected


def test_deadline_beyond_a_clock_that_was_set_back_while_the_bridge_was_away() -> None:
    """No deadline lies farther ahead than the condition's own duration."""
    condition = Condition(ConditionKind.OFFLINE, 10 * MINUTE)
    outage = Outage(WALL, due_at=5 * HOUR)
    assert restarted(condition, outage, HOUR).due_at == HOUR + 10 * MINUTE
    assert restarted(condition, outage, 5 * HOUR - MINUTE).due_at == 5 * HOUR


def test_since_is_the_begin() -> None:
    """An outage is shown with the time at which it began; flaps with the first that is counted."""
    offline, _ = after_event(Condition(ConditionKind.OFFLINE, MINUTE), None, "userOffline", WALL + 5, 5)
    assert offline is not None
    assert offline.since == WALL + 5
    flaps, _ = after_event(Condition(ConditionKind.FLAPS, HOUR, 1), None, "userOffline", WALL, 0)
    flaps, _ = after_event(
        Condition(ConditionKind.FLAPS, HOUR, 1), flaps, "userOffline", WALL + MINUTE, MINUTE
    )
    assert flaps is not None
    assert (flaps.since, flaps.times) == (WALL, (0, MINUTE))
