"""Settings: one definition of each for flags, `MQTT_PRESENCE_…` variables and TOML files.

May import `protocol`, `mqtt` and `errors`.
"""

from mqtt_presence.settings.definitions import SETTINGS, Setting
from mqtt_presence.settings.settings import PREFIX, Settings
from mqtt_presence.settings.sources import CONFIG_VARIABLE, load
from mqtt_presence.settings.values import (
    SourceName,
    is_utf8,
    parse_duration,
    parse_seconds,
    parse_time,
    path_text,
    shortened,
)

__all__ = [
    "CONFIG_VARIABLE",
    "PREFIX",
    "SETTINGS",
    "Setting",
    "Settings",
    "SourceName",
    "is_utf8",
    "load",
    "parse_duration",
    "parse_seconds",
    "parse_time",
    "path_text",
    "shortened",
]
