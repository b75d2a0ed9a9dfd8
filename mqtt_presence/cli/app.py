"""The program `mqtt-presence` and its list of commands."""

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mqtt_presence import __version__
from mqtt_presence.cli.output import guarded_output

COMMANDS = {
    "up": "up",
    "run": "run",
    "watch": "watch",
    "users": "users",
    "history": "history",
    "why": "why",
    "forget": "forget",
    "seats": "seats",
    "verify": "verify",
    "check": "check",
    "profiles": "profiles",
    "notify": "notify",
    "simulate": "simulate",
    "passwd": "passwd",
    "init-broker": "init_broker",
}
"""The commands, and the module of this folder whose function `command` runs each of them."""

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(TyperGroup):
    """Imports a command only to run it: starting a bridge needs no import of the embedded broker."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(
            context_settings=_HELP,
            add_completion=False,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
        )
        alone.command(cmd_name)(import_module(f"mqtt_presence.cli.{COMMANDS[cmd_name]}").command)
        return typer.main.get_command(alone)


app = typer.Typer(
    name="mqtt-presence",
    cls=_Commands,
    help="Presence for MQTT: who is online, who is idle, who has just left, and who was here when.",
    epilog="A command reads each of its settings from its flag, the environment variable "
    "MQTT_PRESENCE_<SETTING> or the TOML file given by --config. The first one found counts.",
    no_args_is_help=True,
    rich_markup_mode=None,  # markup would swallow the [s] of mqtt[s]
    pretty_exceptions_enable=False,  # they would show local variables, including passwords
    context_settings=_HELP,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mqtt-presence {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command given on the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for terminals with other encodings than UTF-8
    with guarded_output():
        app(prog_name="mqtt-presence")
