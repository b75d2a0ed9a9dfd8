"""The list of outputs: one line for each format in which a bridge publishes."""

from collections.abc import Callable

from mqtt_presence.integrations.port import Output
from mqtt_presence.integrations.presence import PresenceOutput
from mqtt_presence.protocol.topics import Topics

MakeOutput = Callable[[Topics, bool], Output]
"""Makes an output, from the topics in use and the setting `publish_private`."""
OUTPUTS: dict[str, MakeOutput] = {
    "presence": PresenceOutput,
}
"""Outputs that every bridge uses, by name; the order is the order of their messages."""
