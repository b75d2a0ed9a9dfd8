"""rules.status."""

from collections.abc import Iterable

from mqtt_presence.rules.model import (
    Connection,
    State,
    Status,
)


def combine(live: Iterable[Connection], previous: Status, now: int) -> Status:
    """Compute the user's status from the live connections: the one place that says what it is.

    Args:
        live: the connections that count.
        previous: the status until now: source of `since`, `last_login`, and of the activity shown.
        now: when the change is made, epoch milliseconds.

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
    """Compute a status from totals over the live connections; `combine` explains the rest.

    Args:
        count: the number of live connections.
        latest: the latest activity among idle ones, epoch milliseconds; None: unknown.
        previous: the status until now.
        now: when the change is made, epoch milliseconds.
        all_idle: whether no live connection is active.

    """
    state = State.OFFLINE if count == 0 else State.IDLE if all_idle else State.ONLINE
    if state is not State.IDLE:
        latest = None
    elif previous.state is State.IDLE and previous.last_activity is not None:
        # The departure of the connection that set it does not take it back.
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
    # Who follows only online and offline must not miss it, nor who follows only idle and active.
    (State.OFFLINE, State.IDLE): ("userOnline", "userIdle"),
    (State.ONLINE, State.IDLE): ("userIdle",),
    (State.IDLE, State.ONLINE): ("userActive",),
    (State.ONLINE, State.OFFLINE): ("userOffline",),
    (State.IDLE, State.OFFLINE): ("userOffline",),
}
