"""A transaction of the bridge: loads the users and records that events need, and saves the outcomes."""

import operator
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any

from mqtt_presence.rules.model import (
    ActivityState,
    Connection,
    Outcome,
    UserPresence,
)
from mqtt_presence.store.batches import RECORD_KEY
from mqtt_presence.store.loading import Loading
from mqtt_presence.store.rows import (
    ACTIVITY_FIELDS,
    RECORD_FIELDS,
    USER_FIELDS,
    from_activity,
    from_connection,
    from_user,
    key_of,
)
from mqtt_presence.store.schema import ActivityRow, ConnectionRow, UserRow


class Transaction(Loading):
    """The work inside `Store.transaction`; `Loading` has its first half and the arguments."""

    @property
    def portion(self) -> int | None:
        """The number of users that are best loaded and saved together; None: all of them."""
        return self._batches.portion

    def finish(self) -> None:
        """Delete the placeholders that were not saved as users."""
        names = [(user_id,) for user_id in sorted(self._placeholders)]
        self._batches.delete(UserRow, (UserRow.user_id,), names)

    # Saving. Of a loaded record only changed columns are written, found by the row id: this costs a fraction
    # of writing all columns, above all of indexed ones.

    def save(self, outcomes: Iterable[Outcome]) -> None:
        """Write the outcomes of the rules for users that this transaction has loaded."""
        users, seen = [], []
        known: list[Connection] = []
        new: list[Connection] = []
        touched: list[ActivityState] = []
        for outcome in outcomes:
            user = outcome.user
            if outcome.status_changed and user.status is not None:
                users.append(from_user(user, user.status))
                self._placeholders.discard(user.user_id)
            elif user.status is not None and _is_seen_beside_live_records(user):
                seen.append((user.last_seen, user.user_id))
            for record in outcome.changed:
                (known if key_of(record) in self._loaded else new).append(record)
            touched += outcome.touched
        self.save_activity(touched)
        self._update_records(known)
        self._insert_records(new)
        self._batches.update(UserRow, (UserRow.last_seen,), (UserRow.user_id,), seen)
        self._batches.upsert(UserRow, USER_FIELDS, (UserRow.user_id,), users)
        self._add_to_user_count(sum(row[0] not in self._known for row in users))
        if users:
            self.log_changes(users)

    def save_activity(self, states: Iterable[ActivityState]) -> None:
        """Write only the activity of connections that this transaction has loaded."""
        activities, deadlines = [], []
        for state in states:
            row_id, loaded = self._loaded[key_of(state)]
            activities.append((*from_activity(state), row_id))
            if state.check_at != loaded.check_at:
                deadlines.append((state.check_at, row_id))
        self._batches.update(ActivityRow, ACTIVITY_FIELDS, (ActivityRow.id,), activities)
        self._batches.update(ConnectionRow, (ConnectionRow.check_at,), (ConnectionRow.id,), deadlines)

    def _update_records(self, records: Iterable[Connection]) -> None:
        """Write the changed columns of loaded records."""
        changes: dict[tuple[bool, ...], list[tuple[Any, ...]]] = {}
        activities = []
        for record in records:
            row_id, loaded = self._loaded[key_of(record)]
            assert isinstance(loaded, Connection)
            row = from_connection(record)
            is_changed = tuple(map(operator.ne, row, from_connection(loaded)))
            changes.setdefault(is_changed, []).append((*compress(row, is_changed), row_id))
            activity = from_activity(record)
            if activity != from_activity(loaded):
                activities.append((*activity, row_id))
        for is_changed, rows in changes.items():
            fields = tuple(compress(RECORD_FIELDS, is_changed))
            if fields:
                self._batches.update(ConnectionRow, fields, (ConnectionRow.id,), rows)
        self._batches.update(ActivityRow, ACTIVITY_FIELDS, (ActivityRow.id,), activities)

    def _insert_records(self, records: Sequence[Connection]) -> None:
        """Write new records; replace those that another bridge has just inserted."""
        self._batches.upsert(ConnectionRow, RECORD_FIELDS, RECORD_KEY, map(from_connection, records))
        self._batches.upsert_activity((*from_activity(r), *key_of(r)) for r in records)


def _is_seen_beside_live_records(user: UserPresence) -> bool:
    """Return whether no live record has the user's last sign of life: then the user's row must keep it."""
    seen = user.last_seen
    if seen is None:
        return False
    for connection in user.connections.values():
        if connection.last_seen >= seen and connection.is_live:
            return False
    return True
