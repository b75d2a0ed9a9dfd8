"""Query parameters of the API, and the cursors of its lists. Pure."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from mqtt_presence.protocol.times import from_iso
from mqtt_presence.protocol.topics import MAX_NAME, NAME_RULE, is_stored_name

LIMIT = 100
"""Rows in an answer by default."""
MAX_LIMIT = 500
"""Rows in an answer, at most: a query must not take long."""
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_CURSOR = re.compile(r"(?P<first>\d{1,15})\.(?P<second>\d{1,19})", re.ASCII)
_ROW = re.compile(r"\d{1,19}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class ParameterError(ValueError):
    """A parameter is wrong; the message has its name and the allowed values."""


class Parameters:
    """The query string of a request.

    Args:
        pairs: the decoded names and values.
        allowed: the names that the resource accepts.

    Raises:
        ParameterError: a name is unknown, or occurs twice.

    """

    def __init__(self, pairs: Sequence[tuple[str, str]], allowed: frozenset[str]) -> None:
        self._values: Mapping[str, str] = dict(pairs)
        unknown = sorted(self._values.keys() - allowed)
        if unknown:
            raise ParameterError(
                f"{unknown[0][:50]!r} is no parameter of this resource; {', '.join(sorted(allowed))} are"
            )
        if len(self._values) < len(pairs):
            raise ParameterError("a parameter occurs twice")

    def limit(self) -> int:
        """Read the number of rows."""
        text = self._values.get("limit", str(LIMIT))
        if _NUMBER.fullmatch(text) is None or not 1 <= int(text) <= MAX_LIMIT:
            raise ParameterError(f"limit={text[:50]!r} must be 1 to {MAX_LIMIT}")
        return int(text)

    def time(self, name: str) -> int | None:
        """Read a time in ISO 8601 with an offset, as epoch milliseconds."""
        text = self._values.get(name)
        if text is None:
            return None
        try:
            return from_iso(text)
        except ValueError:
            raise ParameterError(
                f"{name}={text[:50]!r} must be a time like 2026-11-24T21:47:00.123Z (a + is written %2B)"
            ) from None

    def flag(self, name: str, *, default: bool) -> bool:
        """Read ``true`` or ``false``."""
        text = self._values.get(name)
        if text not in {None, "true", "false"}:
            raise ParameterError(f"{name}={str(text)[:50]!r} must be true or false")
        return default if text is None else text == "true"

    def name(self, name: str) -> str | None:
        """Read the name of a user."""
        text = self._values.get(name)
        return None if text is None else require_user(text)

    def text(self, name: str) -> str | None:
        """Read a part of a name to search for."""
        text = self._values.get(name)
        if text is not None and (not 0 < len(text) <= MAX_NAME or _CONTROL.search(text)):
            raise ParameterError(f"{name} must be 1 to {MAX_NAME} characters, no control character")
        return text

    def after_name(self, name: str) -> str | None:
        """Read the cursor of a list that is sorted by name."""
        text = self._values.get(name)
        if text is None:
            return None
        return _decoded(text) or _wrong_cursor(name)

    def after_client(self, name: str) -> tuple[str, str, int] | None:
        """Read the cursor of a list that is sorted by user, client and row id."""
        text = self._values.get(name)
        if text is None:
            return None
        row_id, _, names = text.partition(".")
        user, client = map(_decoded, names.partition(".")[::2])
        if _ROW.fullmatch(row_id) is None or int(row_id) >= 1 << 63 or user is None or client is None:
            _wrong_cursor(name)
        return user, client, int(row_id)

    def after_pair(self, name: str) -> tuple[int, int] | None:
        """Read the cursor of a list that is sorted by two integers."""
        text = self._values.get(name)
        if text is None:
            return None
        found = _CURSOR.fullmatch(text)
        pair = (int(found["first"]), int(found["second"])) if found else (0, 1 << 63)
        return pair if pair[1] < 1 << 63 else _wrong_cursor(name)


def require_user(text: str) -> str:
    """Return a text that is a user name.

    Raises:
        ParameterError: the text is not a user name.

    """
    if not is_stored_name(text):
        raise ParameterError(f"a user is {NAME_RULE}, not {text[:50]!r}")
    return text


def client_cursor(user_id: str, client_id: str, row_id: int) -> str:
    """Return the cursor of a list that is sorted by user, client and row id."""
    return f"{row_id}.{name_cursor(user_id)}.{name_cursor(client_id)}"


def name_cursor(text: str) -> str:
    """Return the cursor of a list that is sorted by name, in the characters of a URL."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def pair_cursor(first: int, second: int) -> str:
    """Return the cursor of a list that is sorted by two integers."""
    return f"{first}.{second}"


def _decoded(text: str) -> str | None:
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        name = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        return None
    return name if is_stored_name(name) else None


def _wrong_cursor(name: str) -> NoReturn:
    raise ParameterError(f"{name} must be the value of next in the answer before")
