"""The user's status, computed from the live connections (docs/protocol.md, "The user's status")."""

from collections.abc import Iterable

from mqtt_presence.rules.model import Connection, State, Status


def combine(live: Iterable[Connection], previous: Status, now: int) -> Status:
    """Return the user's status.

    Args:
        live: the live connections.
        previous: the status until now, the source of `since`, `last_login` and the last activity.
        now: the time of the change, epoch milliseconds.

    """
    count = 0
    latest: int | None = None
    all_idle = True
    for connection in live:
        count += 1
        if connection.idle is not True:
            all_idle = False
        elif connection.last_activity is not None and (latest is None or connection.last_activity > latest):
            latest = connection.last_activity
    return status_of(count, latest, previous, now, all_idle=all_idle)


def status_of(count: int, latest: int | None, previous: Status, now: int, *, all_idle: bool) -> Status:
    """Return the status of totals over the live connections.

    Args:
        count: the number of live connections.
        latest: the latest activity of idle connections, epoch milliseconds; None if unknown.
        previous: as in `combine`.
        now: as in `combine`.
        all_idle: whether all live connections are idle.

    """
    state = State.OFFLINE if count == 0 else State.IDLE if all_idle else State.ONLINE
    if state is not State.IDLE:
        latest = None
    elif previous.state is State.IDLE and previous.last_activity is not None:
        # The last activity stays when its connection ends.
        latest = max(latest or 0, previous.last_activity)
    return Status(
        state=state,
        since=previous.since if state is previous.state and previous.since is not None else now,
        connections=count,
        last_activity=latest,
        last_login=previous.last_login,
    )


STATE_EVENTS: dict[tuple[State, State], tuple[str, ...]] = {
    (State.OFFLINE, State.ONLINE): ("userOnline",),
    # Two events: a subscriber of one pair, online and offline or idle and active, misses none.
    (State.OFFLINE, State.IDLE): ("userOnline", "userIdle"),
    (State.ONLINE, State.IDLE): ("userIdle",),
    (State.IDLE, State.ONLINE): ("userActive",),
    (State.ONLINE, State.OFFLINE): ("userOffline",),
    (State.IDLE, State.OFFLINE): ("userOffline",),
}
