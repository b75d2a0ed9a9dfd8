"""How commands show things. Names come from clients and may be hostile: all is escaped here."""

import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mqtt_presence.model import State

CANNOT_WRITE = 74
"""The exit code when standard output cannot be written: EX_IOERR of sysexits.h, which no command uses."""
PIPE_CLOSED = 141
"""The exit code when the reader of standard output has ended: as a shell reports SIGPIPE."""

_STANDARD_ERROR = 2

STYLES = {State.ONLINE: "green", State.IDLE: "yellow", State.OFFLINE: "bright_black"}
"""Online green, idle amber, offline grey."""

_UNLIMITED = 100_000
_LONG_NUMBER = re.compile(r"(\d{40})\d+")
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


class OutputError(Exception):
    """Standard output cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror or error}")
        self.is_closed_pipe = error.errno == errno.EPIPE


class _Output(io.TextIOWrapper):
    """Standard output whose errors cannot be taken for those of another file."""

    def write(self, text: str) -> int:
        with _as_output_error():
            return super().write(text)

    def flush(self) -> None:
        with _as_output_error():
            super().flush()


@contextmanager
def _as_output_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(error) from error


@contextmanager
def guarded_output() -> Iterator[None]:
    """End the process with one line and `CANNOT_WRITE` when standard output fails in this block.

    A closed pipe ends it with `PIPE_CLOSED` and no line: the reader has seen enough.
    """
    _open_missing()
    if isinstance(sys.stdout, io.TextIOWrapper):
        before = sys.stdout
        sys.stdout = _Output(
            before.detach(),
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=before.line_buffering,
        )
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputError as error:
        _discard(sys.stdout)
        if error.is_closed_pipe:
            sys.exit(PIPE_CLOSED)
        complain(str(error))
        sys.exit(CANNOT_WRITE)
    finally:
        _give_up_errors()


def _open_missing() -> None:
    """Open standard streams that are closed: the next file or socket would take their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _give_up_errors() -> None:
    """Discard what standard error does not take: it must not change the exit code."""
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Send the rest of a stream nowhere, so that Python's own flush at the end succeeds."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def say(text: str) -> None:
    """Print a line."""
    print(plain(text), flush=True)  # noqa: T201, it is what a command is for


def say_json(payload: bytes) -> None:
    """Print a JSON object as a line: exact, yet without a character that a terminal obeys."""
    text = _RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", payload.decode())
    print(text, flush=True)  # noqa: T201


def complain(text: str) -> None:
    """Write what went wrong on standard error, if that can be written."""
    line = plain(_LONG_NUMBER.sub(r"\1…", text))
    with suppress(OSError):
        print(f"mqtt-presence: {line}", file=sys.stderr, flush=True)  # noqa: T201


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
