"""Clearing a forgotten user's retained status without a bridge."""

import secrets
import threading

from mqtt_presence.cli.endpoints import endpoint_of
from mqtt_presence.client.connection import Connection, Hooks, Receipt
from mqtt_presence.client.options import Endpoint
from mqtt_presence.errors import BrokerError
from mqtt_presence.settings import Settings
from mqtt_presence.topics import Topics

_ANSWER_S = 5.0
_RETAINED_S = 0.5


class BridgeIsThereError(BrokerError):
    """A bridge runs: it is its business."""


def clear_status(settings: Settings, user_id: str) -> None:
    """Publish the empty retained status, and see that the broker took it.

    Acknowledging is not enough: in MQTT 3.1.1 a broker acknowledges what it does not allow, too. So the topic
    is subscribed, and what comes back tells.

    Args:
        settings: where the broker is, and as whom to go there.
        user_id: whose status.

    Raises:
        BridgeIsThereError: a bridge runs on this broker; nothing was done.
        BrokerError: it cannot be reached, refuses us, or does not let us write the topic.

    """
    endpoint = endpoint_of(settings, f"forget-{secrets.token_hex(8)}")
    _Clearing(endpoint, Topics(settings.prefix), user_id).do()


class _Publisher(Connection):
    """A connection that can publish retained messages, as clients need not."""

    def clear(self, topic: str) -> Receipt:
        return Receipt(self._client.publish(topic, b"", 1, retain=True), self)


class _Clearing:
    def __init__(self, endpoint: Endpoint, topics: Topics, user_id: str) -> None:
        self._endpoint = endpoint
        self._topics = topics
        self._topic = topics.status(user_id)
        self._up = threading.Event()
        self._bridge_spoke = threading.Event()
        self._cleared = threading.Event()
        self._bridge_state = b""
        self._failure: BrokerError | None = None
        hooks = Hooks(
            will=lambda: None,
            up=lambda _: self._up.set(),
            message=self._take,
            tick=lambda: None,
            down=lambda: None,
        )
        self._connection = _Publisher(endpoint, hooks, _ANSWER_S)

    def do(self) -> None:
        thread = threading.Thread(target=self._serve, name="forget", daemon=True)
        thread.start()
        try:
            self._clear()
        finally:
            self._connection.disconnect()
            thread.join(1.0)

    def _serve(self) -> None:
        try:
            self._connection.serve()
        except BrokerError as error:
            self._failure = error
        finally:
            self._up.set()  # there is nothing to wait for any more

    def _clear(self) -> None:
        url = self._endpoint.url
        if not self._up.wait(3 * _ANSWER_S) or not self._connection.is_up:
            raise self._failure or BrokerError(f"{url} did not answer")
        self._connection.subscribe([(self._topics.bridge_state, 1), (self._topic, 1)])
        if self._bridge_spoke.wait(_RETAINED_S) and b'"online"' in self._bridge_state:
            raise BridgeIsThereError(f"a bridge runs on {url}")
        if not self._connection.clear(self._topic).wait(_ANSWER_S):
            raise BrokerError(f"{url} did not acknowledge in {_ANSWER_S:g} s")
        if not self._cleared.wait(_ANSWER_S):
            raise BrokerError(f"{url} does not let this user clear {self._topic}")

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.bridge_state:
            self._bridge_state = payload
            self._bridge_spoke.set()
        elif topic == self._topic and not payload and not retained:
            self._cleared.set()
