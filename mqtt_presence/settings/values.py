"""Values of settings: durations, numbers, names and choices, and how their errors read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_settings import NoDecode

from mqtt_presence.errors import ConfigError
from mqtt_presence.protocol.durations import read_duration
from mqtt_presence.protocol.times import from_iso

_SHOWN_CHARACTERS = 60
_ERROR_TEXTS = {
    "greater_than_equal": "must be {ge:.12g} or more",
    "greater_than": "must be more than {gt:.12g}",
    "less_than_equal": "must be {le:.12g} at most",
    "int_parsing": "must be a whole number",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
}
"""Our texts for some of pydantic's error types."""


def parse_seconds(value: object) -> object:
    """Return the seconds of a duration: a number, perhaps with a unit, as in ``500ms``, ``90s``, ``30d``.

    Values of other types are returned unchanged, for pydantic to check.
    """
    if not isinstance(value, str | bool):
        return value
    return read_duration(str(value))


def is_utf8(text: str) -> bool:
    """Return whether a text from the command line or the environment was UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def require_text(text: str, *, may_be_bytes: bool) -> None:
    """Raise ValueError if a text has a null character or, unless `may_be_bytes`, was not UTF-8."""
    if "\0" in text:
        raise ValueError("must not have a null character")
    if not (may_be_bytes or is_utf8(text)):
        raise ValueError("must be UTF-8")


def _split(value: object) -> object:
    """Split a text at its commas: environment variables have no lists."""
    return [part for part in map(str.strip, value.split(",")) if part] if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(parse_seconds), Field(ge=0, le=315_360_000, allow_inf_nan=False)]
"""Seconds, from 0 to ten years."""
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(_lower)]
ImplicitMode = Annotated[Literal["off", "username", "client_id"], BeforeValidator(_lower)]
SourceName = Annotated[Literal["auto", "none", "mosquitto", "emqx", "nanomq"], BeforeValidator(_lower)]

_DURATION_OPTION: TypeAdapter[float] = TypeAdapter(Duration)


def parse_duration(name: str, value: str) -> float:
    """Return the seconds of a duration given to an option that is not a setting.

    Args:
        name: the option, for the error message.
        value: see `parse_seconds`.

    Raises:
        ConfigError: the value is not a duration, or not between 0 and ten years.

    """
    try:
        return _DURATION_OPTION.validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{name}={shortened(value)}: {error_text(error.errors()[0])}") from None


def parse_time(name: str, value: str, now: int) -> int:
    """Return the time of an option: ISO 8601 with an offset, or a duration before now.

    Args:
        name: the option, for the error message.
        value: e.g. ``2026-11-30T08:00:00Z`` or ``2h``.
        now: epoch milliseconds.

    Raises:
        ConfigError: the value is neither.

    """
    try:
        return from_iso(value)
    except ValueError:
        pass
    try:
        return max(0, now - round(parse_duration(name, value) * 1000))
    except ConfigError:
        raise ConfigError(
            f"{name}={shortened(value)}: must be a duration, e.g. 2h, or a time, e.g. 2026-11-30T08:00:00Z"
        ) from None


def path_text(path: Path | None) -> str | None:
    """Return a path as a string, for libraries that take no `Path`; None for None."""
    return None if path is None else str(path)


def shortened(value: str) -> str:
    """Return a value for an error message, cut to 60 characters."""
    return value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…"


def error_text(error: Mapping[str, Any]) -> str:
    """Return the text of one of pydantic's errors, without its prefixes and in lower case."""
    template = _ERROR_TEXTS.get(error["type"])
    if template is not None:
        return template.format(**error.get("ctx", {}))
    message: str = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[0].lower() + message[1:]
