"""Listings: a page of entries as JSON or CSV, with the cursor of the next page."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mqtt_presence.protocol.csv_text import csv_lines
from mqtt_presence.web.responses import NO_STORE, json_answer

CSV = "text/csv; charset=utf-8; header=present"


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
            text = "".join(csv_lines(self.kind, self.entries))
            return Response(text, media_type=CSV, headers=NO_STORE | headers)
        return json_answer({self.name: self.entries, "next": self.following}, headers)
