"""Logging on standard error: one line for each record, as text or JSON. Text from clients is escaped."""

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


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname.lower():7} {_room(record)}: {plain(record.getMessage())}"
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            # Indented, so that text quoted by an error cannot look like a log line.
            line = "\n".join([line, *(f"  {plain(part)}" for part in trace.split("\n"))])
        return line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)  # in ASCII, so without terminal escapes


def start(settings: Settings) -> None:
    """Start logging as set; libraries log only warnings and errors, at a limited rate."""
    _log_to(
        sys.stderr, _JsonFormatter() if settings.log_format == "json" else _TextFormatter(), logging.WARNING
    )
    logging.getLogger(_OURS).setLevel(settings.log_level.upper())


def errors_only() -> None:
    """Log only errors, for commands that print their own output."""
    _log_to(sys.stderr, _TextFormatter(), logging.ERROR)


def _log_to(stream: TextIO, formatter: logging.Formatter, level: int) -> None:
    _ignore_failures()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(LibraryLimit(_OURS))
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _ignore_failures() -> None:
    """Drop log lines that cannot be written; by default, logging writes a traceback to the same stream."""
    logging.raiseExceptions = False


def _room(record: logging.LogRecord) -> str:
    """Return the part of this package, or the library, that has logged: a short form of the logger's name."""
    return record.name.removeprefix(f"{_OURS}.").partition(".")[0]


def _time(record: logging.LogRecord) -> str:
    return (
        to_iso(max(0, int(record.created * 1000))) if record.created else to_iso(time.time_ns() // 1_000_000)
    )
