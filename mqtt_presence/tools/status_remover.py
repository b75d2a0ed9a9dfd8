"""Clearing a forgotten user's retained status without a bridge."""

import secrets

from mqtt_presence.cli.broker_endpoint import endpoint_of
from mqtt_presence.client.retained_reader import RetainedReader
from mqtt_presence.errors import BrokerError
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.settings import Settings

_ANSWER_S = 5.0
_RETAINED_S = 0.5


class BridgeIsThereError(BrokerError):
    """A bridge runs: it is its business."""


def clear_status(settings: Settings, user_id: str) -> None:
    """Publish the empty retained status, and see that the broker took it.

    Args:
        settings: where the broker is, and as whom to go there.
        user_id: whose status.

    Raises:
        BridgeIsThereError: a bridge runs on this broker; nothing was done.
        BrokerError: it cannot be reached, refuses us, or does not let us write the topic.

    """
    endpoint = endpoint_of(settings, f"forget-{secrets.token_hex(8)}")
    topics = Topics(settings.prefix)
    with RetainedReader(endpoint, topics.bridge_state, _ANSWER_S) as reader:
        states = reader.read([topics.bridge_state], quiet_s=_RETAINED_S).values()
        if any(b'"online"' in state for state in states):
            raise BridgeIsThereError(f"a bridge runs on {endpoint.url}")
        reader.clear(topics.status(user_id))
