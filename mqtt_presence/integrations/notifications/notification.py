"""Notifications: events, alarms and all-clears as they are queued, and their ids. Pure.

The notifications of one transaction are one row of the queue. The id of a notification is made of the row's
number, the place in the row and the time at which the row was made: it is the same for ever.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

ALARM = "alarm"
ALL_CLEAR = "allClear"
OUTAGE_EVENTS = frozenset({ALARM, ALL_CLEAR})


class Notification(Struct, frozen=True, array_like=True, gc=False):
    """An event for receivers."""

    event: str
    """The last level of its topic, e.g. ``userOffline``."""
    user_id: str
    """The user, or the pattern of users."""
    data: bytes
    """The payload of the event, JSON."""
    time: int
    """Epoch milliseconds."""
    version: int | None = None
    """Of the user's status after the event."""
    condition: str = ""
    """Of an alarm or all-clear."""
    outage: str = ""
    """The key that an alarm shares with its all-clear."""


class Queued(Struct, frozen=True):
    """A notification with its id."""

    id: str
    notification: Notification


class Place(Struct, frozen=True, order=True):
    """A place in the queue: a row, and a position in it."""

    row: int
    position: int


class Page(Struct, frozen=True, array_like=True):
    """The content of a row."""

    made_at: int
    """Epoch milliseconds."""
    notifications: list[Notification]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Page).decode
_decode_queued = msgspec.msgpack.Decoder(Queued).decode


def pack(made_at: int, notifications: Sequence[Notification]) -> bytes:
    """Encode the notifications of one transaction, made at a time in epoch milliseconds."""
    return _encode(Page(made_at, list(notifications)))


def unpack(row: int, body: bytes) -> Iterable[tuple[Place, Queued]]:
    """Decode a row; each notification comes with the place after it."""
    page = _decode(body)
    for position, notification in enumerate(page.notifications):
        yield (
            Place(row, position + 1),
            Queued(f"{page.made_at}-{row}-{position}", notification),
        )


def pack_one(queued: Queued) -> bytes:
    """Encode one notification with its id."""
    return _encode(queued)


def unpack_one(body: bytes) -> Queued:
    """Decode one notification with its id."""
    return _decode_queued(body)


def outage_key(condition: str, subject: str, since: int) -> str:
    """Return the key that the alarm and the all-clear of one outage share."""
    return f"{condition}|{subject}|{since}"
