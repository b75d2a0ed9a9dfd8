"""Pages of users and connections for the HTTP API, by keyset: a page costs its rows, wherever it begins."""

import re
from collections.abc import Collection, Sequence
from operator import attrgetter, itemgetter
from typing import Any

from mqtt_presence.protocol.times import LATEST
from mqtt_presence.rules.model import Connection, State, UserPresence
from mqtt_presence.store.rows import (
    CONNECTION_COLUMNS,
    HISTORY_LONGEST,
    USER_COLUMNS,
    to_connection,
    to_presence,
)
from mqtt_presence.store.snapshots import Snapshots

_KEYS = 500
"""Names in one query."""


def next_prefix(prefix: str) -> str | None:
    """Return the first text, by code points, after all texts with a prefix; None: there is none."""
    head = prefix.rstrip("\U0010ffff")
    if not head:
        return None
    following = ord(head[-1]) + 1
    # No text has a surrogate.
    return head[:-1] + chr(0xE000 if 0xD800 <= following < 0xE000 else following)


class Pages(Snapshots):
    """Reads pages of users and of connections."""

    def users_page(
        self,
        *,
        after: str | None,
        limit: int,
        containing: str | None = None,
        states: Collection[State] = (),
        prefix: str = "",
    ) -> list[UserPresence]:
        """Read a page of users without connections, in the order of names by code points.

        Args:
            after: the name that the page begins after; None for the first page.
            limit: the greatest number of users.
            containing: only names that contain this text, ASCII letters in any case.
            states: only users in one of these states; empty for all.
            prefix: only names that begin with this text.

        """
        where, parameters = self._named(after, containing, prefix)
        rows: list[Any] = []
        with self._one_moment():
            # A query for each state: only then both databases read no more than the page from the index.
            for state in states or State:
                rows += self._select(
                    f"SELECT {USER_COLUMNS} FROM users u WHERE u.state = {self._mark}{where} "
                    f"ORDER BY {self._by_name} LIMIT {int(limit)}",
                    [state.value, *parameters],
                )
        rows.sort(key=itemgetter(0))
        return [to_presence(row, {}, {}) for row in rows[:limit]]

    def count_by_state(
        self, *, containing: str | None = None, states: Collection[State] = (), prefix: str = ""
    ) -> dict[State, int]:
        """Count the users in each state; for the arguments see `users_page`."""
        where, parameters = self._named(None, containing, prefix)
        with self._one_moment():
            return {
                state: self._select(
                    f"SELECT COUNT(*) FROM user_states u WHERE u.state = {self._mark}{where}",
                    [state.value, *parameters],
                )[0][0]
                for state in states or State
            }

    def users_named(self, user_ids: Sequence[str]) -> list[UserPresence]:
        """Read the known ones among users, without connections, in the order of names by code points."""
        found: list[UserPresence] = []
        for start in range(0, len(user_ids), _KEYS):
            page = user_ids[start : start + _KEYS]
            rows = self._select(
                f"SELECT {USER_COLUMNS} FROM {self._keys(page)} CROSS JOIN users u "
                "WHERE u.user_id = k.column1",
                page,
            )
            found += [to_presence(row, {}, {}) for row in rows]
        return sorted(found, key=attrgetter("user_id"))

    def connections_page(
        self,
        user_id: str,
        *,
        since: int | None,
        until: int | None,
        before: tuple[int, int] | None,
        limit: int,
    ) -> list[tuple[int, Connection]]:
        """Read a page of a user's connections with their row ids, the newest first.

        Connections of which only the end is known (rule E1) are left out, because they have no login time.

        Args:
            user_id: the user.
            since: only connections that were open at this time or later, epoch milliseconds.
            until: only connections that began at this time or earlier, epoch milliseconds.
            before: the login time and row id that the page begins after; None for the first page.
            limit: the greatest number of connections.

        """
        where = [f"c.user_id = {self._mark}", f"c.login_time <= {self._mark}"]
        parameters: list[Any] = [user_id, LATEST if until is None else until]
        if since is not None:
            where.append(f"(c.logout_time IS NULL OR c.logout_time >= {self._mark})")
            parameters.append(since)
        if before is not None:
            where.append(f"(c.login_time, c.id) < ({self._mark}, {self._mark})")
            parameters += before
        return self._numbered(" AND ".join(where), "c.login_time DESC, c.id DESC", parameters, limit)

    def open_page(
        self, *, after: tuple[str, str, int] | None, limit: int, until: int | None = None
    ) -> list[tuple[int, Connection]]:
        """Read a page of all open connections with their row ids, in the order of users and clients.

        Args:
            after: the user, client and row id that the page begins after; None for the first page.
            limit: the greatest number of connections.
            until: only connections that began at this time or earlier, epoch milliseconds.

        """
        where = (
            "c.live AND c.logout_time IS NULL "
            f"AND (c.user_id, c.client_id, c.id) > ({self._mark}, {self._mark}, {self._mark})"
        )
        parameters: list[Any] = [*(after or ("", "", 0))]
        if until is not None:
            where += f" AND c.login_time <= {self._mark}"
            parameters.append(until)
        order = "c.user_id, c.client_id, c.id"
        return self._numbered(where, order, parameters, limit, view="recent_connections")

    def ended_page(
        self,
        *,
        before: tuple[int, int] | None,
        limit: int,
        since: int | None = None,
        until: int | None = None,
    ) -> list[tuple[int, Connection]]:
        """Read a page of all ended connections with their row ids, the last end first.

        Args:
            before: the logout time and row id that the page begins after; None for the first page.
            limit: the greatest number of connections.
            since: only connections that ended at this time or later, epoch milliseconds.
            until: only connections that began at this time or earlier, epoch milliseconds.

        """
        where = (
            "c.logout_time IS NOT NULL AND c.login_time IS NOT NULL "
            f"AND (c.logout_time, c.id) < ({self._mark}, {self._mark})"
        )
        parameters: list[Any] = [*(before or (LATEST + 1, 0))]
        for bound, condition in ((since, "c.logout_time >="), (until, "c.login_time <=")):
            if bound is not None:
                where += f" AND {condition} {self._mark}"
                parameters.append(bound)
        order = "c.logout_time DESC, c.id DESC"
        if until is None:
            return self._numbered(where, order, parameters, limit)
        # Most of what ended after `until` also began after it. The longest connection shows where to begin.
        with self._one_moment():
            found = self._numbered(where, order, parameters, limit, view="recent_connections")
            longest = self.value(HISTORY_LONGEST)
            if longest is not None:
                where += f" AND c.logout_time <= {self._mark}"
                parameters.append(until + int(longest))
            found += self._numbered(where, order, parameters, limit, view="connection_history")
        return sorted(found, key=lambda each: (each[1].logout_time, each[0]), reverse=True)[:limit]

    def _named(self, after: str | None, containing: str | None, prefix: str) -> tuple[str, list[str]]:
        """Return the conditions on the names of users u, each with a leading AND, and their parameters."""
        begins_after = after is not None and after >= prefix
        conditions = [f"{self._by_name} {'>' if begins_after else '>='} {self._mark}"]
        parameters = [after if begins_after and after is not None else prefix]
        if (end := next_prefix(prefix)) is not None:
            conditions.append(f"{self._by_name} < {self._mark}")
            parameters.append(end)
        if containing is not None:
            escaped = re.sub(r"([\\%_])", r"\\\1", containing)
            conditions.append(f"LOWER(u.user_id) LIKE LOWER({self._mark}) ESCAPE '\\'")
            parameters.append(f"%{escaped}%")
        return "".join(f" AND {condition}" for condition in conditions), parameters

    @property
    def _by_name(self) -> str:
        """The name of a user u, compared by code points as in the index of states."""
        return "u.user_id" if self._is_sqlite else 'u.user_id COLLATE "C"'

    def _numbered(
        self, where: str, order: str, parameters: Sequence[Any], limit: int, *, view: str = "connections"
    ) -> list[tuple[int, Connection]]:
        rows = self._select(
            f"SELECT {CONNECTION_COLUMNS}, c.id FROM {view} c "
            f"WHERE {where} ORDER BY {order} LIMIT {int(limit)}",
            parameters,
        )
        return [(row[-1], to_connection(row)) for row in rows]
