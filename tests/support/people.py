"""People for a picture of the page: retained statuses as the bridge writes them, of users that nobody is."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

# Who, in which state, since how many minutes, with how many connections; idle ones were active so long ago.
_PEOPLE = [
    ("amara", "online", 3, 2), ("Benedikt", "online", 47, 1), ("Chloé", "online", 12, 1), ("dmitri", "idle", 9, 1),
    ("elif", "online", 131, 2), ("farid", "offline", 26, 0), ("grace", "online", 1, 1), ("Hiroshi", "idle", 34, 1),
    ("ines", "online", 88, 1), ("jonas", "offline", 190, 0), ("kitchen-display", "online", 4_320, 1),
    ("kofi", "online", 6, 1), ("lobby-display", "online", 10_080, 1), ("Lucía", "idle", 18, 2), ("mateo", "online", 22, 1),
    ("nadia", "online", 55, 1), ("oskar", "offline", 1_500, 0), ("priya", "online", 15, 3), ("Věra", "idle", 61, 1),
    ("yusuf", "online", 240, 1), ("zoë", "offline", 8, 0),
]  # fmt: skip


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
