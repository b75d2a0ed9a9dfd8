"""The command line (contract section 6)."""

from mqtt_presence.cli.app import main

__all__ = ["main"]
