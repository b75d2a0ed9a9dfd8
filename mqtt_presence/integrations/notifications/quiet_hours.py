"""Quiet hours: the daily time in which alarms wait, as ``22:00-07:00 Europe/Berlin``."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

_QUIET = re.compile(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)(?:\s+(\S+))?")


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A time of each day; `end` before `begin` is the next day.

    Args:
        begin: its first minute.
        end: the minute after it.
        zone: whose clock counts; None: this machine's.

    """

    begin: time
    end: time
    zone: ZoneInfo | None

    def cover(self, now: int) -> bool:
        """Return whether a moment is quiet.

        Args:
            now: epoch milliseconds.

        """
        moment = datetime.fromtimestamp(now / 1000, UTC).astimezone(self.zone).time()
        if self.begin <= self.end:
            return self.begin <= moment < self.end
        return moment >= self.begin or moment < self.end


def read_quiet_hours(text: str) -> QuietHours:
    """Return the quiet hours that a text describes.

    Raises:
        ValueError: it describes none, or there is no such time zone.

    """
    found = _QUIET.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be like 22:00-07:00 Europe/Berlin")
    begin, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    if begin == end:
        raise ValueError("must not begin and end at the same time")
    if found[5] is None:
        return QuietHours(begin, end, None)
    try:
        return QuietHours(begin, end, ZoneInfo(found[5]))
    except (OSError, ValueError, LookupError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"there is no time zone {found[5][:60]!r}") from None
