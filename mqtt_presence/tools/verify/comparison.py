"""Comparison of users rows with their records, and of retained statuses with the rows.

No I/O: database and broker are ports (`Database`, `BrokerStatuses`). A bridge may run meanwhile. The bridge
commits before it publishes. So each topic is read before its row: it may be behind the row, but not ahead.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mqtt_presence.errors import PayloadError
from mqtt_presence.protocol.client_messages import decode_status
from mqtt_presence.protocol.topics import is_name
from mqtt_presence.rules.model import Connection, LastLogin, Outcome, State, Status, UserId, UserPresence
from mqtt_presence.rules.status import combine

CHUNK = 500
_ROUND_S = 0.25
_ATTEMPTS = 20
_MAX_VERSION = 2**52
"""Out of reach for a bridge; JSON parsers lose precision from 2**53 on, so repairs have room."""

T = TypeVar("T")


class DifferenceKind(StrEnum):
    """The kind of a difference."""

    ROW = "row"
    """The users row does not follow from the live records."""
    MISSING = "missing"
    """The broker has no status of the user."""
    STALE = "stale"
    """The version of the status is older than the row's."""
    AHEAD = "ahead"
    """The version of the status is newer than the row's, for example after a restored backup."""
    WRONG = "wrong"
    """The status has the row's version and other values."""
    UNREADABLE = "unreadable"
    """The retained message is no status."""
    LEFT_OVER = "leftOver"
    """The database has no row for the user."""


class Shown(Struct, frozen=True, gc=False):
    """The values of a status, without `lastSeen` and the values for operators."""

    version: int
    state: State | None = None
    """None for an unreadable status."""
    online: bool | None = None
    idle: bool | None = None
    connections: int = 0
    since: int | None = None
    last_login: int | None = None
    last_activity: int | None = None


UNREADABLE = Shown(-1)


class Difference(Struct, frozen=True):
    """A difference at one user."""

    user_id: UserId
    kind: DifferenceKind
    expected: Mapping[str, Any] = {}
    found: Mapping[str, Any] = {}


class Database(Protocol):
    """The rows and records of users."""

    def page(self, after: str) -> Sequence[UserPresence]:
        """Return the next users by name with their live records, after a given one."""

    def read(self, user_ids: Iterable[UserId]) -> dict[UserId, UserPresence]:
        """Return some users; `status` is None without a row."""

    def odd(self, among: Sequence[UserId] | None = None) -> set[UserId]:
        """Return the users whose row contradicts itself, and those with live records but no row.

        Args:
            among: limits the answer to these users; None for all users.

        """

    def correct(
        self, user_ids: Sequence[UserId], correct: Callable[[UserPresence], UserPresence]
    ) -> dict[UserId, UserPresence]:
        """Correct rows in one transaction; return them, with `status` None for unknown users.

        Of an unknown user only the version from `correct` is stored, so that later versions are newer.
        """


class BrokerStatuses(Protocol):
    """The retained statuses."""

    def look_all(self) -> dict[UserId, Shown]:
        """Read all statuses; some may be missing, as a broker drops messages beyond its queue."""

    def look(self, user_ids: Sequence[UserId]) -> dict[UserId, Shown]:
        """Read the statuses of some users."""

    def publish(self, users: Sequence[UserPresence]) -> None:
        """Publish statuses, an empty message for a user without one; wait for the acknowledgements."""


# Comparing.


def shown(user_id: str, payload: bytes) -> Shown:
    """Read a retained status."""
    try:
        status = decode_status(user_id, payload)
    except PayloadError:
        return UNREADABLE
    return Shown(
        status.version,
        status.state,
        status.online,
        status.idle,
        status.connections,
        _millis(status.since),
        None if status.last_login is None else _millis(status.last_login.date),
        _millis(status.last_activity),
    )


def expected(user: UserPresence) -> Shown:
    """Return the expected values of a user's status."""
    status = user.status or Status()
    return Shown(
        user.version,
        status.state,
        status.online,
        status.idle,
        status.connections,
        status.since,
        None if status.last_login is None else status.last_login.date,
        status.last_activity,
    )


def row_difference(user: UserPresence, *, odd: bool) -> Difference | None:
    """Compare a users row with the status that follows from the live records.

    Args:
        user: the row, and the live records.
        odd: whether the row contradicts itself.

    """
    right = _derived_status(user, 0)
    if right is None or (right == user.status and not odd):
        return None  # without a row and live records, or correct
    now = {} if user.status is None else _row_values(user)
    then = _row_values(replace(user, status=right))
    if now == then:
        return Difference(
            user.user_id, DifferenceKind.ROW, found={"columns": "online or idle contradict state"}
        )
    return _difference(user.user_id, DifferenceKind.ROW, then, now)


def status_difference(user: UserPresence, seen: Shown | None, at_least: int) -> Difference | None:
    """Compare a retained status with a users row that was read after it.

    Args:
        user: the row; `status` is None without a row.
        seen: the retained status; None without one.
        at_least: a version that the broker must have by now.

    """
    if not is_name(user.user_id):
        return None  # such a name has no topic
    if user.status is None:
        found = {} if seen is None else _values(seen)
        return None if seen is None else Difference(user.user_id, DifferenceKind.LEFT_OVER, found=found)
    right = expected(user)
    if seen is None:
        return Difference(user.user_id, DifferenceKind.MISSING, expected=_summary_values(right))
    if seen == right:
        return None
    if seen.state is None:
        return Difference(user.user_id, DifferenceKind.UNREADABLE, expected=_summary_values(right))
    if seen.version < right.version:
        if seen.version >= at_least:
            return None  # the row has changed during the comparison
        kind = DifferenceKind.STALE
    else:
        kind = DifferenceKind.AHEAD if seen.version > right.version else DifferenceKind.WRONG
    return _difference(user.user_id, kind, _values(right), _values(seen))


def corrected(user: UserPresence, seen: Shown | None, now: int, *, odd: bool) -> UserPresence:
    """Return a user's corrected row, with a version that subscribers accept.

    Args:
        user: the row, and the live records.
        seen: the retained status.
        now: epoch milliseconds.
        odd: whether the row contradicts itself.

    """
    right = _derived_status(user, now)
    retained_version = -1 if seen is None or seen.version >= _MAX_VERSION else seen.version
    if right is None:
        return replace(user, version=max(user.version, retained_version))
    version = user.version + (odd or right != user.status)
    made = replace(user, status=right, version=version)
    if retained_version >= version and seen != expected(made):
        # Subscribers that have seen that version would ignore ours.
        made = replace(made, version=retained_version + 1)
    return made


def outcome_of(user: UserPresence) -> Outcome:
    """Return a corrected user in the form that the store saves."""
    return Outcome(user=user, changed=(), touched=(), events=(), status_changed=True, ignored=())


def _derived_status(user: UserPresence, now: int) -> Status | None:
    live = list(user.connections.values())
    if user.status is not None:
        return combine(live, user.status, now)
    if not live:
        return None
    return replace(combine(live, Status(), now), last_login=_last_login(live))


def _last_login(live: Sequence[Connection]) -> LastLogin | None:
    logins = [
        LastLogin(order=c.login_order, date=c.login_time, ip_addr=c.ip_addr, user_agent=c.user_agent)
        for c in live
        if c.login_order is not None and c.login_time is not None
    ]
    return max(logins, key=lambda login: login.order, default=None)


def _difference(
    user_id: UserId, kind: DifferenceKind, right: Mapping[str, Any], found: Mapping[str, Any]
) -> Difference:
    """Make a difference of the values that differ."""
    names = [name for name in dict.fromkeys((*right, *found)) if right.get(name) != found.get(name)]
    return Difference(
        user_id, kind, {n: right[n] for n in names if n in right}, {n: found[n] for n in names if n in found}
    )


def _values(seen: Shown) -> dict[str, Any]:
    if seen.state is None:
        return {}
    return {n: value for n in seen.__struct_fields__ if (value := getattr(seen, n)) is not None}


def _row_values(user: UserPresence) -> dict[str, Any]:
    """Return the values that follow from the live records, so without `since` and version."""
    return {n: value for n, value in _values(expected(user)).items() if n not in {"since", "version"}}


def _summary_values(seen: Shown) -> dict[str, Any]:
    # All users may be missing at once.
    return {"version": seen.version, "state": seen.state}


def _millis(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


# Reading and repairing.


class Verifier:
    """Finds lasting differences, and repairs them.

    Args:
        database: the rows and records.
        broker: the retained statuses.
        settle_s: time for the bridge to publish pending statuses, seconds.
        monotonic: returns the time in seconds.
        pause: sleeps for a number of seconds.
        now: the wall clock, epoch milliseconds.

    """

    def __init__(
        self,
        database: Database,
        broker: BrokerStatuses,
        *,
        settle_s: float,
        monotonic: Callable[[], float],
        pause: Callable[[float], None],
        now: Callable[[], int],
    ) -> None:
        self._database = database
        self._broker = broker
        self._settle_s = settle_s
        self._monotonic = monotonic
        self._pause = pause
        self._now = now
        self.users = 0
        """The number of compared users."""
        self.unpublished = 0
        """The number of compared users without a published status, because clients refuse the name."""

    def differences(self) -> list[Difference]:
        """Compare all users."""
        return self._settled(self._suspects())

    def repair(self, differences: Sequence[Difference]) -> list[Difference]:
        """Correct differences, compare again, and return the remaining ones."""
        for chunk in _chunks(dict.fromkeys(d.user_id for d in differences)):
            self._repair(chunk)
        users = self._database.read([d.user_id for d in differences])
        return self._settled({user_id: user.version for user_id, user in users.items()})

    def _suspects(self) -> dict[UserId, int]:
        """Compare all users once; return those with a difference, with their version."""
        seen = self._broker.look_all()
        odd = self._database.odd()
        suspects: dict[UserId, int] = {}
        after = ""
        while page := self._database.page(after):
            after = page[-1].user_id
            self.users += len(page)
            for user in page:
                self.unpublished += not is_name(user.user_id)
                is_odd = user.user_id in odd
                odd.discard(user.user_id)
                if _differences(user, seen.pop(user.user_id, None), user.version, odd=is_odd):
                    suspects[user.user_id] = user.version
        return suspects | dict.fromkeys([*seen, *odd], 0)

    def _settled(self, suspects: dict[UserId, int]) -> list[Difference]:
        """Compare the suspects repeatedly; return the differences that last."""
        deadline = self._monotonic() + self._settle_s
        while suspects:
            self._pause(_ROUND_S)
            is_last = self._monotonic() >= deadline
            found = list(self._compare(suspects))
            wrong = {difference.user_id for difference in found}
            suspects = {user_id: version for user_id, version in suspects.items() if user_id in wrong}
            if is_last:
                return sorted(found, key=lambda d: d.user_id)
        return []

    def _compare(self, suspects: Mapping[UserId, int]) -> Iterator[Difference]:
        for chunk in _chunks(suspects):
            odd = self._database.odd(chunk)
            seen = self._broker.look(chunk)
            users = self._database.read(chunk)  # after the topics, which could be ahead otherwise
            for user_id in chunk:
                yield from _differences(
                    users[user_id], seen.get(user_id), suspects[user_id], odd=user_id in odd
                )

    def _repair(self, chunk: Sequence[UserId]) -> None:
        odd = self._database.odd(chunk)
        seen = self._broker.look(chunk)
        for _ in range(_ATTEMPTS):
            right = partial(_corrected, seen=seen, odd=odd, now=self._now())
            users = self._database.correct(chunk, right)
            self._broker.publish([users[user_id] for user_id in chunk])
            # The bridge may have published a newer status just before ours, which is then retained.
            later = self._database.read(chunk)
            chunk = [user_id for user_id in chunk if _has_changed(users[user_id], later[user_id])]
            if not chunk:
                return
            odd, seen = set(), {}


def _corrected(
    user: UserPresence, *, seen: Mapping[UserId, Shown], odd: set[UserId], now: int
) -> UserPresence:
    return corrected(user, seen.get(user.user_id), now, odd=user.user_id in odd)


def _has_changed(then: UserPresence, now: UserPresence) -> bool:
    if then.status is None or now.status is None:
        return then.status is not now.status
    return then.version != now.version


def _differences(user: UserPresence, seen: Shown | None, at_least: int, *, odd: bool) -> list[Difference]:
    found = (row_difference(user, odd=odd), status_difference(user, seen, at_least))
    return [difference for difference in found if difference is not None]


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
