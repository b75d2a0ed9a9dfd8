"""How commands show things. Names come from clients and may be hostile: all is escaped here."""

import re
import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mqtt_presence.model import State

STYLES = {State.ONLINE: "green", State.IDLE: "yellow", State.OFFLINE: "bright_black"}
"""Online green, idle amber, offline grey."""

_UNLIMITED = 100_000
_RISKY = re.compile("[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


def plain(text: str) -> str:
    r"""Make a text harmless to a terminal: what cannot be seen becomes ``\x1b``, ``\u202e`` and the like."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(text: object, style: str = "") -> Text:
    """Make a cell of a table; it is not taken for markup."""
    return Text(plain(str(text)), style)


def console() -> Console:
    """Make the console; not on a terminal its lines are as long as they want, for grep and its like."""
    terminal = Console(highlight=False, markup=False, emoji=False)
    if terminal.is_terminal:
        return terminal
    return Console(highlight=False, markup=False, emoji=False, width=_UNLIMITED)


def table(on: Console, *columns: str) -> Table:
    """Make a table: with lines on a terminal, without elsewhere."""
    made = Table(
        box=None,
        header_style="bold",
        padding=(0, 2, 0, 0),
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=not on.is_terminal)
    return made


def say(text: str) -> None:
    """Print a line."""
    print(plain(text), flush=True)  # noqa: T201, it is what a command is for


def say_json(payload: bytes) -> None:
    """Print a JSON object as a line: exact, yet without a character that a terminal obeys."""
    text = _RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", payload.decode())
    print(text, flush=True)  # noqa: T201


def complain(text: str) -> None:
    """Say what went wrong, on standard error."""
    print(f"mqtt-presence: {plain(text)}", file=sys.stderr, flush=True)  # noqa: T201


def moment(millis: int | None) -> str:
    """Write a time in the zone of whoever looks; none: a dash."""
    if millis is None:
        return "-"
    return datetime.fromtimestamp(millis / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(millis: int) -> str:
    """Write a duration, its two greatest units: ``3d 4h``, ``12m 5s``."""
    left = max(0, millis // 1000)
    parts: list[str] = []
    for name, size_s in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size_s)
        if count or (name == "s" and not parts):
            parts.append(f"{count}{name}")
        elif parts:
            break
    return " ".join(parts[:2])
