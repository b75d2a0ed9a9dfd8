"""Presence for MQTT: who is online, who is idle, who has just left, and who was here when.

Devices and services use `PresenceClient`; programs that need the users' statuses use `StatusWatcher`.
`mqtt_presence.aio` has both for asyncio. The bridge between them is the command ``mqtt-presence``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mqtt_presence.errors import BrokerError, ConfigError, PayloadError, PresenceError, StoreError

if TYPE_CHECKING:
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
    from mqtt_presence.mqtt.url import BrokerUrl

__version__ = "0.1.0"

__all__ = [
    "BrokerError",
    "BrokerUrl",
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


def __getattr__(name: str) -> object:
    # Imported on demand (PEP 562), because the bridge starts sooner without the clients.
    if name in __all__:
        module = "mqtt_presence.mqtt.url" if name == "BrokerUrl" else "mqtt_presence.client"
        return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
