"""The web server as it is run: `up`, and `run --web` beside mosquitto."""

import json
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from tests.support.waiting import until
from tests.support.web import Page


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Run `up`, open, for all tests that only ask."""
    with Page(tmp_path_factory.mktemp("up"), "up") as page:
        yield page


class Browser:
    """MQTT over the page's WebSocket, by paho, as a presence client and a subscriber."""

    def __init__(self, page: Page, user: str, client_id: str, password: str | None = None) -> None:
        self.statuses: dict[str, Any] = {}
        self.bridge: list[str] = []
        self.refused: list[Any] = []
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, transport="websockets"
        )
        self.client.ws_set_options(path="/mqtt")
        self.client.username_pw_set(user, password)
        self.client.will_set(f"presence/{user}/{client_id}/will", b'{"connectionId":"c1"}', qos=1)
        self.client.on_connect = self._on_connect
        self.client.on_message = self._on_message
        self._login = f"presence/{user}/{client_id}/login"
        self.client.connect("127.0.0.1", page.port)
        self.client.loop_start()

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self.refused.append(reason)
            return
        client.subscribe([("status/+", 1), ("bridge/+", 1)])
        client.publish(self._login, b'{"connectionId":"c1","userAgent":"tests"}', qos=1)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith("status/"):
            self.statuses[message.topic.removeprefix("status/")] = json.loads(message.payload)
        elif message.topic == "bridge/state":
            self.bridge.append(json.loads(message.payload)["state"])

    def sees(self, user: str, state: str) -> Any:
        return until(
            lambda: self.statuses.get(user, {}).get("state") == state, f"{user} is {state}: {self.statuses}"
        )

    def lose(self) -> None:
        """Lose the connection without a word."""
        self.client.loop_stop()
        sock = self.client.socket()
        assert sock is not None
        sock._socket.close()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_mqtt_over_the_page_is_presence(up: Page) -> None:
    """Who logs in through the page's own WebSocket is online; who loses it is offline, by its will."""
    watcher = Browser(up, "watcher", "watcher-1")
    alice = Browser(up, "alice", "alice-1")
    try:
        watcher.sees("alice", "online")
        until(lambda: watcher.bridge == ["online"])
        found = up.api("users", "alice", "connections").json["connections"]
        assert [(c["clientId"], c["connectionId"], c["ipAddr"], c["userAgent"]) for c in found] == [
            ("alice-1", "c1", "127.0.0.1", "tests")
        ]
        alice.lose()
        watcher.sees("alice", "offline")
        ended = up.api("connections", open="false").json["connections"]
        assert ("alice", "c1", "lost") in [(c["userId"], c["connectionId"], c["reason"]) for c in ended]
    finally:
        watcher.close()
