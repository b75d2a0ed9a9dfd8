"""The clients: `PresenceClient` publishes one user's presence, `StatusWatcher` follows all statuses.

Imports `protocol`, `mqtt`, `rules` and `errors`.
"""

from mqtt_presence.client.idle_monitor import IdleMonitor
from mqtt_presence.client.observers import Changes, Observer
from mqtt_presence.client.presence_client import PresenceClient
from mqtt_presence.client.server_clock import ServerClock
from mqtt_presence.client.status_table import Change
from mqtt_presence.client.status_watcher import StatusWatcher
from mqtt_presence.protocol.client_messages import LoginInfo, UserStatus

__all__ = [
    "Change",
    "Changes",
    "IdleMonitor",
    "LoginInfo",
    "Observer",
    "PresenceClient",
    "ServerClock",
    "StatusWatcher",
    "UserStatus",
]
