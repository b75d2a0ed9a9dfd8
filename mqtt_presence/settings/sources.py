"""The sources of the settings: flags, environment variables and a TOML file, in this order of precedence."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_config_path
from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from mqtt_presence.errors import ConfigError
from mqtt_presence.settings.settings import PREFIX, Settings
from mqtt_presence.settings.values import error_text, shortened

CONFIG_VARIABLE = PREFIX + "CONFIG"
"""The environment variable that names the TOML file, as `--config` does."""

_FILE_SUFFIX = "_FILE"
_SECRET = frozenset({"broker", "client", "database", "notify", "second_client", "web_mqtt_url", "web_token"})
"""Settings that are or may hold passwords: error messages never show them."""

IN_FILES = _SECRET - {"notify"}
"""Settings whose value may be in a file that a variable names, as container secrets are."""


def load(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Read the settings.

    Args:
        flags: values from the command line by setting; None where a flag is missing.
        config: a TOML file; default: the file that `MQTT_PRESENCE_CONFIG` names, else `default_config()`.

    Raises:
        ConfigError: a setting is wrong. The message names the setting and, unless secret, shows its value.

    """
    _refuse_unknown_variables()
    if config is None:
        config = Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else default_config()
    given = {name: value for name, value in flags.items() if value is not None}
    from_secrets = _read_secrets()
    from_file = {} if config is None else _read(config)

    class WithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            flags_and_variables = super().settings_customise_sources(settings_cls, *sources, **named)
            files = (InitSettingsSource(settings_cls, values) for values in (from_secrets, from_file))
            return (*flags_and_variables, *files)

    try:
        return WithFile(**given)
    except ValidationError as error:
        raise ConfigError("; ".join(_describe_error(e, given, config) for e in error.errors())) from None


def default_config() -> Path | None:
    """Return the settings file in the user's directory of configurations; None if there is none."""
    try:
        path = user_config_path("mqtt-presence") / "settings.toml"
    except RuntimeError:  # no home directory
        return None
    return path if path.is_file() else None


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{config}: there is no such file") from None
    except RecursionError:
        raise ConfigError(f"{config}: lists are nested too deeply") from None
    except (OSError, ValueError) as error:  # tomllib's messages name a line, and quote no value
        raise ConfigError(f"{config}: {error}") from None


def _read_secrets() -> dict[str, str]:
    """Return the settings whose variable has the suffix ``_FILE``: the value is the content of that file."""
    found = {}
    for variable in _secret_variables():
        plain = variable.removesuffix(_FILE_SUFFIX)
        if os.environ.get(plain):
            raise ConfigError(f"{plain} and {variable} are both set: set one of them")
        try:
            text = Path(os.environ[variable]).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{variable}: {error}") from None
        found[_setting_of(plain)] = text
    return found


def _secret_variables() -> list[str]:
    return [
        variable
        for variable in sorted(os.environ)
        if variable.endswith(_FILE_SUFFIX)
        and _setting_of(variable.removesuffix(_FILE_SUFFIX)) in IN_FILES
        and os.environ[variable]
    ]


def _setting_of(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower()


def _refuse_unknown_variables() -> None:
    """Raise ConfigError for an unknown variable with our prefix: a misspelt one would be ignored silently."""
    for variable in sorted(os.environ):
        if not variable.upper().startswith(PREFIX) or variable.upper() == CONFIG_VARIABLE:
            continue
        name = variable[len(PREFIX) :].lower()
        if name.endswith("_file") and name.removesuffix("_file") in IN_FILES:
            continue
        if name not in Settings.model_fields:
            raise ConfigError(f"{variable}: there is no such setting{_suggestion(name, PREFIX, str.upper)}")


def _suggestion(name: str, prefix: str = "", spelling: Any = str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, 1)
    return f"; did you mean {prefix}{spelling(close[0])}?" if close else ""


def _describe_error(error: Any, flags: Mapping[str, Any], config: Path | None) -> str:
    name = str(error["loc"][0]) if error["loc"] else "settings"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting in {config}{_suggestion(name)}"
    shown = "" if name in _SECRET else f"={_shown(error['input'])}"
    return f"{name}{shown}: {error_text(error)}{_source(name, flags, config)}"


def _shown(value: Any) -> str:
    if isinstance(value, str) and value:
        return shortened(value)
    try:
        return shortened(repr(value))
    except ValueError:  # Python refuses to write integers of more than 4300 digits
        return "…"


def _source(name: str, flags: Mapping[str, Any], config: Path | None) -> str:
    """Return the source of a wrong value for the message; empty for the command line."""
    if name in flags:
        return ""
    if any(variable.upper() == PREFIX + name.upper() for variable in os.environ):
        return f" (from {PREFIX}{name.upper()})"
    if PREFIX + name.upper() + _FILE_SUFFIX in _secret_variables():
        return f" (from {PREFIX}{name.upper()}{_FILE_SUFFIX})"
    return f" (from {config})"
