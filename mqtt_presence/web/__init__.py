"""The live page, served over HTTP: one URL for page, modules, API and MQTT over WebSocket."""

from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.server import WebServer

__all__ = ["WebConfig", "WebServer"]
