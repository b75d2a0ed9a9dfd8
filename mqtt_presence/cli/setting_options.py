"""Making options of settings, so that each is defined once; and the exit code of what goes wrong."""

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
    "idle_threshold",
    "expire_after",
    "grace",
    "confirm_within",
    "retention",
    "publish_private",
    "max_connections",
    "max_records",
    "max_rate",
    "max_users",
)
WEB = ("web", "web_host", "web_port", "web_token", "web_origin", "web_proxy")
LOG = ("log_level", "log_format")


def with_settings(
    *names: str,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the settings that it takes first, from flags, environment and file.

    Args:
        names: the settings that get a flag.

    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(config: Path | None, **values: Any) -> None:
            flags = {name: values.pop(name) or None if _is_list(name) else values.pop(name) for name in names}
            with exit_on_error():
                _require_utf8(values)
                function(load(flags, config), **values)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        _declare(command, [*own, *(_option(SETTINGS[name]) for name in names), _config()])
        return command

    return decorate


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End with one line on standard error, and an exit code, when something of ours goes wrong."""
    try:
        yield
    except ConfigError as error:
        print_error(str(error))
        raise typer.Exit(WRONG_SETTING) from None
    except (PresenceError, OSError) as error:
        print_error(str(error))
        raise typer.Exit(FAILED) from None


def _require_utf8(values: Mapping[str, object]) -> None:
    """Refuse arguments that are no text; a path may consist of any bytes."""
    for name, value in values.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not is_utf8(text):
                raise ConfigError(f"{name}={shortened(text)}: must be UTF-8")


def _is_list(name: str) -> bool:
    return SETTINGS[name].kind == "list"


def _declare(command: Any, parameters: list[inspect.Parameter]) -> None:
    """Tell typer, which reads signatures, what there is to be given."""
    command.__signature__ = inspect.Signature(
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    )
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    del command.__wrapped__


def _option(setting: Setting) -> inspect.Parameter:
    """Make an option: the setting checks its value, so that all three sources are told off alike."""
    shown = f"{setting.help} [default: {setting.default}]" if setting.default else setting.help
    if setting.kind == "switch":
        kind: Any = bool | None
        flags = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
        declared = typer.Option(flags, help=shown, show_default=False)
    else:
        kind = list[str] | None if setting.kind == "list" else str | None
        declared = typer.Option(setting.flag, help=shown, metavar=setting.metavar, show_default=False)
    return _keyword(setting.name, Annotated[kind, declared])


def _config() -> inspect.Parameter:
    declared = typer.Option(
        "--config",
        help=f"A TOML file with settings. [env: {CONFIG_VARIABLE}]",
        metavar="FILE",
        show_default=False,
        readable=False,  # `load` refuses it in our words
    )
    return _keyword("config", Annotated[Path | None, declared])


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
