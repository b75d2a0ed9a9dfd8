"""People for a picture of the page: retained statuses as the bridge writes them, of users that nobody is."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mqtt_presence.rules.model import (
    ClientId,
    Connection,
    ConnectionId,
    LastLogin,
    Outcome,
    Reason,
    State,
    Status,
    UserId,
    UserPresence,
)
from mqtt_presence.store import Store

# Who, in which state, since how many minutes, with how many connections; idle ones were active so long ago.
_PEOPLE = [
    ("amara", "online", 3, 2), ("Benedikt", "online", 47, 1), ("Chloé", "online", 12, 1), ("dmitri", "idle", 9, 1),
    ("elif", "online", 131, 2), ("farid", "offline", 26, 0), ("grace", "online", 1, 1), ("Hiroshi", "idle", 34, 1),
    ("ines", "online", 88, 1), ("jonas", "offline", 190, 0), ("kitchen-display", "online", 4_320, 1),
    ("kofi", "online", 6, 1), ("lobby-display", "online", 10_080, 1), ("Lucía", "idle", 18, 2), ("mateo", "online", 22, 1),
    ("nadia", "online", 55, 1), ("oskar", "offline", 1_500, 0), ("priya", "online", 15, 3), ("Věra", "idle", 61, 1),
    ("yusuf", "online", 240, 1), ("zoë", "offline", 8, 0),
]  # fmt: skip


_MINUTE = 60_000
_DAYS = 7
_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)


def save_lives(database: str, now: int) -> None:
    """Save the people with a week of connections, the same ones each time.

    Args:
        database: the URL of the bridge's database, which does not run.
        now: epoch milliseconds.

    """
    store = Store(database)
    store.open()
    with store.transaction() as tx:
        tx.save(_lives(now))
    store.close()


def _lives(now: int) -> Iterator[Outcome]:
    for number, (user, state, minutes, connections) in enumerate(_PEOPLE):
        chance = random.Random(user)
        since = now - minutes * _MINUTE
        clients = [f"{'display' if 'display' in user else 'phone'}-{number:02}", f"laptop-{number:02}"]
        records = list(_earlier(user, clients, since - 95 * _MINUTE, now, chance))
        is_there = state != "offline"
        opened = since - (95 * _MINUTE if state == "idle" else 0)
        for index in range(connections or 1):
            record = _record(user, clients[index % 2], opened - index * 7 * _MINUTE, chance, f"now-{index}")
            end: dict[str, Any] = {"idle": state == "idle", "last_seen": now if is_there else since}
            if state == "idle":
                end["last_activity"] = since - _MINUTE
            if not is_there:
                end |= {"logout_time": since, "reason": Reason.LOST if number % 2 else Reason.LOGOUT}
                end["login_time"] = end["opened_at"] = since - 50 * _MINUTE
            records.append(msgspec.structs.replace(record, **end))
        login = LastLogin(order=opened, date=opened, ip_addr="203.0.113.7", user_agent=_AGENT)
        status = Status(
            state=State(state),
            since=since,
            connections=connections,
            last_login=login,
            last_activity=since - _MINUTE if state == "idle" else None,
        )
        yield Outcome(
            user=UserPresence(
                user_id=UserId(user), status=status, version=1, last_seen=now if is_there else since
            ),
            changed=tuple(records),
            touched=(),
            events=(),
            status_changed=True,
            ignored=(),
        )


def _earlier(
    user: str, clients: list[str], until: int, now: int, chance: random.Random
) -> Iterator[Connection]:
    """Yield ended connections of the days before."""
    at = now - _DAYS * 1_440 * _MINUTE
    for number in range(200):
        at += chance.randint(20, 400) * _MINUTE
        length = chance.randint(5, 300) * _MINUTE
        if at + length > until:
            return
        ended = at + length
        reason = Reason.LOGOUT if chance.random() < 0.8 else Reason.LOST
        record = _record(user, chance.choice(clients), at, chance, f"was-{number}")
        yield msgspec.structs.replace(record, last_seen=ended, logout_time=ended, reason=reason, idle=False)
        at = ended


def _record(user: str, client: str, at: int, chance: random.Random, name: str) -> Connection:
    return Connection(
        user_id=UserId(user),
        client_id=ClientId(client),
        connection_id=ConnectionId(f"{name}-{chance.randrange(1 << 32):08x}"),
        last_seen=at,
        login_time=at,
        login_order=at,
        opened_at=at,
        ip_addr=f"203.0.113.{chance.randint(2, 90)}",
        user_agent=_AGENT if client.startswith("laptop") else "home-app/3.2",
    )


def statuses(now: datetime | None = None) -> list[tuple[str, bytes]]:
    """Return topics and payloads."""
    now = datetime.now(UTC) if now is None else now
    return [(f"status/{user}", _status(user, *how, now)) for user, *how in _PEOPLE]


def status(user: str, state: str) -> tuple[str, bytes]:
    """Return topic and payload of a user who has been in this state for a minute."""
    return f"status/{user}", _status(user, state, 1, int(state != "offline"), datetime.now(UTC))


def _status(user: str, state: str, minutes: int, connections: int, now: datetime) -> bytes:
    since = now - timedelta(minutes=minutes)
    status: dict[str, Any] = {
        "userId": user,
        "state": state,
        "online": state != "offline",
        "since": _iso(since),
        "lastLogin": {"date": _iso(since - timedelta(minutes=0 if state == "online" else 95))},
        "connections": connections,
        "version": 1,
    }
    if state != "offline":
        status["idle"] = state == "idle"
    if state == "idle":
        status["lastActivity"] = _iso(since - timedelta(minutes=1))
    return json.dumps(status).encode()


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
