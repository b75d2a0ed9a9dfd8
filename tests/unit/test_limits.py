"""Limits against floods: token buckets, users, and the log of refusals."""

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_presence.access.buckets import Buckets
from mqtt_presence.bridge.config import Limits
from mqtt_presence.bridge.counters import Counters, RefusalTotals
from mqtt_presence.bridge.limits import Limiter
from mqtt_presence.bridge.message_rates import MessageRates
from mqtt_presence.bridge.part import Due
from mqtt_presence.store import Store
from tests.support.held_bridge import HeldClock


@given(
    st.integers(1, 20),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.lists(st.sampled_from([0.0, 0.0, 0.25, 1.0, 7.0]), max_size=60),
)
def test_bucket_is_a_token_bucket(depth: int, per_s: float, pauses: list[float]) -> None:
    """One number for each name does what a count of tokens with a time does, within half a token."""
    buckets, moment, tokens = Buckets(depth, per_s), 0.0, float(depth)
    for pause in pauses:
        moment += pause
        tokens = min(depth, tokens + pause * per_s)
        is_taken = buckets.take("alice", moment)
        if tokens >= 1:
            assert is_taken
        if tokens < 0.5:
            assert not is_taken
        tokens -= is_taken


NO_LINK: Any = None


def limits(given: Limits, clock: HeldClock | None = None) -> tuple[Limiter, MessageRates]:
    rates = MessageRates(given, clock or HeldClock())
    return Limiter(given, rates), rates


def users(count: int) -> Any:
    return SimpleNamespace(count_users=lambda: count)


def test_bucket_lets_exactly_its_depth_through_at_once() -> None:
    """A burst as deep as the bucket passes; then one for each that comes back."""
    buckets = Buckets(600, 10.0)
    assert sum(buckets.take("alice", 5.0) for _ in range(1000)) == 600
    assert buckets.left("alice", 5.0) == 0
    assert not buckets.take("alice", 5.04)
    assert buckets.take("alice", 5.1)
    assert buckets.left("alice", 65.2) == 600


def test_each_user_has_a_bucket() -> None:
    """A user who floods uses up only their own."""
    buckets = Buckets(3, 1.0)
    assert not all(buckets.take("alice", 1.0) for _ in range(100))
    assert buckets.take("bob", 1.0)


def test_spent_tokens_reduce_the_rest() -> None:
    """Also when more was spent than was left."""
    buckets = Buckets(10, 1.0)
    buckets.spend("alice", 4, 1.0)
    assert buckets.left("alice", 1.0) == 6
    buckets.spend("alice", 10, 1.0)
    assert buckets.left("alice", 1.0) == 0
    assert buckets.left("alice", 6.1) == 1


def test_buckets_forget_quiet_users() -> None:
    """A hundred thousand names that send once each do not stay in memory."""
    buckets = Buckets(60, 1.0)
    for n in range(100_000):
        buckets.take(f"user{n}", n / 100)
        buckets.spend(f"other{n}", 1, n / 100)
    assert len(buckets) < 2048


def test_limiter_without_limits_admits_every_message() -> None:
    """None means no limit."""
    limiter, rates = limits(Limits())
    assert all(rates.admits("alice", 1.0) for _ in range(100_000))
    assert limiter.records_left("alice", 1.0) is None
    assert limiter.users_left is None


def test_limiter_admits_messages_that_waited_at_the_broker() -> None:
    """After a connect, the messages of hours arrive within seconds; that is no flood."""
    clock = HeldClock()
    clock.now_s = 1000.0
    limiter, rates = limits(Limits(records=2, rate=1, amnesty_s=600), clock)
    rates.connected(NO_LINK, session_present=True, contested=False)
    assert all(rates.admits("alice", 1000.0) for _ in range(10_000))
    limiter.count_records("alice", 10_000, 1000.0)
    assert limiter.records_left("alice", 1599.0) is None
    # And nobody pays for it afterwards.
    assert limiter.records_left("alice", 1600.0) == 2
    assert rates.admits("alice", 1600.0)
    assert not all(rates.admits("alice", 1600.0) for _ in range(61))


def test_limiter_counts_users() -> None:
    """New users use up the room, forgotten users free it."""
    limiter, _ = limits(Limits(users=3))
    limiter.restore(users(1))
    assert limiter.users_left == 2
    limiter.count_users(2)
    assert limiter.users_left == 0
    limiter.restore(users(5))
    assert limiter.users_left == 0
    limiter.restore(users(2))
    assert limiter.users_left == 1


# Counters.


def test_refusals_are_logged_at_a_bounded_rate(caplog: pytest.LogCaptureFixture) -> None:
    """A flood makes one line for each reason in ten seconds, with the number."""
    counters = Counters()
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            counters.refuse("too_fast", "presence/alice/phone/activity")
        counters.refuse("too_many_users", "mallory\x1b[2J", 3)
    assert [record.getMessage() for record in caplog.records] == [
        "refused reason=too_fast new=1 total=1 last='presence/alice/phone/activity'",
        "refused reason=too_many_users new=3 total=3 last='mallory\\x1b[2J'",
    ]


def test_refusals_are_kept_over_restarts(sqlite_url: str) -> None:
    """The total continues after a restart; it is written only if it is new, at most every ten seconds."""
    store, clock = Store(sqlite_url), HeldClock()
    store.open()

    def totals() -> dict[str, Any]:
        with store.transaction() as tx:
            text = tx.read_value("refused")
        return {reason: (kept["total"], kept["last"]) for reason, kept in json.loads(text or "{}").items()}

    def check(part: RefusalTotals) -> None:
        part.requested(Due.CHECK)
        assert part.step(NO_LINK)

    counters = Counters()
    first = RefusalTotals(counters, store, clock)
    check(first)
    assert totals() == {}
    counters.refuse("too_fast", "presence/alice/\x9bphone/activity", 5)
    check(first)
    assert totals() == {"too_fast": (5, "'presence/alice/\\x9bphone/activity'")}
    counters.refuse("too_fast", "presence/alice/phone/time")
    clock.now_s += 5
    check(first)
    assert totals()["too_fast"][0] == 5
    clock.now_s += 6
    check(first)
    assert totals()["too_fast"][0] == 6
    counters.refuse("retained", "presence/bob/phone/login")
    with store.transaction() as tx:
        first.finish(tx)

    counters = Counters()
    second = RefusalTotals(counters, store, clock)
    with store.transaction() as tx:
        second.restore(tx)
    counters.refuse("too_fast", "again")
    check(second)
    assert totals() == {"too_fast": (7, "'again'"), "retained": (1, "'presence/bob/phone/login'")}
    store.close()
