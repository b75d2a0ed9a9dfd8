"""The threat model and the tests hold each other: no line without a test, no test without a line."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/security.md").read_text("utf-8")
_HOLDS = "## Tests of each line"
LINES = re.findall(r"^\| ([A-Z]\d+) \|", TEXT.split(_HOLDS)[0], re.MULTILINE)
HELD = {
    line: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
    for line, tests in re.findall(r"^\| ([A-Z]\d+) \| (.+) \|$", TEXT.split(_HOLDS)[1], re.MULTILINE)
}


def names_of_tests(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_line_has_an_id_of_its_own() -> None:
    """Ids are unique, and count without a gap."""
    assert len(LINES) >= 40
    assert [line for line, times in Counter(LINES).items() if times > 1] == []
    for letter in {line[0] for line in LINES}:
        numbers = [int(line[1:]) for line in LINES if line[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1)), letter


@pytest.mark.parametrize("line", LINES)
def test_each_line_is_held(line: str) -> None:
    """A claim without a test is a hope; a test that was renamed is none."""
    assert HELD.get(line), f"nothing holds {line}"
    for path, name in HELD[line]:
        assert (ROOT / path).exists(), path
        assert name in names_of_tests(ROOT / path), f"{path} has no {name}"


def test_each_held_line_exists() -> None:
    """Nothing is held that is not claimed."""
    assert HELD.keys() == set(LINES)


def test_each_security_test_holds_a_line() -> None:
    """Who adds a test here says in the threat model what it is for."""
    named = {(path, name) for tests in HELD.values() for path, name in tests}
    for path in sorted((ROOT / "tests/security").glob("test_*.py")):
        if path == Path(__file__):
            continue
        where = path.relative_to(ROOT).as_posix()
        for name in names_of_tests(path):
            assert (where, name) in named, f"{where}::{name} holds no line of docs/security.md"
