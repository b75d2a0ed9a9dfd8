"""Limits against floods: token buckets, and who may come in."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_presence.access.buckets import Buckets
from mqtt_presence.bridge.config import Limits
from mqtt_presence.bridge.counters import Counters
from mqtt_presence.bridge.limits import Limiter


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


def test_bucket_lets_exactly_its_depth_through_at_once() -> None:
    """A burst as deep as the bucket passes; then one for each that comes back."""
    buckets = Buckets(600, 10.0)
    assert sum(buckets.take("alice", 5.0) for _ in range(1000)) == 600
    assert buckets.left("alice", 5.0) == 0
    assert not buckets.take("alice", 5.04)
    assert buckets.take("alice", 5.1)
    assert buckets.left("alice", 65.2) == 600


def test_bucket_of_one_user_is_not_another_ones() -> None:
    """Who floods uses up its own."""
    buckets = Buckets(3, 1.0)
    assert not all(buckets.take("alice", 1.0) for _ in range(100))
    assert buckets.take("bob", 1.0)


def test_spending_is_seen_by_left() -> None:
    """What was made counts, also when it was more than there was room for."""
    buckets = Buckets(10, 1.0)
    buckets.spend("alice", 4, 1.0)
    assert buckets.left("alice", 1.0) == 6
    buckets.spend("alice", 10, 1.0)
    assert buckets.left("alice", 1.0) == 0
    assert buckets.left("alice", 6.1) == 1


def test_buckets_forget_who_is_quiet() -> None:
    """A hundred thousand names that come once each do not stay in memory."""
    buckets = Buckets(60, 1.0)
    for n in range(100_000):
        buckets.take(f"user{n}", n / 100)
        buckets.spend(f"other{n}", 1, n / 100)
    assert len(buckets) < 2048


def test_limiter_without_limits_refuses_nothing() -> None:
    """None is none."""
    limiter = Limiter(Limits())
    assert all(limiter.admits("alice", 1.0) for _ in range(100_000))
    assert limiter.records_left("alice", 1.0) is None
    assert limiter.users_left is None


def test_limiter_takes_what_has_waited_with_the_broker() -> None:
    """After a connection was made, the messages of hours come in seconds; that is no flood."""
    limiter = Limiter(Limits(records=2, rate=1, amnesty_s=600))
    limiter.connected(1000.0)
    assert all(limiter.admits("alice", 1000.0) for _ in range(10_000))
    limiter.records_made("alice", 10_000, 1000.0)
    assert limiter.records_left("alice", 1599.0) is None
    # And nobody pays for it afterwards.
    assert limiter.records_left("alice", 1600.0) == 2
    assert limiter.admits("alice", 1600.0)
    assert not all(limiter.admits("alice", 1600.0) for _ in range(61))


def test_limiter_counts_users() -> None:
    """Newcomers use up the room, whoever is forgotten gives it back."""
    limiter = Limiter(Limits(users=3))
    limiter.users_are(1)
    assert limiter.users_left == 2
    limiter.users_made(2)
    assert limiter.users_left == 0
    limiter.users_are(5)
    assert limiter.users_left == 0
    limiter.users_are(2)
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


def test_refusals_are_kept_over_restarts() -> None:
    """The total goes on from where the last bridge stopped; nothing is written when nothing is new."""
    first = Counters()
    assert first.news(100.0, 1_800_000_000_000) is None
    first.refuse("too_fast", "presence/alice/\x9bphone/activity", 5)
    text = first.news(100.0, 1_800_000_000_000)
    assert text is not None
    first.refuse("too_fast", "presence/alice/phone/time")
    assert first.news(105.0, 1_800_000_005_000) is None, "not more often than every ten seconds"
    assert first.news(111.0, 1_800_000_011_000) is not None
    first.kept()
    assert first.news(200.0, 1_800_000_100_000) is None
    first.refuse("retained", "presence/bob/phone/login")
    text = first.news(200.5, 1_800_000_100_500, at_once=True)

    second = Counters()
    second.restore(text)
    second.refuse("too_fast", "again")
    kept = second.news(1.0, 1_800_000_200_000)
    assert kept is not None
    third = Counters()
    third.restore(kept)
    assert {reason: (k.total, k.last) for reason, k in third._kept.items()} == {
        "too_fast": (7, "'again'"),
        "retained": (1, "'presence/bob/phone/login'"),
    }
