"""The command line: arguments, output and exit codes of all commands; the work is done by other rooms.

May import all rooms.
"""

from mqtt_presence.cli.app import main

__all__ = ["main"]
