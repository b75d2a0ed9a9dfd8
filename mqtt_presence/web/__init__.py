"""The live page over HTTP: one URL for the page, its modules, the JSON API and MQTT over WebSocket.

Imports `access`, `protocol`, `store`, `mqtt` and `rules`; the embedded broker only for its types.
"""

from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.server import WebServer

__all__ = ["WebConfig", "WebServer"]
