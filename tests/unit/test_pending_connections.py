"""Connections that wait at the embedded broker without a CONNECT: bounded in all and for each address."""

from hypothesis import given
from hypothesis import strategies as st

from mqtt_presence.embedded.pending_connections import PendingConnections


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans()), max_size=80))
def test_pending_connections_stay_within_the_limits(steps: list[tuple[int, str, bool]]) -> None:
    """The number never exceeds a limit, and beyond it the oldest connection is removed."""
    pending: PendingConnections[int] = PendingConnections(6, 3)
    waiting: list[tuple[int, str]] = []
    for connection, address, is_new in steps:
        known = dict(waiting).get(connection)
        if is_new and known is None:
            waiting.append((connection, address))
            of_address = [v for v, a in waiting if a == address]
            expected = of_address[0] if len(of_address) > 3 else waiting[0][0] if len(waiting) > 6 else None
            assert pending.add(connection, address) == expected
            waiting = [w for w in waiting if w[0] != expected]
        elif not is_new:
            pending.remove(connection)
            waiting = [w for w in waiting if w[0] != connection]
        assert len(pending) == len(waiting) <= 6
    for connection, _ in waiting:
        pending.remove(connection)
    assert (len(pending), pending._by_address) == (0, {})
