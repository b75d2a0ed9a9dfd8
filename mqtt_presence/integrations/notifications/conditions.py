"""The conditions of alarms: ``offline > 10m``, ``online < 3 for 5m``, ``flaps > 5/h`` and so on."""

import re
from dataclasses import dataclass
from enum import StrEnum

from mqtt_presence.protocol.durations import read_duration

_PERIODS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}
_LONGEST_MS = 365 * 86_400_000
_MOST = 1_000_000

_STATE = re.compile(r"(offline|idle)\s*>\s*(\S+)")
_ONLINE = re.compile(r"online\s*<\s*(\d+)(?:\s+for\s+(\S+))?")
_FLAPS = re.compile(r"flaps\s*>\s*(\d+)\s*/\s*([mhd])")
_NOBODY = re.compile(r"nobody(?:\s+for\s+(\S+))?")


class ConditionKind(StrEnum):
    """The kinds of conditions."""

    OFFLINE = "offline"
    IDLE = "idle"
    FLAPS = "flaps"
    ONLINE = "online"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of one user, or of all users that a pattern matches together.

    Args:
        kind: of the condition.
        duration_ms: how long it must hold; for flaps, the period in which they are counted. Milliseconds.
        limit: for flaps, the number that must be exceeded; for a group, fewer users online than this.

    """

    kind: ConditionKind
    duration_ms: int
    limit: int = 0

    @property
    def is_of_group(self) -> bool:
        """Whether it is about all users of a pattern together."""
        return self.kind in {ConditionKind.ONLINE, ConditionKind.NOBODY}

    def __str__(self) -> str:
        duration = _written(self.duration_ms)
        held = f" for {duration}" if self.duration_ms else ""
        match self.kind:
            case ConditionKind.OFFLINE | ConditionKind.IDLE:
                return f"{self.kind} > {duration}"
            case ConditionKind.FLAPS:
                return f"flaps > {self.limit}/{duration.lstrip('1')}"
            case ConditionKind.ONLINE:
                return f"online < {self.limit}{held}"
            case ConditionKind.NOBODY:
                return f"nobody{held}"


def read_condition(text: str) -> Condition | None:
    """Return the condition that a text describes; None: it describes no condition.

    Raises:
        ValueError: a duration or number in it is wrong.

    """
    text = text.strip()
    if found := _STATE.fullmatch(text):
        return Condition(ConditionKind(found[1]), _duration(found[2]))
    if found := _ONLINE.fullmatch(text):
        return Condition(ConditionKind.ONLINE, _duration(found[2] or "0"), _number(found[1]))
    if found := _FLAPS.fullmatch(text):
        return Condition(ConditionKind.FLAPS, _PERIODS_MS[found[2]], _number(found[1]))
    if found := _NOBODY.fullmatch(text):
        return Condition(ConditionKind.NOBODY, _duration(found[1] or "0"), 1)
    return None


def _duration(text: str) -> int:
    millis = round(read_duration(text) * 1000)
    if not 0 <= millis <= _LONGEST_MS:
        raise ValueError(f"{text} must be a duration from 0 to 365d")
    return millis


def _number(text: str) -> int:
    number = int(text[:10])
    if not 1 <= number <= _MOST:
        raise ValueError(f"{text[:10]} must be a number from 1 to {_MOST}")
    return number


def _written(millis: int) -> str:
    """Write a duration in the largest unit that gives a whole number."""
    for unit, size in _UNITS_MS.items():
        if millis % size == 0 and millis:
            return f"{millis // size}{unit}"
    return f"{millis}ms" if millis else "0s"
