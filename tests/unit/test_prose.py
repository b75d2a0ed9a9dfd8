"""The count of habits: each text is read once, and each habit is found where it is and only there."""

from pathlib import Path

import pytest

from tests import prose

CODE = '''"""It says what is kept."""

# Nobody
# reads this.
LIMIT = 1  # a comment beside code is not counted


def run():
    """Return the limit."""
    text = "what is kept"
    return text
'''
PAGE = """# Say

It is told
on two lines.

- whoever comes
- an item

| cell | says |
|---|---|

```sh
echo nothing
```
"""


def texts(tmp_path: Path, name: str, content: str) -> list[tuple[int, str]]:
    path = tmp_path / name
    path.write_text(content)
    read = prose.of_markdown if name.endswith(".md") else prose.of_python
    return [(text.line, text.words) for text in read(path)]


def test_python_has_docstrings_and_comments(tmp_path: Path) -> None:
    """Strings and comments beside code are left out, and lines of one comment are one text."""
    assert texts(tmp_path, "code.py", CODE) == [
        (1, "It says what is kept."),
        (9, "Return the limit."),
        (3, "Nobody reads this."),
    ]


def test_markdown_has_paragraphs_items_and_cells(tmp_path: Path) -> None:
    """Code is left out, and the line of each text is its first."""
    found = texts(tmp_path, "page.md", PAGE)
    assert [text for text in found if set(text[1]) - set("-")] == [
        (1, "# Say"),
        (3, "It is told on two lines."),
        (6, "- whoever comes"),
        (7, "- an item"),
        (9, "cell"),
        (9, "says"),
    ]


@pytest.mark.parametrize(
    ("words", "habits"),
    [
        ("Return the pending messages.", [0, 0, 0, 0, 0]),
        ("What the broker has is kept, and what is kept counts.", [2, 0, 0, 0, 0]),
        ("Whoever logs in. Who logs out is of who cares.", [0, 3, 0, 0, 0]),
        ("The client who logs in.", [0, 0, 0, 0, 0]),
        ("They end.", [0, 0, 1, 0, 0]),
        ("The end: They end.", [0, 0, 0, 0, 0]),
        ("The bridge tells, said so, and says it.", [0, 0, 0, 3, 0]),
        ("Nobody and nothing, neither one nor none of them.", [0, 0, 0, 0, 5]),
    ],
)
def test_habits_are_counted(words: str, habits: list[int]) -> None:
    """Each habit has sentences that show it, and sentences that do not."""
    total, found = prose.count([prose.Text(Path("x.py"), 1, words)])
    assert total == len(words.split())
    assert [len(places) for places in found.values()] == habits


def test_above_a_limit_the_places_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The report names file and line, and fails."""
    bad = prose.Text(prose.ROOT / "mqtt_presence/x.py", 7, "Nobody says what is kept.")
    good = prose.Text(prose.ROOT / "mqtt_presence/y.py", 1, "Return the limit.")
    assert not prose.report("code", [bad])
    assert "mqtt_presence/x.py:7: Nobody says" in capsys.readouterr().out
    assert prose.report("code", [good])
    assert "y.py" not in capsys.readouterr().out
