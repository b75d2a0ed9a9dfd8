"""The shipped ``broker_config/`` directory: its files, and edits of their lines.

The directory is the only source of broker configuration: operators install it by hand, ``init-broker`` fills
it in, ``check`` quotes it, and the tests start brokers with it.
"""

from collections.abc import Mapping
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "broker_config", _PACKAGE.parent / "broker_config")
"""In an installed wheel, and in a checkout."""


def shipped_directory() -> Path:
    """Return the path of ``broker_config/``."""
    return next(place for place in _PLACES if place.is_dir())


def shipped(broker: str, name: str) -> str:
    """Return the text of a file of ``broker_config/<broker>/``."""
    return (shipped_directory() / broker / name).read_text("utf-8")


def replace_lines(text: str, lines: Mapping[str, str | None]) -> str:
    """Replace whole lines; None removes the line.

    Raises:
        LookupError: the template does not have a line exactly once.

    """
    out = text.splitlines()
    for old, new in lines.items():
        if out.count(old) != 1:
            raise LookupError(f"{old!r} is {out.count(old)} times in the template, not once")
        at = out.index(old)
        out[at : at + 1] = [] if new is None else new.splitlines()
    return "\n".join(out) + ("\n" if text.endswith("\n") else "")


def blocks(text: str) -> list[str]:
    """Split a text at its empty lines."""
    return text.rstrip("\n").split("\n\n")


def join(parts: list[str]) -> str:
    """Join blocks with empty lines, the reverse of `blocks`."""
    return "\n\n".join(parts) + "\n"
