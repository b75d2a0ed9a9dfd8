"""Limits of wrong passwords, by user and network."""

from mqtt_presence.access.password_attempts import FAILURES_PER_NETWORK, FAILURES_PER_USER, PasswordAttempts


def fail(attempts: PasswordAttempts, user: str, address: str) -> None:
    """Try a wrong password."""
    attempts.begin(user, address, 100.0)
    attempts.record_failure(address, 100.0)


def test_parallel_attempts_count() -> None:
    """Parallel attempts have the same limit as attempts one by one, and right passwords do not count."""
    attempts = PasswordAttempts()
    for _ in range(FAILURES_PER_USER[0]):
        attempts.begin("alice", "192.0.2.7", 100.0)
    assert not attempts.is_allowed("alice", "192.0.2.7", 100.0)
    for _ in range(FAILURES_PER_USER[0]):
        attempts.record_success("alice", "192.0.2.7", 100.0)
    assert attempts.is_allowed("alice", "192.0.2.7", 100.0)


def test_failures_for_one_user_are_limited_by_network() -> None:
    """Other users from the network, and the same user from another network, are not affected."""
    attempts = PasswordAttempts()
    for _ in range(FAILURES_PER_USER[0]):
        assert attempts.is_allowed("alice", "192.0.2.7", 100.0)
        fail(attempts, "alice", "192.0.2.7")
    assert not attempts.is_allowed("alice", "192.0.2.7", 100.0)
    assert attempts.is_allowed("bob", "192.0.2.7", 100.0)
    assert attempts.is_allowed("alice", "192.0.2.8", 100.0)
    assert attempts.is_allowed("alice", "192.0.2.7", 106.0), "after some seconds there is one more attempt"


def test_failures_for_many_users_are_limited() -> None:
    """A client may not try one password on all users."""
    attempts = PasswordAttempts()
    for n in range(FAILURES_PER_NETWORK[0]):
        fail(attempts, f"user{n}", "192.0.2.7")
    assert not attempts.is_allowed("someone", "192.0.2.7", 100.0)
    assert attempts.is_allowed("someone", "192.0.2.8", 100.0)


def test_ipv6_failures_are_counted_by_network() -> None:
    """A subscriber has all addresses of a /64."""
    attempts = PasswordAttempts()
    for n in range(FAILURES_PER_USER[0]):
        fail(attempts, "alice", f"2001:db8::{n:x}")
    assert not attempts.is_allowed("alice", "2001:db8::ffff:1", 100.0)
    assert attempts.is_allowed("alice", "2001:db8:0:1::1", 100.0)
