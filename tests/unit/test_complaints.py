"""Lines of the log that strangers can cause: few, whatever they do, and nothing is hidden by it."""

import logging
from collections.abc import Iterator

import pytest

from mqtt_presence.access.rate_limited_log import LibraryLimit, RateLimitedLog, quoted


def test_a_flood_makes_one_line_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """For each kind, with the number of those left out; the first is told at once, whatever the clock says."""
    now = 0.001
    complaints = RateLimitedLog(logging.getLogger("test"), lambda: now)
    for n in range(1000):
        complaints.log("wrong password of %s", n)
        complaints.log("no room")
    now += 10.5
    complaints.log("wrong password of %s", "alice", level=logging.ERROR)
    now += 10.5
    complaints.log("wrong password of %s", "bob")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "wrong password of 0"),
        ("WARNING", "no room"),
        ("ERROR", "wrong password of alice (and 999 more like it before)"),
        ("WARNING", "wrong password of bob"),
    ]


def test_what_somebody_gives_is_escaped_and_cut() -> None:
    """A name cannot forge a line, nor make it endless; one that is allowed is whole."""
    assert quoted("alice") == "'alice'"
    assert quoted("a\n2026 \x1b[2J\u202e") == r"'a\n2026 \x1b[2J\u202e'"
    assert quoted("x" * 65_535) == f"'{'x' * 300}'…"
    assert quoted("é" * 128) == "'" + r"\xe9" * 128 + "'"


class Kept(logging.Handler):
    """Keeps what a handler of the command would write."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.001
        self.lines: list[tuple[str, str, bool]] = []
        self.addFilter(LibraryLimit("ours", lambda: self.now))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage(), record.exc_info is not None))


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_libraries_are_limited_whatever_their_loggers_are(kept: Kept) -> None:
    """One line in ten seconds for a place in the code and a class of error; errors keep their traceback."""

    def fail(error: Exception) -> None:
        logging.getLogger("library.deep.below").error("it failed for %s", error, exc_info=error)

    for n in range(1000):
        fail(OSError(n))
        fail(ValueError(n))
        logging.getLogger("another").warning("%d%s\n", n, "%s is no format")
    kept.now += 10.5
    fail(OSError("again"))
    logging.getLogger("asyncio").error("a task was lost")
    assert kept.lines == [
        ("ERROR", "it failed for 0", True),
        ("ERROR", "it failed for 0", True),
        ("WARNING", "0%s is no format\n", False),
        ("ERROR", "it failed for again (and 999 more like it before)", True),
        ("ERROR", "a task was lost", False),
    ]


def test_our_own_lines_are_not_left_out(kept: Kept) -> None:
    """They are limited where they are written, if strangers can cause them."""
    for n in range(3):
        logging.getLogger("ours.deep").warning("%d", n)
        logging.getLogger("oursish").warning("%d", n)
    assert [text for _, text, _ in kept.lines] == ["0", "0", "1", "2"]
