"""adapters.registry."""

from collections.abc import Callable

from mqtt_presence.adapters.brokers.json_events import EmqxEvents, NanomqEvents
from mqtt_presence.adapters.brokers.mosquitto import MosquittoLog
from mqtt_presence.adapters.port import Source

AUTO = "auto"
MOSQUITTO = "mosquitto"
SOURCES: dict[str, Callable[[], Source | None]] = {
    AUTO: MosquittoLog,
    "none": lambda: None,
    MOSQUITTO: MosquittoLog,
    "emqx": EmqxEvents,
    "nanomq": NanomqEvents,
}
"""The values of the setting `source`."""
