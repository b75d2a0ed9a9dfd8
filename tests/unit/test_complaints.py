"""Lines of the log that strangers can cause: few, whatever they do, and nothing is hidden by it."""

import logging

import pytest

from mqtt_presence.complaints import Complaints, shown


def test_a_flood_makes_one_line_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """For each kind, with the number of those left out; the first is told at once, whatever the clock says."""
    now = 0.001
    complaints = Complaints(logging.getLogger("test"), lambda: now)
    for n in range(1000):
        complaints.complain("wrong password of %s", n)
        complaints.complain("no room")
    now += 10.5
    complaints.complain("wrong password of %s", "alice", level=logging.ERROR)
    now += 10.5
    complaints.complain("wrong password of %s", "bob")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "wrong password of 0"),
        ("WARNING", "no room"),
        ("ERROR", "wrong password of alice (and 999 more like it before)"),
        ("WARNING", "wrong password of bob"),
    ]


def test_what_somebody_gives_is_escaped_and_cut() -> None:
    """A name cannot forge a line, nor make it endless; one that is allowed is whole."""
    assert shown("alice") == "'alice'"
    assert shown("a\n2026 \x1b[2J\u202e") == r"'a\n2026 \x1b[2J\u202e'"
    assert shown("x" * 65_535) == f"'{'x' * 300}'…"
    assert shown("é" * 128) == "'" + r"\xe9" * 128 + "'"
