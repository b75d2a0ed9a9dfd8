"""How commands show things. Names come from clients and may be hostile: all is escaped here."""

import errno
import io
import operator
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, islice, zip_longest
from typing import NamedTuple, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mqtt_presence.rules.model import State

CANNOT_WRITE = 74
"""The exit code when standard output cannot be written: EX_IOERR of sysexits.h, which no command uses."""
PIPE_CLOSED = 141
"""The exit code when the reader of standard output has ended: as a shell reports SIGPIPE."""

_STANDARD_ERROR = 2

STYLES = {State.ONLINE: "green", State.IDLE: "yellow", State.OFFLINE: "bright_black"}
"""Online green, idle amber, offline grey."""

_UNLIMITED = 100_000
_MEASURED = 500
"""Rows that decide on the widths of a table's columns."""
_GAP = 2
_NARROW = 8
"""A column that does not fit a terminal is made no narrower than this."""
_BESIDE_ASCII = re.compile("[^ -~]")
_LONG_NUMBER = re.compile(r"(\d{40})\d+")


def plain(text: str) -> str:
    r"""Make a text harmless to a terminal: what cannot be seen becomes ``\x1b``, ``\u202e`` and the like."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(text: object, style: str = "") -> Text:
    """Make a cell of a table; it is not taken for markup."""
    return Text(plain(str(text)), style)


def console() -> Console:
    """Make the console of standard output; except on a terminal, lines are never wrapped.

    Colours may be forced by the environment (`FORCE_COLOR`); a terminal is not.
    """
    width = None if on_terminal() else _UNLIMITED
    return Console(highlight=False, markup=False, emoji=False, width=width)


def on_terminal() -> bool:
    """Return whether standard output is a terminal, and so can show what is drawn over again."""
    return sys.stdout.isatty()


def live_console() -> Console:
    """Make the console of standard error for live displays; `is_terminal` tells whether to use it."""
    # rich would take a file for a terminal where the environment forces colours.
    is_terminal = sys.stderr.isatty()
    return Console(stderr=True, highlight=False, markup=False, emoji=False, force_terminal=is_terminal)


class Cell(NamedTuple):
    """A cell of a table that is printed row by row."""

    text: object
    style: str = ""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table row by row, so that it needs no more memory than the first rows, which set the widths.

    On a terminal the table fits its width, and longer cells are wrapped. Elsewhere a longer cell moves the
    rest of its row to the right.

    Args:
        columns: the headings.
        rows: any number of them; each has a cell for each column.

    """
    upcoming = iter(rows)
    first = [[*map(_shown, row)] for row in islice(upcoming, _MEASURED)]
    heading = [Cell(column, "bold") for column in columns]
    printer = _RowPrinter([heading, *first])
    for row in chain([heading], first, ([*map(_shown, row)] for row in upcoming)):
        printer.print(row)
    sys.stdout.flush()


def _shown(cell: Cell) -> Cell:
    return Cell(plain(str(cell.text)), cell.style)


def _width(cell: Cell) -> int:
    text = str(cell.text)
    return len(text) if text.isascii() else cell_len(text)


class _RowPrinter:
    """Prints rows in columns as wide as some of them need.

    Args:
        measured: the rows that set the widths.

    """

    def __init__(self, measured: Sequence[Sequence[Cell]]) -> None:
        self._on = console()
        self._is_terminal = on_terminal()
        self._widths = [max(map(_width, column)) for column in zip(*measured, strict=True)]
        self._codes: dict[str, tuple[str, str]] = {}
        if self._is_terminal:
            self._narrow(self._on.width - _GAP * (len(self._widths) - 1))

    def print(self, row: Sequence[Cell]) -> None:
        if not self._is_terminal or all(map(operator.le, map(_width, row), self._widths)):
            self._print_line(row)
            return
        for line in zip_longest(*map(self._wrapped, row, self._widths), fillvalue=Cell("")):
            self._print_line(line)

    def _narrow(self, room: int) -> None:
        """Take from the widest columns until all of them fit."""
        widths = self._widths
        while sum(widths) > room and max(widths) > _NARROW:
            widths[widths.index(max(widths))] -= 1

    def _wrapped(self, cell: Cell, width: int) -> list[Cell]:
        lines = Text(str(cell.text)).wrap(self._on, width, overflow="fold")
        return [Cell(line.plain.rstrip(), cell.style) for line in lines]

    def _print_line(self, row: Iterable[Cell]) -> None:
        parts: list[str] = []
        blank = 0
        for cell, width in zip(row, self._widths, strict=True):
            if cell.text != "":  # spaces only where something follows: no line ends in them
                parts.append(" " * blank + self._styled(cell))
                blank = 0
            blank += max(0, width - _width(cell)) + _GAP
        print("".join(parts))  # noqa: T201

    def _styled(self, cell: Cell) -> str:
        if not cell.style:
            return str(cell.text)
        if cell.style not in self._codes:
            with self._on.capture() as capture:
                self._on.print(Text("|", cell.style), end="")
            before, _, after = capture.get().partition("|")
            self._codes[cell.style] = before, after
        before, after = self._codes[cell.style]
        return f"{before}{cell.text}{after}"


def table(on: Console, *columns: str) -> Table:
    """Make a table that is drawn at once; see `print_table` for one that may be long."""
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
        print_error(str(error))
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


def print_line(text: str) -> None:
    """Print a line."""
    print(plain(text), flush=True)  # noqa: T201, it is what a command is for


def print_json(payload: bytes) -> None:
    """Print a JSON object as a line, in ASCII: exact in any encoding, and harmless to a terminal."""
    print(_BESIDE_ASCII.sub(_escaped, payload.decode()), flush=True)  # noqa: T201


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def print_error(text: str) -> None:
    """Write what went wrong on standard error, if that can be written."""
    line = plain(_LONG_NUMBER.sub(r"\1…", text))
    with suppress(OSError):
        print(f"mqtt-presence: {line}", file=sys.stderr, flush=True)  # noqa: T201


def format_time(millis: int | None) -> str:
    """Write a time in the zone of whoever looks; none: a dash."""
    if millis is None:
        return "-"
    return datetime.fromtimestamp(millis / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_duration(millis: int) -> str:
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
