"""Definitions of the settings for the command line: flag, kind of value, help text and default of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from mqtt_presence.settings.settings import PREFIX, Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """The definition of a setting, from which the command line makes an option."""

    name: str
    flag: str
    kind: Literal["switch", "list", "value"]
    metavar: str
    help: str
    default: str
    """The default value for the help text; empty if the help text itself describes it."""

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return PREFIX + self.name.upper()


def _describe(name: str, field: Any) -> Setting:
    kinds = {part for part in (field.annotation, *get_args(field.annotation)) if part is not type(None)}
    kind: Literal["switch", "list", "value"] = "value"
    metavar = "TEXT"
    if bool in kinds:
        kind = "switch"
    elif get_origin(field.annotation) is tuple:
        kind, metavar = "list", "URL" if name in {"web_origin", "web_cors", "web_frame_ancestors"} else "NAME"
    elif get_origin(field.annotation) is Literal:
        metavar = "|".join(get_args(field.annotation))
    elif name in {"broker", "client", "database", "second_client", "web_mqtt_url"}:
        metavar = "URL"
    elif Path in kinds:
        metavar = "FILE"
    elif int in kinds:
        metavar = "NUMBER"
    elif any(get_origin(part) is Annotated for part in kinds) or float in kinds:
        metavar = "DURATION"
    has_none = field.default_factory is not None or field.default is False or field.default in {None, ""}
    default = "" if has_none else _shown(field.default)
    return Setting(name, "--" + name.replace("_", "-"), kind, metavar, field.description or "", default)


def _shown(value: object) -> str:
    match value:
        case True:
            return "on"
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(value)
    return str(value)


SETTINGS: Mapping[str, Setting] = {
    name: _describe(name, field) for name, field in Settings.model_fields.items()
}
"""All settings by name."""
