"""The command line: arguments, output and exit codes of all commands; the work is done by other rooms.

May import all rooms.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command given on the command line; exit with code 1 where only the clients are installed."""
    try:
        from mqtt_presence.cli.app import main as run  # noqa: PLC0415, the clients' install has no typer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mqtt_presence"):
            raise
        sys.exit(
            f"mqtt-presence: only the clients are installed here ({error.name} is missing): "
            "install mqtt-presence-bridge[bridge] for the commands"
        )
    run()
