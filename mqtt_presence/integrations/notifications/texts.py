"""Texts of notifications for people. Pure."""

from mqtt_presence.integrations.notifications.notification import ALARM, ALL_CLEAR, Notification
from mqtt_presence.protocol.times import to_iso

_EVENTS = {
    "userOnline": "is online",
    "userOffline": "is offline",
    "userIdle": "is idle",
    "userActive": "is active",
    "connectionLogin": "has a new connection",
    "connectionLogout": "has lost or ended a connection",
    "connectionIdle": "has an idle connection",
    "connectionActive": "has an active connection",
    "test": "sends a test",
}
TITLE = "mqtt-presence"
"""The title of every message."""


def text_of(notification: Notification) -> str:
    """Return one line: user, event, time."""
    match notification.event:
        case event if event == ALARM:
            words = f"alarm: {notification.condition}"
        case event if event == ALL_CLEAR:
            words = f"all clear: {notification.condition}"
        case event:
            words = _EVENTS.get(event, event)
    between = ": " if notification.condition else " "
    return f"{notification.user_id}{between}{words} ({to_iso(notification.time)})"
