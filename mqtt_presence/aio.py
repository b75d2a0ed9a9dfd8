"""The clients for asyncio: `PresenceClient`, `StatusWatcher`. Imports `client`."""

from mqtt_presence.client.asyncio_changes import AsyncChanges as Changes
from mqtt_presence.client.asyncio_clients import IdleMonitor, PresenceClient, StatusWatcher

__all__ = ["Changes", "IdleMonitor", "PresenceClient", "StatusWatcher"]
