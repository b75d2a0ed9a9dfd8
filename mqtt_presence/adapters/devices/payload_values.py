"""Payload values: the parts of foreign payloads that a profile asks for. Pure."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

Value: TypeAlias = str | bool | int | float
_MISSING = object()
_DIFFERENCE = re.compile(r"\s*([\w.$-]+?)\s+-\s+([\w.$-]+)\s*")
MAX_TEXT = 200
"""Characters of one text in the meta of a device."""
_decode = msgspec.json.Decoder().decode


def decode_json(payload: bytes) -> Any:
    """Return the decoded payload; None if the payload is no JSON."""
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def look_up(document: Any, path: str) -> Any:
    """Return the value at a path of keys and numbers with dots between; None if there is none."""
    for key in path.split("."):
        if isinstance(document, dict):
            document = document.get(key, _MISSING)
        elif isinstance(document, list) and key.isdecimal() and int(key) < len(document):
            document = document[int(key)]
        else:
            return None
        if document is _MISSING:
            return None
    return document


def value_of(payload: bytes, path: str | None) -> Any:
    """Return the value at a path of a JSON payload, or the payload as text; None if unreadable."""
    if path is not None:
        return look_up(decode_json(payload), path)
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def same_value(one: Any, other: Value) -> bool:
    """Return whether two values are equal and of one kind: ``true`` is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def seconds_at(payload: bytes, expression: str) -> float | None:
    """Return a number of seconds: the value at a path, or the difference of two; None if there is none."""
    document = decode_json(payload)
    found = _DIFFERENCE.fullmatch(expression)
    values = [look_up(document, path) for path in (found.groups() if found else (expression,))]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    return float(values[0] - values[1] if found else values[0])


def described(document: Any, fields: Mapping[str, str]) -> dict[str, Value]:
    """Return the fields that a document has, as short texts, numbers and truth values."""
    found: dict[str, Value] = {}
    for name, path in fields.items():
        value = look_up(document, path)
        if isinstance(value, str):
            value = "".join(c for c in value if c.isprintable())[:MAX_TEXT]
        if isinstance(value, bool | int | float) or (isinstance(value, str) and value):
            found[name] = value
    return found
