"""The commands, put together."""

import sys
from typing import Annotated

import typer

from mqtt_presence import __version__
from mqtt_presence.cli import forget, history, init_broker, passwd, run, simulate, up, users, verify, watch

app = typer.Typer(
    name="mqtt-presence",
    help="Presence for MQTT: who is online, who is idle, who has just left, and who was here when.",
    epilog="Every setting of a command is a flag, a variable MQTT_PRESENCE_<SETTING> and a line of the TOML "
    "file --config: the first of these that says something counts.",
    no_args_is_help=True,
    rich_markup_mode=None,  # it would take mqtt[s] for markup
    pretty_exceptions_enable=False,  # they show local variables, passwords among them
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

_COMMANDS = {
    "up": up,
    "run": run,
    "watch": watch,
    "users": users,
    "history": history,
    "forget": forget,
    "verify": verify,
    "simulate": simulate,
    "passwd": passwd,
    "init-broker": init_broker,
}
for name, module in _COMMANDS.items():
    app.command(name)(module.command)


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
    app(prog_name="mqtt-presence")
