"""Durations as people write them in settings: seconds, or a number with a unit."""

import re

_UNITS_S = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def read_duration(text: str) -> float:
    """Return the seconds of a duration: ``90``, ``500ms``, ``90s``, ``10m``, ``12h`` or ``30d``.

    Raises:
        ValueError: the text is no duration.

    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a duration such as 90, 90s, 10m, 12h or 30d")
    return float(found[1]) * _UNITS_S[found[2] or ""]
