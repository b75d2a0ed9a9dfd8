"""Counts five habits of unclear prose: ``python -m tests.prose``, a part of `make check`.

The script reads the docstrings and comments of the package, and the documents. A count is per 1,000 words; above
its limit the script fails and prints the places.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mqtt_presence"

_AFTER_WHAT = (
    "is was has had it they we the he she comes came must may can does do a an of there else this that would other"
    " every broker bridge clients? makes depends waits wants goes lies follows belongs needs"
)


class Habit(NamedTuple):
    """A pattern, and how often it may occur in 1,000 words."""

    pattern: re.Pattern[str]
    limit: float


HABITS = {
    "a clause with `what` as a noun": Habit(
        re.compile(rf"\b[Ww]hat (?:{_AFTER_WHAT.replace(' ', '|')})\b"), 1.0
    ),
    "`who` without a noun": Habit(
        re.compile(r"\b(?:[Ww]hoever|[Ww]hom|(?:^|[.;:,(] ?)[Ww]ho (?!is online)|(?:for|of|to|from) who )\b"),
        0.2,
    ),
    "a text that opens with it, that, they, one": Habit(
        re.compile(r"^\W*(?:It|That|They|One|Those|These|Them)\b"), 0.5
    ),
    "tell or say": Habit(re.compile(r"\b(?:tells?|told|says?|said|saying)\b"), 1.0),
    "nobody, nothing, no more": Habit(
        re.compile(r"\b(?:[Nn]obody|[Nn]othing|[Nn]one of|no more|any more|neither|nor)\b"), 1.5
    ),
}


class Text(NamedTuple):
    """A docstring, a comment, or a paragraph, list item or cell of a document."""

    path: Path
    line: int
    words: str


def _one_line(text: str) -> str:
    return " ".join(text.split())


def of_python(path: Path) -> Iterator[Text]:
    """Yield the docstrings of a Python file, and the comments that stand on lines of their own."""
    source = path.read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(docstring))):
                yield Text(path, node.lineno, _one_line(docstring))
    block: list[str] = []
    for number, line in enumerate([*source.splitlines(), ""], start=1):
        if line.strip().startswith("#"):
            block.append(line.strip().lstrip("#"))
        elif block:
            yield Text(path, number - len(block), _one_line(" ".join(block)))
            block = []


def of_markdown(path: Path) -> Iterator[Text]:
    """Yield the paragraphs, list items and table cells of a document, without its code."""
    source = re.sub(
        r"^```.*?^```",
        lambda code: "\n" * code[0].count("\n"),
        path.read_text("utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    block: list[str] = []
    for number, line in enumerate([*source.splitlines(), ""], start=1):
        is_row = line.startswith("|")
        if block and (not line.strip() or is_row or re.match(r" *(?:[-*]|\d+\.) |#", line)):
            yield Text(path, number - len(block), _one_line(" ".join(block)))
            block = []
        if is_row:
            yield from (Text(path, number, _one_line(cell)) for cell in line.split("|") if cell.strip())
        elif line.strip():
            block.append(line)


def count(texts: Iterable[Text]) -> tuple[int, dict[str, list[Text]]]:
    """Return the number of words, and for each habit the text of each occurrence."""
    words = 0
    found: dict[str, list[Text]] = {name: [] for name in HABITS}
    for text in texts:
        words += len(text.words.split())
        for name, habit in HABITS.items():
            found[name] += [text] * len(habit.pattern.findall(text.words))
    return words, found


def report(subject: str, texts: Iterable[Text]) -> bool:
    """Print the counts, and the places of each habit that is above its limit; return whether all are below."""
    words, found = count(texts)
    print(f"{subject}: {words:,} words")
    is_good = True
    for name, places in found.items():
        rate = 1000 * len(places) / max(words, 1)
        is_high = rate > HABITS[name].limit
        print(f"  {rate:5.1f} {'>' if is_high else '<='} {HABITS[name].limit}  {name}")
        if is_high:
            is_good = False
            for text in places:
                print(f"      {text.path.relative_to(ROOT)}:{text.line}: {text.words[:100]}")
    return is_good


def documents() -> list[Path]:
    """Return the documents that are checked."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def main() -> int:
    """Check the package and the documents; return the exit code."""
    code = [text for path in sorted(PACKAGE.rglob("*.py")) for text in of_python(path)]
    pages = [text for path in documents() for text in of_markdown(path)]
    results = [report("docstrings and comments", code), report("documents", pages)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
