"""Log lines that strangers can cause: few in number, and complete in content."""

import logging
from collections.abc import Iterator

import pytest

from mqtt_presence.access.rate_limited_log import LibraryLimit, RateLimitedLog, quoted


def test_a_flood_makes_one_line_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind has its own line, with the number of lines left out, and the first line comes at once."""
    now = 0.001
    limited_log = RateLimitedLog(logging.getLogger("test"), lambda: now)
    for n in range(1000):
        limited_log.log("wrong password of %s", n)
        limited_log.log("no room")
    now += 10.5
    limited_log.log("wrong password of %s", "alice", level=logging.ERROR)
    now += 10.5
    limited_log.log("wrong password of %s", "bob")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "wrong password of 0"),
        ("WARNING", "no room"),
        ("ERROR", "wrong password of alice (and 999 more like it before)"),
        ("WARNING", "wrong password of bob"),
    ]


def test_client_texts_are_escaped_and_cut() -> None:
    """A name cannot forge a line or make it endless, and a valid name is complete."""
    assert quoted("alice") == "'alice'"
    assert quoted("a\n2026 \x1b[2J\u202e") == r"'a\n2026 \x1b[2J\u202e'"
    assert quoted("x" * 65_535) == f"'{'x' * 300}'…"
    assert quoted("é" * 128) == "'" + r"\xe9" * 128 + "'"


class RecordingHandler(logging.Handler):
    """Keeps what a handler of the command would write."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.001
        self.lines: list[tuple[str, str, bool]] = []
        self.addFilter(LibraryLimit("ours", lambda: self.now))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage(), record.exc_info is not None))


@pytest.fixture
def handler() -> Iterator[RecordingHandler]:
    handler = RecordingHandler()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_lines_of_libraries_are_limited(handler: RecordingHandler) -> None:
    """Each place in the code and class of error has one line in ten seconds, with its traceback."""

    def fail(error: Exception) -> None:
        logging.getLogger("library.deep.below").error("it failed for %s", error, exc_info=error)

    for n in range(1000):
        fail(OSError(n))
        fail(ValueError(n))
        logging.getLogger("another").warning("%d%s\n", n, "%s is no format")
    handler.now += 10.5
    fail(OSError("again"))
    logging.getLogger("asyncio").error("a task was lost")
    assert handler.lines == [
        ("ERROR", "it failed for 0", True),
        ("ERROR", "it failed for 0", True),
        ("WARNING", "0%s is no format\n", False),
        ("ERROR", "it failed for again (and 999 more like it before)", True),
        ("ERROR", "a task was lost", False),
    ]


def test_lines_of_the_package_are_not_limited_by_the_handler(handler: RecordingHandler) -> None:
    """The package limits its own lines where it writes them."""
    for n in range(3):
        logging.getLogger("ours.deep").warning("%d", n)
        logging.getLogger("oursish").warning("%d", n)
    assert [text for _, text, _ in handler.lines] == ["0", "0", "1", "2"]
