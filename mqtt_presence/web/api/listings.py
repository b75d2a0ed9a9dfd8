"""Listings: a page of entries as JSON or CSV, with the cursor of the next page."""

import csv
import enum
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mqtt_presence.web.responses import NO_STORE, json_answer

CSV = "text/csv; charset=utf-8; header=present"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of cells that spreadsheets run as formulas; clients choose some of these texts."""


class Form(enum.Enum):
    """The form of a list."""

    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list.

    Args:
        name: the name of the entries in JSON.
        kind: the type of the entries.
        entries: the entries.
        cursor: the parameter for the next page.
        following: its value; None on the last page.

    """

    name: str
    kind: type[msgspec.Struct]
    entries: Sequence[msgspec.Struct]
    cursor: str
    following: str | None

    def answer(self, request: Request, form: Form) -> Response:
        """Return the response; call it in the thread of the database, as it takes some milliseconds."""
        headers = {}
        if self.following is not None:
            query = [(k, v) for k, v in request.query_params.multi_items() if k != self.cursor]
            headers["link"] = f'<?{urlencode([*query, (self.cursor, self.following)])}>; rel="next"'
        if form is Form.CSV:
            return Response(to_csv(self.kind, self.entries), media_type=CSV, headers=NO_STORE | headers)
        return json_answer({self.name: self.entries, "next": self.following}, headers)


def to_csv(kind: type[msgspec.Struct], entries: Sequence[msgspec.Struct]) -> str:
    """Return entries as CSV (RFC 4180), with a line of names; inner fields get the outer name, too."""
    columns = list(_columns(kind))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for entry in entries:
        cells = _cells(entry)
        writer.writerow([cells.get(column, "") for column in columns])
    return text.getvalue()


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
