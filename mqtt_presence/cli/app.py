"""The commands, put together."""

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
    "forget": "forget",
    "verify": "verify",
    "check": "check",
    "profiles": "profiles",
    "simulate": "simulate",
    "passwd": "passwd",
    "init-broker": "init_broker",
}
"""The commands, and in which module beside this one each is, as `command`."""

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(TyperGroup):
    """Imports a command when it is asked for: a bridge needs neither the embedded broker nor a simulation."""

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
    epilog="Every setting of a command is a flag, a variable MQTT_PRESENCE_<SETTING> and a line of the TOML "
    "file --config: the first of these that says something counts.",
    no_args_is_help=True,
    rich_markup_mode=None,  # it would take mqtt[s] for markup
    pretty_exceptions_enable=False,  # they show local variables, passwords among them
    context_settings=_HELP,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mqtt-presence {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command that the command line names."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no é still gets a line
    with guarded_output():
        app(prog_name="mqtt-presence")
