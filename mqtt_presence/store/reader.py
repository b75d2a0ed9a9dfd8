"""The reader: users and connections for the commands, in pages; `pages` has those of the HTTP API."""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mqtt_presence.rules.model import Connection, State, UserId, UserPresence
from mqtt_presence.store.change_log import ChangeLogReader
from mqtt_presence.store.figures import Figures
from mqtt_presence.store.rows import ANNOUNCED_AT

_PAGE = 500
_NAMES = 5_000
"""Names of a page that are only compared."""


class Reader(ChangeLogReader, Figures):
    """Reads users and connections from a database that a bridge may be using."""

    def users(self, state: State | None = None, *, matching: str | None = None) -> Iterator[UserPresence]:
        """Read users without connections: online ones first, then idle ones, in each state by name.

        Each page of users is of its own moment, so that a slow consumer keeps no transaction open. A user
        whose state changes meanwhile may come twice, or be left out.

        Args:
            state: only users in this state.
            matching: only users whose names match this pattern of ``*``, ``?`` and ``[…]``; the rows of
                others are not read.

        """
        for each in (State.ONLINE, State.IDLE, State.OFFLINE) if state is None else (state,):
            if matching is None:
                yield from self._users_in(each)
            else:
                for names in self._names_in(each, matching):
                    for user in self.users_named(names):
                        if user.status is not None and user.status.state is each:
                            yield user

    def has_user(self, user_id: str) -> bool:
        """Return whether the user has a row or a record."""
        return bool(self.known_users([UserId(user_id)]))

    def known_users(self, user_ids: Sequence[UserId]) -> set[UserId]:
        """Return those of the users that have a row or a record."""
        return self._those_with(
            user_ids,
            # Not by OR: PostgreSQL might read the tables whole for that.
            "EXISTS (SELECT 1 FROM user_states u WHERE u.user_id = k.column1 UNION ALL "
            "SELECT 1 FROM connection_records c WHERE c.user_id = k.column1 UNION ALL "
            "SELECT 1 FROM connection_history h WHERE h.user_id = k.column1)",
        )

    def unconfirmed_users(self) -> set[UserId]:
        """Return the users all of whose open connections are unconfirmed (rule I2)."""
        rows = self._select(
            # Few connections are unconfirmed: this does not group all open ones by user.
            "SELECT DISTINCT c.user_id FROM connection_records c "
            "WHERE c.live AND c.logout_time IS NULL AND c.unconfirmed_since IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM connection_records o WHERE o.user_id = c.user_id "
            "AND o.live AND o.logout_time IS NULL AND o.unconfirmed_since IS NULL)",
            [],
        )
        return {UserId(row[0]) for row in rows}

    def matching_names(self, pattern: str) -> Iterator[UserId]:
        """Find the names of users that match a pattern of ``*``, ``?`` and ``[…]``, in pages."""
        matches = re.compile(fnmatch.translate(pattern)).match
        for rows in self._pages_by_name("SELECT u.user_id FROM user_states u WHERE u.user_id > {after}"):
            yield from (UserId(row[0]) for row in rows if matches(row[0]))

    def history(self, user_id: str, *, limit: int, since: int | None = None) -> Iterator[Connection]:
        """Read a user's connections, the newest login first, in pages.

        Connections of which only the end is known (rule E1) are left out, because they have no login time.

        Args:
            user_id: the user.
            limit: the greatest number of connections.
            since: only connections that were open at this time or later, epoch milliseconds.

        """
        before = None
        while limit > 0:
            size = min(limit, _PAGE)
            page = self.connections_page(user_id, since=since, until=None, before=before, limit=size)
            for number, record in page:
                before = (record.login_time or 0, number)
                yield record
            if len(page) < size:
                return
            limit -= size

    def latest(self, *, limit: int, since: int | None = None) -> Iterator[Connection]:
        """Read everybody's connections: the open ones by user, then the ended ones, the last end first.

        Args:
            limit: the greatest number of connections.
            since: only connections that were open at this time or later, epoch milliseconds.

        """
        left = limit
        after: tuple[str, str, int] | None = None
        while left > 0:
            page = self.open_page(after=after, limit=min(left, _PAGE))
            for number, record in page:
                after = (record.user_id, record.client_id, number)
                yield record
            left -= len(page)
            if len(page) < _PAGE:
                break
        before: tuple[int, int] | None = None
        while left > 0:
            page = self.ended_page(before=before, limit=min(left, _PAGE), since=since)
            for number, record in page:
                assert record.logout_time is not None
                before = (record.logout_time, number)
                yield record
            left -= len(page)
            if len(page) < _PAGE:
                return

    def has_tombstone(self, user_id: str) -> bool:
        """Return whether the user was forgotten and the retained status must still be cleared."""
        return bool(self.uncleared([UserId(user_id)]))

    def uncleared(self, user_ids: Sequence[UserId]) -> set[UserId]:
        """Return the forgotten users among these whose retained status must still be cleared."""
        return self._those_with(
            user_ids,
            "EXISTS (SELECT 1 FROM tombstones t WHERE t.user_id = k.column1 AND t.buried_at IS NULL) "
            "AND NOT EXISTS (SELECT 1 FROM user_states u WHERE u.user_id = k.column1)",
        )

    def announced_at(self) -> int | None:
        """Return the time of the announcement that clients are to answer; None: none is pending."""
        stored = self.value(ANNOUNCED_AT)
        return None if stored is None else int(stored)

    def open_connections(self) -> Iterator[dict[UserId, list[Connection]]]:
        """Read all open connections by user, a page of users at a time."""
        for user_ids in self._user_pages("c.live AND c.logout_time IS NULL"):
            page: dict[UserId, list[Connection]] = {user_id: [] for user_id in user_ids}
            for record in self._live_of(user_ids, "AND c.logout_time IS NULL"):
                page[record.user_id].append(record)
            yield page

    def _those_with(self, user_ids: Sequence[UserId], condition: str) -> set[UserId]:
        """Return the users k that meet an SQL condition."""
        found: set[UserId] = set()
        for start in range(0, len(user_ids), _PAGE):
            page = user_ids[start : start + _PAGE]
            sql = f"SELECT k.column1 FROM {self._keys(page)} WHERE {condition}"
            found.update(UserId(row[0]) for row in self._select(sql, page))
        return found

    def _users_in(self, state: State) -> Iterator[UserPresence]:
        """Read the users in one state, by name."""
        after: str | None = None
        while True:
            page = self.users_page(after=after, limit=_PAGE, states=[state])
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].user_id

    def _names_in(self, state: State, pattern: str) -> Iterator[list[str]]:
        """Find the names of the users in one state that match a pattern, in pages, by an index alone."""
        matches = re.compile(fnmatch.translate(pattern)).match
        prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        after: str | None = None
        while True:
            where, parameters = self._named(after, None, prefix)
            rows = self._select(
                f"SELECT u.user_id FROM user_states u WHERE u.state = {self._mark}{where} "
                f"ORDER BY {self._by_name} LIMIT {_NAMES}",
                [state.value, *parameters],
            )
            yield [row[0] for row in rows if matches(row[0])]
            if len(rows) < _NAMES:
                return
            after = rows[-1][0]

    def _user_pages(self, condition: str) -> Iterator[list[UserId]]:
        """Read the names of the users with records c that meet an SQL condition, in pages."""
        select = f"SELECT DISTINCT c.user_id FROM connection_records c WHERE {condition}"
        for rows in self._pages_by_name(f"{select} AND c.user_id > {{after}}"):
            yield [UserId(row[0]) for row in rows]

    def _pages_by_name(self, select: str, *parameters: str) -> Iterator[list[Any]]:
        """Select rows in pages, in the order of their first column, the user's name.

        Args:
            select: the query, with `{after}` at its end for the name that a page begins after.
            parameters: the other parameters.

        """
        sql = f"{select.format(after=self._mark)} ORDER BY 1 LIMIT {_PAGE}"
        after = ""
        while True:
            rows = self._select(sql, [*parameters, after])
            if rows:
                yield rows
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]
