"""Presence for MQTT: who is online, who is idle, who has just left, and who was here when.

For devices and services: `PresenceClient`. For whoever wants to know: `StatusWatcher`. The bridge between
them is the command ``mqtt-presence``.
"""

from mqtt_presence.client import (
    Change,
    Changes,
    IdleMonitor,
    LoginInfo,
    Observer,
    PresenceClient,
    ServerClock,
    StatusWatcher,
    UserStatus,
)
from mqtt_presence.errors import BrokerError, ConfigError, PayloadError, PresenceError, StoreError

__version__ = "0.1.0"

__all__ = [
    "BrokerError",
    "Change",
    "Changes",
    "ConfigError",
    "IdleMonitor",
    "LoginInfo",
    "Observer",
    "PayloadError",
    "PresenceClient",
    "PresenceError",
    "ServerClock",
    "StatusWatcher",
    "StoreError",
    "UserStatus",
    "__version__",
]
