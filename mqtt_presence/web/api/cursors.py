"""Cursors of lists: the place after which the next page begins, as text for a URL. Pure."""

import base64
import binascii
import re
from typing import NoReturn

from mqtt_presence.protocol.topics import is_stored_name
from mqtt_presence.web.api.parameters import ParameterError

_PAIR = re.compile(r"(?P<first>\d{1,15})\.(?P<second>\d{1,19})", re.ASCII)
_ROW = re.compile(r"\d{1,19}", re.ASCII)
_END = 1 << 63


def after_name(name: str, text: str | None) -> str | None:
    """Read the cursor of a list that is sorted by name.

    Args:
        name: the parameter, for the error message.
        text: its value; None if it is absent.

    Raises:
        ParameterError: the text is no such cursor.

    """
    return None if text is None else decoded_name(text) or _wrong(name)


def after_client(name: str, text: str | None) -> tuple[str, str, int] | None:
    """Read the cursor of a list that is sorted by user, client and row id; see `after_name`."""
    if text is None:
        return None
    row_id, _, names = text.partition(".")
    user, client = map(decoded_name, names.partition(".")[::2])
    if _ROW.fullmatch(row_id) is None or int(row_id) >= _END or user is None or client is None:
        _wrong(name)
    return user, client, int(row_id)


def after_pair(name: str, text: str | None) -> tuple[int, int] | None:
    """Read the cursor of a list that is sorted by two integers; see `after_name`."""
    if text is None:
        return None
    found = _PAIR.fullmatch(text)
    pair = (int(found["first"]), int(found["second"])) if found else (0, _END)
    return pair if pair[1] < _END else _wrong(name)


def client_cursor(user_id: str, client_id: str, row_id: int) -> str:
    """Return the cursor of a list that is sorted by user, client and row id."""
    return f"{row_id}.{name_cursor(user_id)}.{name_cursor(client_id)}"


def name_cursor(text: str) -> str:
    """Return the cursor of a list that is sorted by name, in the characters of a URL."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def pair_cursor(first: int, second: int) -> str:
    """Return the cursor of a list that is sorted by two integers."""
    return f"{first}.{second}"


def decoded_name(text: str) -> str | None:
    """Return the name in a cursor; None: there is none."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        name = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        return None
    return name if is_stored_name(name) else None


def _wrong(name: str) -> NoReturn:
    raise ParameterError(f"{name} must be the value of next in the answer before")
