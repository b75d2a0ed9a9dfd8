"""Command line options made from the settings, and exit codes of errors."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mqtt_presence.cli.output import print_error
from mqtt_presence.errors import ConfigError, PresenceError
from mqtt_presence.settings import CONFIG_VARIABLE, SETTINGS, Setting, is_utf8, load, shortened

FAILED = 1
WRONG_SETTING = 2

TLS = ("ca_file", "cert_file", "key_file")
RULES = (
    "prefix",
    "people",
    "idle_threshold",
    "expire_after",
    "grace",
    "confirm_within",
    "implicit",
    "implicit_match",
    "implicit_after",
    "implicit_keep",
    "implicit_list",
    "retention",
    "publish_private",
    "max_connections",
    "max_records",
    "max_rate",
    "max_users",
    "homeassistant",
    "homeassistant_prefix",
    "homeassistant_match",
)
NOTIFY = ("notify_keep", "notify_private")
WEB = (
    "web",
    "web_host",
    "web_port",
    "web_token",
    "web_origin",
    "web_cors",
    "web_proxy",
    "web_frame_ancestors",
)
MONITOR = ("monitor_host", "monitor_port")
LOG = ("log_level", "log_format")


def with_settings(
    *names: str,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that passes the settings to a command as its first argument.

    Args:
        names: the settings for which the command gets options.

    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(config: Path | None, **values: Any) -> None:
            flags = {name: values.pop(name) or None if _is_list(name) else values.pop(name) for name in names}
            with exit_on_error():
                _require_utf8(values)
                function(load(flags, config), **values)

        arguments = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        _declare(command, [*arguments, *(_option(SETTINGS[name]) for name in names), _config()])
        return command

    return decorate


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the command with one line on standard error and an exit code if an error occurs in this block."""
    try:
        yield
    except ConfigError as error:
        print_error(str(error))
        raise typer.Exit(WRONG_SETTING) from None
    except (PresenceError, OSError) as error:
        print_error(str(error))
        raise typer.Exit(FAILED) from None


def _require_utf8(values: Mapping[str, object]) -> None:
    """Refuse text arguments that are not UTF-8; paths may have any bytes."""
    for name, value in values.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not is_utf8(text):
                raise ConfigError(f"{name}={shortened(text)}: must be UTF-8")


def _is_list(name: str) -> bool:
    return SETTINGS[name].kind == "list"


def _declare(command: Any, parameters: list[inspect.Parameter]) -> None:
    """Set the signature that typer reads, to declare the options."""
    command.__signature__ = inspect.Signature(
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    )
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    del command.__wrapped__


def _option(setting: Setting) -> inspect.Parameter:
    """Return the option of a setting, as text: the settings check values from all three sources alike."""
    help_text = f"{setting.help} [default: {setting.default}]" if setting.default else setting.help
    if setting.kind == "switch":
        value_type: Any = bool | None
        flags = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
        declared = typer.Option(flags, help=help_text, show_default=False)
    else:
        value_type = list[str] | None if setting.kind == "list" else str | None
        declared = typer.Option(setting.flag, help=help_text, metavar=setting.metavar, show_default=False)
    return _keyword(setting.name, Annotated[value_type, declared])


def _config() -> inspect.Parameter:
    declared = typer.Option(
        "--config",
        help=f"A TOML file with settings. [env: {CONFIG_VARIABLE}] [default: settings.toml in "
        "~/.config/mqtt-presence, if there is one]",
        metavar="FILE",
        show_default=False,
        readable=False,  # `load` checks it, with a better message
    )
    return _keyword("config", Annotated[Path | None, declared])


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
