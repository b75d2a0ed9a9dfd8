"""Removal of a forgotten user's retained messages without a bridge."""

from collections.abc import Iterable

from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.client.retained_reader import RetainedReader
from mqtt_presence.errors import BrokerError
from mqtt_presence.protocol.topics import Topics

_ANSWER_S = 5.0
_RETAINED_S = 0.5


class BridgeIsThereError(BrokerError):
    """A bridge uses this broker, and removes the status itself."""


def clear_retained(endpoint: Endpoint, topics: Topics, cleared: Iterable[str]) -> None:
    """Publish empty retained messages, and wait after each until the broker has accepted it.

    Args:
        endpoint: the broker, with the user to connect as.
        topics: the topics under the prefix in use.
        cleared: the topics to clear, in this order.

    Raises:
        BridgeIsThereError: a bridge uses this broker; the messages stay.
        BrokerError: the broker cannot be reached, refuses the user, or refuses the topic.

    """
    with RetainedReader(endpoint, topics.bridge_state, _ANSWER_S) as reader:
        states = reader.read([topics.bridge_state], quiet_s=_RETAINED_S).values()
        if any(b'"online"' in state for state in states):
            raise BridgeIsThereError(f"a bridge runs on {endpoint.url}")
        for topic in cleared:
            reader.clear(topic)
