"""The clients for asyncio: `PresenceClient`, `StatusWatcher`. Imports `client`."""

from mqtt_presence.client.asyncio_clients import Changes, IdleMonitor, PresenceClient, StatusWatcher

__all__ = ["Changes", "IdleMonitor", "PresenceClient", "StatusWatcher"]
