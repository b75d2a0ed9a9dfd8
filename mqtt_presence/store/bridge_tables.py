"""The bridge's own tables: named values, outbox, redeliveries, and forgotten users to clear."""

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import peewee

from mqtt_presence.rules.model import State, UserId
from mqtt_presence.store.change_log import ChangeLogWriter
from mqtt_presence.store.database_loss import (
    DatabaseLoss,
    DatabasePlace,
    end_repair,
    is_repaired,
    read_loss,
    read_place,
)
from mqtt_presence.store.notification_tables import NotificationTables
from mqtt_presence.store.rows import VERSION_FLOOR
from mqtt_presence.store.schema import BridgeRow, OutboxRow, RedeliveryRow, TombstoneRow
from mqtt_presence.store.seat_rows import FREE, NOW, remove_row

MUST_ANNOUNCE = "must_announce"
"""The name of the request to ask all clients to log in again."""
MUST_REPUBLISH = "republishing"
"""The name of the request to publish the statuses of all users again."""
_USER_COUNT = "user_count"
_FORGOTTEN = "forgotten_totals"
_SEAT_BITS = 40
_STAYS = "leaving IS NOT TRUE"


class SeatFacts(NamedTuple):
    """The seats of other processes."""

    staying: int
    """Their number, without those that are being removed."""
    held: int
    """The number of those among them that a process holds."""
    leaving: int
    """The number of those that are being removed."""
    heard_until: int | None
    """Every message that had reached one of their sessions by then is processed, epoch milliseconds; None:
    there are no other seats. Seats that are being removed count: their last messages are signs of life."""
    are_subscribed: bool
    """Whether every session of theirs has subscribed; those that are being removed need not."""


class BridgeTables(ChangeLogWriter, NotificationTables):
    """The bridge's own tables in a transaction."""

    seat = 0
    """The number of the seat whose outbox and journal the transaction uses."""
    attempt = 0
    """The number of the transaction in this process (`Seat.attempt`)."""

    # Named values.

    def client_id(self) -> str:
        """Read the MQTT client id of the seat."""
        rows = self._select(f"SELECT client_id FROM seats WHERE id = {self._mark}", [self.seat])
        return str(rows[0][0])

    def seat_name(self, name: str) -> str:
        """Return the name of a value of which each seat has one."""
        return f"{name}@{self.seat}" if self.seat else name

    def share_group(self) -> str:
        """Return the name of the group in which all bridges of this database share the messages."""
        # Of the client id of seat 0, which is secret, only a digest is published.
        ((client_id,),) = self._select("SELECT client_id FROM seats WHERE id = 0", [])
        return f"presence-{hashlib.sha256(client_id.encode()).hexdigest()[:16]}"

    def read_value(self, name: str) -> str | None:
        """Read a named value."""
        for row in self._run(BridgeRow.select().where(BridgeRow.name == name)):
            return str(row.value)
        return None

    def read_values(self, prefix: str) -> dict[str, str]:
        """Read all values whose name begins with a prefix, by the rest of the name."""
        rows = self._run(BridgeRow.select().where(peewee.fn.SUBSTR(BridgeRow.name, 1, len(prefix)) == prefix))
        return {row.name[len(prefix) :]: row.value for row in rows}

    def write_value(self, name: str, value: str | None) -> None:
        """Write a named value; None deletes it."""
        if value is None:
            self._database.execute_sql(f"DELETE FROM bridge WHERE name = {self._mark}", [name])
        else:
            fields = (BridgeRow.name, BridgeRow.value)
            self._batches.upsert(BridgeRow, fields, fields[:1], [(name, value)])

    # The number of users, beside the number that this class has added: another program may write users, too.

    def count_users(self) -> int:
        """Return the number of users."""
        return int(self._select("SELECT COUNT(*) FROM user_states", [])[0][0])

    def has_other_users(self) -> bool:
        """Return whether another program added or removed users."""
        return int(self.read_value(_USER_COUNT) or 0) != self.count_users()

    def accept_users(self) -> None:
        """Accept the users of other programs: `has_other_users` is false until the next change."""
        self.write_value(_USER_COUNT, str(self.count_users()))

    def _add_to_user_count(self, more: int) -> None:
        if more:  # in one statement: other bridges add, too
            self._database.execute_sql(
                f"INSERT INTO bridge (name, value) VALUES ({self._mark}, {self._mark}) "
                "ON CONFLICT (name) DO UPDATE SET value = "
                "CAST(CAST(bridge.value AS BIGINT) + CAST(excluded.value AS BIGINT) AS TEXT)",
                [_USER_COUNT, str(more)],
            )

    # The totals that metrics show. Only the bridge counts them, so `forget` leaves a note of its effect.

    def presence_totals(self) -> tuple[dict[str, int], int, int]:
        """Count users and live connections; two seconds for a million users.

        Returns:
            The number of users in each state, of live connections, and of the idle ones among them.

        """
        users: dict[str, int] = {}
        live = idle = 0
        rows = self._select("SELECT state, COUNT(*), SUM(connections) FROM user_states GROUP BY state", [])
        for state, count, connections in rows:
            users[state] = count
            live += connections
            if state == State.IDLE:
                idle = connections
        # All connections of idle users are idle. Few other users have an idle one beside an active one.
        mixed = self._select(
            "SELECT COUNT(*) FROM user_states s CROSS JOIN connection_records r CROSS JOIN pulses p "
            f"WHERE s.state = {self._mark} AND s.connections > 1 AND r.user_id = s.user_id AND r.live "
            "AND p.id = r.id AND p.idle",
            [State.ONLINE.value],
        )
        return users, live, idle + mixed[0][0]

    def forgotten_totals(self) -> Counter[str]:
        """Return the numbers that `forget` has ever deleted: users by state, live and idle connections."""
        return Counter(json.loads(self.read_value(_FORGOTTEN) or "{}"))

    def _add_to_forgotten(self, more: Mapping[str, int]) -> None:
        if self._is_postgresql:
            self._select("SELECT 1 FROM bridge WHERE name = %s FOR UPDATE", [_FORGOTTEN])
        self.write_value(_FORGOTTEN, json.dumps(self.forgotten_totals() + Counter(more)))

    def _raise_version_floor(self, version: int) -> None:
        self._database.execute_sql(
            f"INSERT INTO bridge (name, value) VALUES ({self._mark}, {self._mark}) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value "
            "WHERE CAST(bridge.value AS BIGINT) < CAST(excluded.value AS BIGINT)",
            [VERSION_FLOOR, str(version)],
        )

    def _version_floor(self) -> int:
        """Return the version from which new users go on: the greatest version of any forgotten user."""
        return int(self.read_value(VERSION_FLOOR) or 0)

    # The other seats.

    def other_seats(self) -> SeatFacts:
        """Read the state of all other seats."""
        row = self._select(
            f"SELECT COUNT(*) FILTER (WHERE {_STAYS}), COUNT(*) FILTER (WHERE {_STAYS} AND NOT {FREE}), "
            f"COUNT(*) FILTER (WHERE NOT {_STAYS}), "
            # A seat without a session may have one in the next moment, so no later time is known.
            f"MIN(CASE WHEN subscribed IS NULL THEN {NOW} ELSE COALESCE(heard_until, 0) END), "
            f"COALESCE(BOOL_AND(subscribed) FILTER (WHERE {_STAYS}), TRUE) "
            f"FROM seats WHERE id <> {self._mark}",
            [self.seat],
        )
        return SeatFacts(*row[0])

    def begin_session(self) -> bool:
        """Record that the seat may have a session from now on: silence waits for its messages, too.

        Returns:
            Whether it never had one before.

        """
        sql = (
            f"UPDATE seats SET subscribed = FALSE WHERE id = {self._mark} AND subscribed IS NULL RETURNING id"
        )
        return bool(self._select(sql, [self.seat]))

    def shift_vacant_seats(self, by_ms: int) -> None:
        """Shift the progress of seats without a holder, after the clock of the server was set."""
        self._database.execute_sql(
            f"UPDATE seats SET heard_until = heard_until + {self._mark} WHERE id IN (SELECT id FROM seats "
            f"WHERE id <> {self._mark} AND {FREE} FOR UPDATE SKIP LOCKED)",
            [by_ms, self.seat],
        )

    def remove_seat(self) -> bool:
        """Delete the seat with its outbox and journal; return False if publications are left to send."""
        if self.has_publications():
            return False
        first = self._first_number
        self._database.execute_sql(
            f"DELETE FROM redeliveries WHERE number >= {self._mark} AND number < {self._mark}",
            [first, first + (1 << _SEAT_BITS)],
        )
        remove_row(self._database, self.seat)
        return True

    def request(self, name: str) -> None:
        """Have the holder of seat 0 do something for all seats."""
        self.write_value(name, secrets.token_hex(8))

    def requests(self) -> dict[str, str]:
        """Read the requests to the holder of seat 0, by name; each has another value."""
        rows = self._select(
            f"SELECT name, value FROM bridge WHERE name IN ({self._mark}, {self._mark})",
            [MUST_ANNOUNCE, MUST_REPUBLISH],
        )
        return {row[0]: row[1] for row in rows}

    def end_request(self, name: str, value: str | None) -> None:
        """Delete a request, unless it was made again meanwhile."""
        self._database.execute_sql(
            f"DELETE FROM bridge WHERE name = {self._mark} AND value = {self._mark}", [name, value or ""]
        )

    # Losses of the database.

    def place(self) -> DatabasePlace:
        """Return the last change of a user's row in the database."""
        return read_place(self._database)

    def database_loss(self) -> tuple[DatabaseLoss | None, bool]:
        """Return the last loss of the database, and whether its repair is incomplete."""
        loss = read_loss(self._database)
        return loss, loss is not None and not is_repaired(self._database, loss)

    def end_repair(self, loss: DatabaseLoss) -> None:
        """Record that the repair of a loss is complete."""
        end_repair(self._database, loss)

    # The outbox: committed publications that the broker may not have.

    def put_outbox(self, body: bytes) -> int:
        """Save the publications of a batch; return the entry's id, which only grows."""
        # SQL text, as in loading: for a single message peewee would take longer than the database.
        values = f"VALUES ({self._mark}, {self._mark})"
        rows = self._select(f"INSERT INTO outbox (seat, body) {values} RETURNING id", [self.seat, body])
        return int(rows[0][0])

    def outbox(self) -> list[tuple[int, bytes]]:
        """Read all entries of the seat with their ids, the oldest first."""
        entries = OutboxRow.select().where(OutboxRow.seat == self.seat).order_by(OutboxRow.id)
        return [(row.id, bytes(row.body)) for row in self._run(entries)]

    def has_outbox(self, number: int) -> bool:
        """Return whether an entry of the seat exists: its batch was committed."""
        found = f"SELECT 1 FROM outbox WHERE id = {self._mark} AND seat = {self._mark}"
        return bool(self._select(found, [number, self.seat]))

    def has_publications(self) -> bool:
        """Return whether the seat has entries."""
        return bool(self._select(f"SELECT 1 FROM outbox WHERE seat = {self._mark} LIMIT 1", [self.seat]))

    def clear_outbox(self, up_to: int) -> None:
        """Delete the entries of the seat up to an id: the broker has acknowledged them."""
        self._database.execute_sql(
            f"DELETE FROM outbox WHERE id <= {self._mark} AND seat = {self._mark}", [up_to, self.seat]
        )

    # Redeliveries: committed messages that the broker may deliver again, one entry for each batch. The
    # numbers of a seat begin at its own place, so that the entries of all seats are in one table.

    @property
    def _first_number(self) -> int:
        return self.seat << _SEAT_BITS

    def put_redeliveries(self, number: int, body: bytes) -> None:
        """Save an entry; after an uncertain commit the same entry is saved again."""
        fields = (RedeliveryRow.number, RedeliveryRow.body)
        rows = [(self._first_number + number, body)]
        self._batches.upsert(RedeliveryRow, fields, fields[:1], rows)

    def redeliveries(self) -> list[tuple[int, bytes]]:
        """Read all entries of the seat in their order."""
        first = self._first_number
        rows = self._select(
            f"SELECT number, body FROM redeliveries WHERE number >= {self._mark} AND number < {self._mark} "
            "ORDER BY number",
            [first, first + (1 << _SEAT_BITS)],
        )
        return [(number - first, bytes(body)) for number, body in rows]

    def clear_redeliveries(self, up_to: int) -> None:
        """Delete the entries of the seat up to a number."""
        if up_to:
            self._database.execute_sql(
                f"DELETE FROM redeliveries WHERE number >= {self._mark} AND number <= {self._mark}",
                [self._first_number, self._first_number + up_to],
            )

    # Forgotten users, whose retained status the broker may still have, or have again.

    def returned_users(self) -> list[UserId]:
        """Read the forgotten users who have come back, and so have a status again."""
        # Not by IN: SQLite would read all users for that.
        rows = self._select(
            "SELECT t.user_id FROM tombstones t "
            "WHERE EXISTS (SELECT 1 FROM user_states u WHERE u.user_id = t.user_id)",
            [],
        )
        return [UserId(row[0]) for row in rows]

    def end_tombstones(self, user_ids: Iterable[UserId]) -> None:
        """Delete the entries of users who have come back."""
        self._executemany(
            f"DELETE FROM tombstones WHERE user_id = {self._mark}", [(user_id,) for user_id in user_ids]
        )

    def uncleared(self) -> list[UserId]:
        """Read the forgotten users whose retained status must be cleared."""
        uncleared = TombstoneRow.select().where(TombstoneRow.cleared_at.is_null())
        return [row.user_id for row in self._run(uncleared)]

    def mark_cleared(self, user_id: UserId, now: int) -> None:
        """Record that the broker acknowledged the empty status of a forgotten user."""
        self._run(TombstoneRow.update(cleared_at=now).where(TombstoneRow.user_id == user_id))

    def clear_again(self) -> None:
        """Have all statuses cleared again, because the broker may have lost acknowledged messages."""
        cleared = TombstoneRow.cleared_at.is_null(is_null=False)
        self._run(TombstoneRow.update(cleared_at=None).where(cleared))

    def forget_cleared(self, before: int) -> None:
        """Delete the entries of users whose status was cleared before a time."""
        self._run(TombstoneRow.delete().where(TombstoneRow.cleared_at < before))

    def put_uncleared(self, user_id: UserId) -> None:
        """Have the retained status of a user cleared that the database does not know."""
        fields = (TombstoneRow.user_id, TombstoneRow.cleared_at)
        self._batches.upsert(TombstoneRow, fields, fields[:1], [(user_id, None)])
