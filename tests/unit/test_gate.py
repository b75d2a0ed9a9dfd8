"""The embedded broker's door: who waits there, and who has guessed too often."""

from hypothesis import given
from hypothesis import strategies as st

from mqtt_presence.access.password_attempts import FAILURES_PER_NETWORK, FAILURES_PER_USER, PasswordAttempts
from mqtt_presence.embedded.pending_connections import PendingConnections


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans()), max_size=80))
def test_doorstep_holds_no_more_than_it_may(visits: list[tuple[int, str, bool]]) -> None:
    """Never more than allowed, in all and for each address; the oldest of the crowd has to go."""
    pending: PendingConnections[int] = PendingConnections(6, 3)
    waiting: list[tuple[int, str]] = []
    for visitor, address, comes in visits:
        known = dict(waiting).get(visitor)
        if comes and known is None:
            waiting.append((visitor, address))
            of_address = [v for v, a in waiting if a == address]
            expected = of_address[0] if len(of_address) > 3 else waiting[0][0] if len(waiting) > 6 else None
            assert pending.add(visitor, address) == expected
            waiting = [w for w in waiting if w[0] != expected]
        elif not comes:
            pending.remove(visitor)
            waiting = [w for w in waiting if w[0] != visitor]
        assert len(pending) == len(waiting) <= 6
    for visitor, _ in waiting:
        pending.remove(visitor)
    assert (len(pending), pending._by_address) == (0, {})


def wrong(guesses: PasswordAttempts, user: str, address: str) -> None:
    """Guess, and be wrong."""
    guesses.begin(user, address, 100.0)
    guesses.record_failure(address, 100.0)


def test_what_is_being_looked_at_counts() -> None:
    """Who asks for all at once gets no more tries than who asks one by one; who is right has used none."""
    guesses = PasswordAttempts()
    for _ in range(FAILURES_PER_USER[0]):
        guesses.begin("alice", "192.0.2.7", 100.0)
    assert not guesses.is_allowed("alice", "192.0.2.7", 100.0)
    for _ in range(FAILURES_PER_USER[0]):
        guesses.record_success("alice", "192.0.2.7", 100.0)
    assert guesses.is_allowed("alice", "192.0.2.7", 100.0)


def test_guesses_for_one_user_are_limited_by_network() -> None:
    """Ten at once; then others from there, and the same user from elsewhere, are not affected."""
    guesses = PasswordAttempts()
    for _ in range(FAILURES_PER_USER[0]):
        assert guesses.is_allowed("alice", "192.0.2.7", 100.0)
        wrong(guesses, "alice", "192.0.2.7")
    assert not guesses.is_allowed("alice", "192.0.2.7", 100.0)
    assert guesses.is_allowed("bob", "192.0.2.7", 100.0)
    assert guesses.is_allowed("alice", "192.0.2.8", 100.0)
    assert guesses.is_allowed("alice", "192.0.2.7", 106.0), "and in a while again"


def test_guesses_for_many_users_are_limited_too() -> None:
    """One password tried on everybody is a guess as well."""
    guesses = PasswordAttempts()
    for n in range(FAILURES_PER_NETWORK[0]):
        wrong(guesses, f"user{n}", "192.0.2.7")
    assert not guesses.is_allowed("someone", "192.0.2.7", 100.0)
    assert guesses.is_allowed("someone", "192.0.2.8", 100.0)


def test_guesses_of_ipv6_are_counted_by_network() -> None:
    """Who has one address has all of its /64."""
    guesses = PasswordAttempts()
    for n in range(FAILURES_PER_USER[0]):
        wrong(guesses, "alice", f"2001:db8::{n:x}")
    assert not guesses.is_allowed("alice", "2001:db8::ffff:1", 100.0)
    assert guesses.is_allowed("alice", "2001:db8:0:1::1", 100.0)
