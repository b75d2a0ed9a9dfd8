"""Figures of a period for the page: users online over time, and totals."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from mqtt_presence.rules.model import Reason
from mqtt_presence.store.rows import HISTORY_LONGEST
from mqtt_presence.store.snapshots import Snapshots

MOST_MOMENTS: Final = 124
"""Moments of a period, at most. In the database's answer each moment is an ASCII character."""
_DROPS = ", ".join(f"'{reason.value}'" for reason in (Reason.LOST, Reason.TIMEOUT, Reason.UNCONFIRMED))
_BETWEEN_USERS = "\x01"
_FIRST = 2  # the character of the first moment


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """The figures of a period.

    Args:
        step: the milliseconds between two moments; the last one may be some milliseconds after the end.
        online: the numbers of users online, at moments of equal distance from the beginning on.
        users: the number of users with a connection in the period.
        connections: the number of connections in the period.
        drops: the number of connections that ended in the period without a logout.

    """

    step: int
    online: list[int]
    users: int
    connections: int
    drops: int


class Figures(Snapshots):
    """Reads figures, which the database computes: the rows of a long period are too many to transfer."""

    def figures(self, *, since: int, until: int, moments: int) -> PeriodFigures:
        """Count the users online at some moments of a period, and its connections.

        The database reads each connection of the period once, and groups them by user. A connection that is
        open at a moment adds two characters to the answer, the first such moment and the first one after it.
        Most connections of a long period begin and end between two moments. Simultaneous connections of a
        user are merged here. The status counts a lost connection for the time of the setting `grace`; the
        figures do not.

        Args:
            since: the beginning, epoch milliseconds.
            until: the end, later than the beginning.
            moments: the number of moments, from 2 to `MOST_MOMENTS`.

        """
        assert 2 <= moments <= MOST_MOMENTS
        step = -((since - until) // (moments - 1))
        joined = "group_concat" if self._is_sqlite else "string_agg"
        with self._one_moment():
            [(users, connections, drops, patterns)] = self._select(
                f"SELECT COUNT(*), SUM(connections), SUM(drops), {joined}(pattern, {self._mark}) FROM "
                f"(SELECT COUNT(*) AS connections, SUM(is_drop) AS drops, {joined}(moments, '') AS pattern "
                f"FROM ({self._period(since, until, step, moments)}) c GROUP BY user_id) u",
                [_BETWEEN_USERS],
            )
        online = _count_online((patterns or "").encode(), moments)
        return PeriodFigures(step, online, users, int(connections or 0), int(drops or 0))

    def _period(self, since: int, until: int, step: int, moments: int) -> str:
        """Return the SQL of a table of the period's connections, with the characters of their moments."""
        before_first = since - step + 1
        first = f"CASE WHEN c.login_time < {since} THEN 0 ELSE (c.login_time - {before_first}) / {step} END"
        after = (
            f"CASE WHEN c.logout_time <= {since + step * (moments - 1)} "
            f"THEN (c.logout_time - {before_first}) / {step} ELSE {moments} END"
        )
        is_drop = f"c.logout_time <= {until} AND c.reason IN ({_DROPS})"
        columns = (
            f"c.user_id, CASE WHEN {is_drop} THEN 1 ELSE 0 END AS is_drop, "
            f"CASE WHEN {first} < {after} THEN {self._characters(first, after)} END AS moments"
        )
        in_history = f"c.logout_time >= {since}"
        longest = self.value(HISTORY_LONGEST)
        if longest is not None:  # what ended later than this also began after the period
            in_history += f" AND c.logout_time <= {until + int(longest)}"
        return " UNION ALL ".join(
            f"SELECT {columns} FROM {records} c WHERE c.login_time <= {until} AND {condition}"
            for records, condition in (  # each by an index
                ("connection_records", "c.live AND c.logout_time IS NULL"),
                ("connection_records", f"c.logout_time >= {since}"),
                ("connection_history", in_history),
            )
        )

    def _characters(self, *moments: str) -> str:
        """Return the SQL of the characters of moments."""
        if self._is_sqlite:
            return f"char({', '.join(f'{moment} + {_FIRST}' for moment in moments)})"
        return " || ".join(f"chr(CAST({moment} + {_FIRST} AS integer))" for moment in moments)


def _count_online(patterns: bytes, moments: int) -> list[int]:
    """Return the number of users online at each moment.

    Args:
        patterns: the moments of each user's connections, in any order.
        moments: their number.

    """
    changes = [0] * (moments + 1)
    for pattern, count in Counter(patterns.split(_BETWEEN_USERS.encode())).items():
        covered = 0
        for began, ended in sorted(zip(pattern[::2], pattern[1::2], strict=True)):
            if ended > covered:
                changes[max(began, covered) - _FIRST] += count
                changes[ended - _FIRST] -= count
                covered = ended
    online = changes[:moments]
    for moment in range(1, moments):
        online[moment] += online[moment - 1]
    return online
