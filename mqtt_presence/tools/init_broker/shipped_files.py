"""The shipped ``broker_config/``, read where it is, and filled in line by line.

It is the one source: what is installed by hand, what ``init-broker`` writes, and what the tests start.
"""

from collections.abc import Mapping
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]
_PLACES = (_PACKAGE / "broker_config", _PACKAGE.parent / "broker_config")
"""Where it is in an installed wheel, and in a checkout."""


def shipped(broker: str, name: str) -> str:
    """Return the text of a file of ``broker_config/<broker>/``."""
    place = next(place for place in _PLACES if place.is_dir())
    return (place / broker / name).read_text("utf-8")


def replace_lines(text: str, lines: Mapping[str, str | None]) -> str:
    """Replace whole lines; None: the line goes.

    Raises:
        LookupError: a line is not there, or twice: template and code have parted.

    """
    out = text.splitlines()
    for old, new in lines.items():
        if out.count(old) != 1:
            raise LookupError(f"{old!r} is {out.count(old)} times in the template, not once")
        at = out.index(old)
        out[at : at + 1] = [] if new is None else new.splitlines()
    return "\n".join(out) + ("\n" if text.endswith("\n") else "")


def blocks(text: str) -> list[str]:
    """Take a text apart where there is an empty line."""
    return text.rstrip("\n").split("\n\n")


def join(parts: list[str]) -> str:
    """Put it together again."""
    return "\n\n".join(parts) + "\n"
