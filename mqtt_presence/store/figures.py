"""Figures of a period for the page: users online over time, and totals."""

from dataclasses import dataclass

from mqtt_presence.rules.model import Reason
from mqtt_presence.store.snapshots import Snapshots

_DROPS = (Reason.LOST.value, Reason.TIMEOUT.value, Reason.UNCONFIRMED.value)


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

        Simultaneous connections of a user are merged into spans. Each span adds one at the first moment in
        it, and takes one away at the first moment after it. The status counts a lost connection for the time
        of the setting `grace`; the figures do not.

        Args:
            since: the beginning, epoch milliseconds.
            until: the end, later than the beginning.
            moments: the number of moments, 2 or more.

        """
        step = -((since - until) // (moments - 1))
        places = ",".join([self._mark] * len(_DROPS))
        with self._one_moment():
            changes = self._select(
                f"{self._spans()} "
                f"SELECT (began - {since} + {step - 1}) / {step}, COUNT(*) FROM spans GROUP BY 1 "
                f"UNION ALL SELECT (ended - {since} + {step - 1}) / {step}, -COUNT(*) FROM spans GROUP BY 1",
                self._period(since, until),
            )
            [(users, connections, drops)] = self._select(
                f"WITH {self._in_period()} SELECT COUNT(DISTINCT user_id), COUNT(*), "
                f"SUM(CASE WHEN ended <= {until} AND reason IN ({places}) THEN 1 ELSE 0 END) FROM period",
                [*self._period(since, until), *_DROPS],
            )
        online = [0] * moments
        for moment, change in changes:
            if moment < moments:
                online[moment] += change
        for moment in range(1, moments):
            online[moment] += online[moment - 1]
        return PeriodFigures(step, online, users, connections, int(drops or 0))

    def _spans(self) -> str:
        """Return the SQL of a table of times in which a user had an open connection.

        A connection begins a span if all earlier ones of the user have ended before.
        """
        window = "OVER (PARTITION BY user_id ORDER BY began, ended ROWS BETWEEN UNBOUNDED PRECEDING AND"
        return (
            f"WITH {self._in_period()}, "
            "known AS (SELECT user_id, began, ended, "
            f"MAX(ended) {window} 1 PRECEDING) AS covered FROM period), "
            "numbered AS (SELECT user_id, began, ended, "
            "SUM(CASE WHEN covered IS NULL OR covered < began THEN 1 ELSE 0 END) "
            f"{window} CURRENT ROW) AS number FROM known), "
            "spans AS (SELECT MIN(began) AS began, MAX(ended) AS ended FROM numbered "
            "GROUP BY user_id, number)"
        )

    def _in_period(self) -> str:
        """Return the SQL of a table of the period's connections; an open one ends after the period."""
        mark = self._mark
        overlapping = " UNION ALL ".join(
            f"SELECT c.user_id, c.reason, c.login_time, c.logout_time FROM {records} c "
            f"WHERE c.login_time <= {mark} AND {condition}"
            for records, condition in (  # each by an index
                ("connection_records", "c.live AND c.logout_time IS NULL"),
                ("connection_records", f"c.logout_time >= {mark}"),
                ("connection_history", f"c.logout_time >= {mark}"),
            )
        )
        return (
            f"period AS (SELECT c.user_id, c.reason, CASE WHEN c.login_time < {mark} THEN {mark} "
            f"ELSE c.login_time END AS began, COALESCE(c.logout_time, {mark}) AS ended "
            f"FROM ({overlapping}) c)"
        )

    @staticmethod
    def _period(since: int, until: int) -> list[int]:
        after = until + (until - since) + 1  # beyond the last moment, which may be later than the end
        return [since, since, after, until, *[until, since] * 2]
