"""The unit tests of the browser client, which run in Node: each file of them is one test here."""

from pathlib import Path

import pytest

from tests.support.node import TESTS, run_tests

FILES = sorted(TESTS.glob("*.test.js"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name.removesuffix(".test.js"))
def test_unit_tests_in_node_pass(file: Path) -> None:
    """All tests of the file pass, and none is left out."""
    counts = run_tests(file)
    written = file.read_text("utf-8").count("\ntest(")
    assert (counts["fail"], counts["cancelled"], counts["skipped"], counts["todo"]) == (0, 0, 0, 0)
    assert counts["pass"] >= written > 0


def test_there_are_tests_in_node() -> None:
    """A file that is moved away is noticed."""
    assert {file.name.partition(".")[0] for file in FILES} >= {
        "client",
        "idle-monitor",
        "idle-state",
        "time-sync",
    }
