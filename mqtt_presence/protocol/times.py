"""Epoch milliseconds and ISO 8601: the two ways the contract writes a time."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
LATEST = 253_402_300_799_999
"""The last millisecond that ISO 8601 can write in four digits of year: 9999-12-31T23:59:59.999Z."""


@lru_cache(maxsize=1024)  # a batch has a handful of times, in a thousand messages
def to_iso(millis: int) -> str:
    """Write a time as ``2026-11-24T21:47:00.123Z``.

    Args:
        millis: epoch milliseconds, 0 to `LATEST`.

    """
    return (_EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds").removesuffix(
        "+00:00"
    ) + "Z"


def from_iso(text: str) -> int:
    """Read ISO 8601 with an offset into epoch milliseconds.

    Raises:
        ValueError: it is not that, has no offset, or lies before 1970.

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
    """Return the time if it is one that can be written.

    Raises:
        ValueError: it lies before 1970 or after 9999.

    """
    if not 0 <= millis <= LATEST:
        raise ValueError(f"{millis} is not a time between 1970 and 9999 in milliseconds")
    return millis


def wall_clock() -> int:
    """Tell the time in epoch milliseconds."""
    return time.time_ns() // 1_000_000
