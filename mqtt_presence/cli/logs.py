"""Logging on standard error: a line each, for people or as JSON; whatever clients put into it is escaped."""

import json
import logging
import sys
import time
from typing import Final, TextIO

from mqtt_presence.access.rate_limited_log import LibraryLimit
from mqtt_presence.cli.output import plain
from mqtt_presence.protocol.times import to_iso
from mqtt_presence.settings import Settings

_OURS: Final = "mqtt_presence"


class _Readable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("mqtt_presence.")
        line = f"{_time(record)} {record.levelname.lower():7} {name}: {plain(record.getMessage())}"
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            # Set in, so that nothing that an error quotes can look like a line of its own.
            line = "\n".join([line, *(f"  {plain(part)}" for part in trace.split("\n"))])
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)  # ASCII: nothing in it is for a terminal to obey


def start(settings: Settings) -> None:
    """Log from now on as the settings say; of libraries warnings and errors, in a limited number."""
    _log_to(sys.stderr, _Json() if settings.log_format == "json" else _Readable(), logging.WARNING)
    logging.getLogger(_OURS).setLevel(settings.log_level.upper())


def errors_only() -> None:
    """Log nothing but errors: the command itself says what there is to say."""
    _log_to(sys.stderr, _Readable(), logging.ERROR)


def _log_to(stream: TextIO, formatter: logging.Formatter, level: int) -> None:
    _ignore_failures()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(LibraryLimit(_OURS))
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _ignore_failures() -> None:
    """Lose log lines that cannot be written: logging would write a traceback for each, to the same place."""
    logging.raiseExceptions = False


def _time(record: logging.LogRecord) -> str:
    return (
        to_iso(max(0, int(record.created * 1000))) if record.created else to_iso(time.time_ns() // 1_000_000)
    )
