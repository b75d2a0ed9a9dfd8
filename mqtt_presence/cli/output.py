"""Output of the commands: lines, tables, times. Everything is escaped, since clients choose the names."""

import errno
import io
import operator
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, islice, zip_longest
from typing import NamedTuple, TextIO

from msgspec import Struct
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mqtt_presence.protocol.csv_text import csv_lines
from mqtt_presence.rules.model import State

CANNOT_WRITE = 74
"""The exit code if standard output cannot be written: EX_IOERR of sysexits.h."""
PIPE_CLOSED = 141
"""The exit code if the reader of standard output has ended; a shell reports SIGPIPE alike."""

_STANDARD_ERROR = 2

STYLES = {State.ONLINE: "green", State.IDLE: "yellow", State.OFFLINE: "bright_black"}

_UNLIMITED = 100_000
_SHORT_FOR = timedelta(days=300)
_MEASURED = 500
"""The number of rows that set the widths of a table's columns."""
_GAP = 2
_NARROW = 8
"""The minimum width of columns that are narrowed to fit a terminal."""
_NOT_PRINTABLE_ASCII = re.compile("[^ -~]")
_LONG_NUMBER = re.compile(r"(\d{40})\d+")


def plain(text: str) -> str:
    r"""Escape invisible characters, e.g. as ``\x1b`` or ``\u202e``, so that a terminal does not obey them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(text: object, style: str = "") -> Text:
    """Return a cell of a table: escaped, and never read as markup."""
    return Text(plain(str(text)), style)


def console() -> Console:
    """Return a console for standard output, which wraps lines only on a terminal.

    The environment may force colours (`FORCE_COLOR`), but does not make a terminal of a file.
    """
    width = None if on_terminal() else _UNLIMITED
    return Console(highlight=False, markup=False, emoji=False, width=width)


def on_terminal() -> bool:
    """Return whether standard output is a terminal, on which output can be redrawn."""
    return sys.stdout.isatty()


def live_console() -> Console:
    """Return a console for live displays on standard error; use it only if its `is_terminal` is true."""
    # If the environment forces colours, rich would treat a file as a terminal.
    is_terminal = sys.stderr.isatty()
    return Console(stderr=True, highlight=False, markup=False, emoji=False, force_terminal=is_terminal)


class Cell(NamedTuple):
    """A cell of a table that is printed row by row."""

    text: object
    style: str = ""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table row by row; only the first rows, which set the widths, are kept in memory.

    On a terminal, the table fits the width and longer cells are wrapped. Elsewhere, a longer cell moves the
    rest of its row to the right.

    Args:
        columns: the headings.
        rows: any number of rows, each with a cell for each column.

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
    """Prints rows in columns whose widths fit some measured rows.

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

    def _narrow(self, available: int) -> None:
        """Narrow the widest columns until the row fits."""
        widths = self._widths
        while sum(widths) > available and max(widths) > _NARROW:
            widths[widths.index(max(widths))] -= 1

    def _wrapped(self, cell: Cell, width: int) -> list[Cell]:
        lines = Text(str(cell.text)).wrap(self._on, width, overflow="fold")
        return [Cell(line.plain.rstrip(), cell.style) for line in lines]

    def _print_line(self, row: Iterable[Cell]) -> None:
        parts: list[str] = []
        blank = 0
        for cell, width in zip(row, self._widths, strict=True):
            if cell.text != "":  # avoids trailing spaces
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


class OutputError(Exception):
    """Standard output cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror or error}")
        self.is_closed_pipe = error.errno == errno.EPIPE


class _Output(io.TextIOWrapper):
    """Standard output whose errors are distinct from those of other files."""

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
    """End the process with an error message and `CANNOT_WRITE` if standard output fails in this block.

    A closed pipe ends the process with `PIPE_CLOSED` and no message: the reader wants no more output.
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
        _flush_errors()


def _open_missing() -> None:
    """Open closed standard streams; otherwise, the next file or socket would get their descriptors."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _flush_errors() -> None:
    """Flush standard error; a failure is ignored, since it must not change the exit code."""
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Discard the rest of a stream, so that Python's own flush at exit succeeds."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def print_line(text: str) -> None:
    """Print a line on standard output."""
    print(plain(text), flush=True)  # noqa: T201, the output of a command


def print_json(payload: bytes) -> None:
    """Print a JSON object as a line, in ASCII: readable in any encoding, and safe for a terminal."""
    print(_NOT_PRINTABLE_ASCII.sub(_escaped, payload.decode()), flush=True)  # noqa: T201


def print_csv(kind: type[Struct], entries: Iterable[Struct]) -> None:
    """Print entries as CSV with a line of names."""
    shown = plain if on_terminal() else str
    for line in csv_lines(kind, entries):
        print(shown(line.removesuffix("\r\n")))  # noqa: T201, the output of a command
    sys.stdout.flush()


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def print_error(text: str) -> None:
    """Print an error message on standard error; ignore a failure to write."""
    line = plain(_LONG_NUMBER.sub(r"\1…", text))
    with suppress(OSError):
        print(f"mqtt-presence: {line}", file=sys.stderr, flush=True)  # noqa: T201


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_time(millis: int | None) -> str:
    """Return a time in the local time zone; a dash for None."""
    if millis is None:
        return "-"
    return datetime.fromtimestamp(millis / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_short_time(millis: int | None) -> str:
    """Return a time in the local time zone for a narrow table: without the year within the last months."""
    if millis is None:
        return "-"
    moment = datetime.fromtimestamp(millis / 1000, UTC).astimezone()
    age = datetime.now(UTC) - moment
    return moment.strftime("%m-%d %H:%M:%S" if abs(age) < _SHORT_FOR else "%Y-%m-%d")


def format_last_seen(state: State, last_seen: int | None, last_activity: int | None) -> str:
    """Return the time at which a user was there last: now while active, the last activity while idle.

    Args:
        state: the user's state.
        last_seen: the last sign of life, epoch milliseconds.
        last_activity: the last activity of an idle user.

    """
    if state is State.ONLINE:
        return "active now"
    return format_short_time(
        last_activity if state is State.IDLE and last_activity is not None else last_seen
    )


def format_duration(millis: int) -> str:
    """Return a duration in its two largest units: ``3d 4h``, ``12m 5s``."""
    left = max(0, millis // 1000)
    parts: list[str] = []
    for name, size_s in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size_s)
        if count or (name == "s" and not parts):
            parts.append(f"{count}{name}")
        elif parts:
            break
    return " ".join(parts[:2])
