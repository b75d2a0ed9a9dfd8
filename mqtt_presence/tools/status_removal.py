"""Clearing a forgotten user's retained status without a bridge."""

from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.client.retained_reader import RetainedReader
from mqtt_presence.errors import BrokerError
from mqtt_presence.protocol.topics import Topics

_ANSWER_S = 5.0
_RETAINED_S = 0.5


class BridgeIsThereError(BrokerError):
    """A bridge runs: it is its business."""


def clear_status(endpoint: Endpoint, topics: Topics, user_id: str) -> None:
    """Publish the empty retained status, and see that the broker took it.

    Args:
        endpoint: the broker, and as whom to connect there.
        topics: the topics under the prefix in use.
        user_id: whose status.

    Raises:
        BridgeIsThereError: a bridge runs on this broker; nothing was done.
        BrokerError: it cannot be reached, refuses us, or does not let us write the topic.

    """
    with RetainedReader(endpoint, topics.bridge_state, _ANSWER_S) as reader:
        states = reader.read([topics.bridge_state], quiet_s=_RETAINED_S).values()
        if any(b'"online"' in state for state in states):
            raise BridgeIsThereError(f"a bridge runs on {endpoint.url}")
        reader.clear(topics.status(user_id))
