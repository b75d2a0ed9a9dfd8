"""Statuses and connections as CSV (RFC 4180), for spreadsheets."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of cells that spreadsheets run as formulas; clients choose some of these texts."""


def csv_lines(kind: type[msgspec.Struct], entries: Iterable[msgspec.Struct]) -> Iterator[str]:
    """Return a line of names and a line for each entry; inner fields get the outer name, too.

    Args:
        kind: the type of the entries.
        entries: any number of them; each is read when its line is fetched.

    """
    columns = list(_columns(kind))
    text = io.StringIO()
    writer = csv.writer(text)
    for row in _rows(columns, entries):
        writer.writerow(row)
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _rows(columns: list[str], entries: Iterable[msgspec.Struct]) -> Iterator[list[str]]:
    yield columns
    for entry in entries:
        cells = _cells(entry)
        yield [cells.get(column, "") for column in columns]


def _columns(kind: type[msgspec.Struct], before: str = "") -> list[str]:
    names = []
    for field in msgspec.structs.fields(kind):
        inner = [part for part in getattr(field.type, "__args__", ()) if _is_struct(part)]
        name = _joined(before, field.encode_name)
        names += _columns(inner[0], name) if inner else [name]
    return names


def _cells(entry: msgspec.Struct, before: str = "") -> dict[str, str]:
    cells: dict[str, str] = {}
    for field in msgspec.structs.fields(entry):
        name, value = _joined(before, field.encode_name), getattr(entry, field.name)
        if isinstance(value, msgspec.Struct):
            cells |= _cells(value, name)
        elif value is not None:
            cells[name] = _cell(value)
    return cells


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _joined(before: str, name: str) -> str:
    return before + name[0].upper() + name[1:] if before else name


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
