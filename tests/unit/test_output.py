"""Tables that are printed row by row."""

import io
import re
import sys
import time
from collections.abc import Iterator

import pytest

from mqtt_presence.cli import output
from mqtt_presence.cli.output import Cell, counted, format_last_seen, format_short_time, print_table
from mqtt_presence.rules.model import State


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rows_are_printed_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are printed while more are read: only those that set the widths are kept."""
    printed = 0

    def rows() -> Iterator[tuple[Cell, Cell]]:
        nonlocal printed
        for number in range(5 * output._MEASURED):
            printed += len(capsys.readouterr().out.splitlines())
            assert number - printed <= output._MEASURED
            yield Cell(f"user-{number}"), Cell(number)

    print_table(("USER", "NUMBER"), rows())
    assert printed > 4 * output._MEASURED


def test_a_long_cell_moves_its_row_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines have no trailing spaces; wide letters count with their width on a screen."""
    many = [(Cell("a"), Cell("", "red"), Cell("x"))] * output._MEASURED
    late = (Cell("longer than all before"), Cell("b"), Cell(""))
    print_table(("NAME", "", "LAST"), [(Cell("用户用户"), Cell("b"), Cell("y")), *many, late])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["NAME" + " " * 9 + "LAST", "用户用户  b  y", "a" + " " * 12 + "x"]
    assert lines[-1] == "longer than all before  b"


def test_a_table_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer cells are wrapped in their column without loss, and colour codes stay in their cells."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_table(("NAME", "SEEN"), [(Cell("z" * 25, "green"), Cell("some words that are long " * 2))])
    text = terminal.getvalue()
    assert "\x1b[32m" in text
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= 30
    assert sum(line.count("z") for line in lines) == 25
    for word in ("some", "words", "that", "are", "long"):
        assert sum(line.count(word) for line in lines) == 2


def test_forced_colours_make_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the environment forces colours for a file, lines are not wrapped, and there is no live display."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(("NAME",), [(Cell("n" * 300, "green"),)])
    assert "\x1b[32m" + "n" * 300 in capsys.readouterr().out
    assert not output.live_console().is_terminal


def test_a_user_was_last_seen_now_while_active() -> None:
    """An idle user was there at the last activity, an absent one at the last sign of life."""
    seen, active = 1_795_575_219_000, 1_795_575_100_000
    assert format_last_seen(State.ONLINE, seen, None) == "active now"
    assert format_last_seen(State.IDLE, seen, active) == format_short_time(active)
    assert format_last_seen(State.IDLE, seen, None) == format_short_time(seen)
    assert format_last_seen(State.OFFLINE, seen, active) == format_short_time(seen)
    assert format_last_seen(State.OFFLINE, None, None) == "-"


def test_number_has_its_noun_in_the_right_number() -> None:
    """One is singular, and zero is not."""
    assert [counted(n, "user") for n in (0, 1, 2)] == ["0 users", "1 user", "2 users"]


def test_times_in_tables_are_short() -> None:
    """Month, day and time within the last months; the date with its year before that."""
    now = round(time.time() * 1000)
    assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d:\d\d", format_short_time(now))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", format_short_time(now - 400 * 86_400_000))
    assert format_short_time(None) == "-"
