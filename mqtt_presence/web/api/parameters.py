"""Parameters of the API: their types, and how a wrong one reads."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from mqtt_presence.protocol.times import from_iso
from mqtt_presence.protocol.topics import MAX_NAME, NAME_RULE, is_stored_name

LIMIT = 100
"""Rows in an answer by default."""
MAX_LIMIT = 500
"""Rows in an answer, at most: a query must not take long."""
_SHOWN = 50
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME,
    "pattern": r"^[^/+#\u0000-\u001f\u007f-\u009f]+$",
}


class ParameterError(ValueError):
    """A parameter is wrong; the message has its name and the allowed values."""


def require_user(text: str) -> str:
    """Return a text that is a user name.

    Raises:
        ParameterError: the text is not a user name.

    """
    if not is_stored_name(text):
        raise ParameterError(f"a user is {NAME_RULE}, not {text[:_SHOWN]!r}")
    return text


# The texts of these errors complete the name and the value of the parameter.


def _read_limit(value: object) -> int:
    text = str(value)
    if _NUMBER.fullmatch(text) is None or not 1 <= int(text) <= MAX_LIMIT:
        raise ValueError(f"must be 1 to {MAX_LIMIT}")
    return int(text)


def _read_time(text: str) -> int:
    try:
        return from_iso(text)
    except ValueError:
        raise ValueError("must be a time like 2026-11-24T21:47:00.123Z (a + is written %2B)") from None


def _read_flag(value: object) -> bool:
    if value not in {True, False, "true", "false"}:
        raise ValueError("must be true or false")
    return value in {True, "true"}


def _read_text(text: str) -> str:
    if not 0 < len(text) <= MAX_NAME or _CONTROL.search(text):
        raise ValueError(f"must be 1 to {MAX_NAME} characters, no control character")
    return text


User = Annotated[str, AfterValidator(require_user), WithJsonSchema(_NAME_SCHEMA)]
UserInPath = Annotated[
    str,
    Path(description="The name of a user.", json_schema_extra=_NAME_SCHEMA),
    AfterValidator(require_user),
]
Limit = Annotated[
    int,
    BeforeValidator(_read_limit),
    Field(description="The greatest number of entries."),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
]
Time = Annotated[
    int,
    BeforeValidator(_read_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Flag = Annotated[bool, BeforeValidator(_read_flag)]
Text = Annotated[
    str,
    AfterValidator(_read_text),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAME,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
        }
    ),
]
Cursor = Annotated[str, Field(description="The value of `next` in the answer before.")]


class Query(BaseModel):
    """The query string of a resource; a parameter of another name is refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


async def refuse_repeated(request: Request) -> None:
    """Refuse a parameter that occurs twice: one of the values would be ignored.

    Raises:
        ParameterError: a parameter occurs twice that is not a list.

    """
    names = [name for name, _ in request.query_params.multi_items() if name not in {"state", "users"}]
    if len(set(names)) < len(names):
        raise ParameterError("a parameter occurs twice")


def explain(error: RequestValidationError, allowed: tuple[str, ...]) -> str:
    """Return why a request was refused, in one sentence.

    Args:
        error: the validation's.
        allowed: the parameters of the resource.

    """
    first: Mapping[str, Any] = error.errors()[0]
    where, *path = first["loc"]
    name = str(path[0]) if path else "body"
    reason = first.get("ctx", {}).get("error")
    if first["type"] == "extra_forbidden":
        return (
            f"{name[:_SHOWN]!r} is no parameter of this resource; {', '.join(sorted(allowed)) or 'none'} are"
        )
    if isinstance(reason, ParameterError):
        return str(reason)
    text = reason if isinstance(reason, ValueError) else str(first["msg"]).replace("Input should", "must")
    if where == "body":
        return f"the body is wrong at {'.'.join(map(str, path)) or 'its beginning'}: {text}"
    return f"{name}={str(first.get('input'))[:_SHOWN]!r} {text}"
