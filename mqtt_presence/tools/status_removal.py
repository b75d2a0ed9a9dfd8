"""Removal of a forgotten user's retained status without a bridge."""

from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.client.retained_reader import RetainedReader
from mqtt_presence.errors import BrokerError
from mqtt_presence.protocol.topics import Topics

_ANSWER_S = 5.0
_RETAINED_S = 0.5


class BridgeIsThereError(BrokerError):
    """A bridge uses this broker, and removes the status itself."""


def clear_status(endpoint: Endpoint, topics: Topics, user_id: str) -> None:
    """Publish the empty retained status, and wait until the broker has accepted it.

    Args:
        endpoint: the broker, with the user to connect as.
        topics: the topics under the prefix in use.
        user_id: the user of the status.

    Raises:
        BridgeIsThereError: a bridge uses this broker; the status stays.
        BrokerError: the broker cannot be reached, refuses the user, or refuses the topic.

    """
    with RetainedReader(endpoint, topics.bridge_state, _ANSWER_S) as reader:
        states = reader.read([topics.bridge_state], quiet_s=_RETAINED_S).values()
        if any(b'"online"' in state for state in states):
            raise BridgeIsThereError(f"a bridge runs on {endpoint.url}")
        reader.clear(topics.status(user_id))
