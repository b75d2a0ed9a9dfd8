"""The registry of adapters: one line for each broker that reports connections, and for each other adapter."""

from collections.abc import Callable

from mqtt_presence.adapters.brokers.embedded_reports import EmbeddedReports
from mqtt_presence.adapters.brokers.json_events import EmqxEvents, NanomqEvents
from mqtt_presence.adapters.brokers.mosquitto import MosquittoLog
from mqtt_presence.adapters.port import Adapter, Source

AUTO = "auto"
MOSQUITTO = "mosquitto"
EMBEDDED = "embedded"
NONE = "none"
SOURCES: dict[str, Callable[[], Source | None]] = {
    AUTO: MosquittoLog,
    "none": lambda: None,
    MOSQUITTO: MosquittoLog,
    "emqx": EmqxEvents,
    "nanomq": NanomqEvents,
    EMBEDDED: EmbeddedReports,
}
"""The values of the setting `source`, and the source of `mqtt-presence up`."""

ADAPTERS: dict[str, Callable[[], Adapter]] = {}
"""Adapters that every bridge uses beside the source, by name."""
