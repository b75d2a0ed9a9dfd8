"""Times of the protocol: epoch milliseconds, and ISO 8601 text."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
LATEST = 253_402_300_799_999
"""The last millisecond that ISO 8601 can write in four digits of year: 9999-12-31T23:59:59.999Z."""


@lru_cache(maxsize=1024)  # A batch of a thousand messages has a handful of different times.
def to_iso(millis: int) -> str:
    """Return a time as ``2026-11-24T21:47:00.123Z``.

    Args:
        millis: epoch milliseconds, 0 to `LATEST`.

    """
    return (_EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds").removesuffix(
        "+00:00"
    ) + "Z"


def from_iso(text: str) -> int:
    """Return the epoch milliseconds of ISO 8601 text with an offset.

    Raises:
        ValueError: the text is no ISO 8601, has no offset, or lies before 1970.

    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    try:
        millis = (moment - _EPOCH) // _MILLISECOND
    except OverflowError:
        millis = -1
    return in_range(millis)


def in_range(millis: int) -> int:
    """Return the time unchanged if it is in the range of the protocol.

    Raises:
        ValueError: the time lies before 1970 or after 9999.

    """
    if not 0 <= millis <= LATEST:
        raise ValueError(f"{millis} is not a time between 1970 and 9999 in milliseconds")
    return millis


def wall_clock() -> int:
    """Return the current time in epoch milliseconds."""
    return time.time_ns() // 1_000_000
