"""A subscriber that records all it gets, and lets a test wait for what it wants to see."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.waiting import DEADLINE_S


@dataclass(frozen=True)
class Heard:
    topic: str
    payload: bytes
    retained: bool
    at: float
    qos: int

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Recorder:
    """Connected and subscribed when the constructor returns; retained messages may still be on their way.

    With a `window` it speaks MQTT 5, and a broker with a short queue sends it so many messages at once.
    """

    def __init__(
        self,
        port: int,
        filters: tuple[str, ...],
        *,
        user: str = "operator",
        password: str = "",
        client_id: str = "",
        log: Callable[[], str] = lambda: "",
        prefix: str = "",
        window: int | None = None,
    ) -> None:
        self._log = log
        self._filters = filters
        self._prefix = prefix
        self._news = threading.Condition()
        self._subscribed = False
        self.heard: list[Heard] = []
        version = mqtt.MQTTv311 if window is None else mqtt.MQTTv5
        properties = None
        if window is not None:
            properties = Properties(PacketTypes.CONNECT)
            properties.ReceiveMaximum = window
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version)
        self._client.username_pw_set(user, password)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda *_: self._client.subscribe([(f, 1) for f in filters])
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port, keepalive=60, properties=properties)
        self._client.loop_start()
        self.wait_for(lambda: self._subscribed, "the subscription")

    def _on_subscribe(self, _client, _data, _mid, codes, _properties) -> None:
        assert not any(code.is_failure for code in codes), self._filters
        with self._news:
            self._subscribed = True
            self._news.notify_all()

    def _on_message(self, _client, _data, message) -> None:
        with self._news:
            heard = Heard(message.topic, message.payload, message.retain, time.monotonic(), message.qos)
            self.heard.append(heard)
            self._news.notify_all()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_for(self, condition: Callable[[], Any], what: str = "", deadline_s: float = DEADLINE_S) -> Any:
        """Wait until what was heard makes the condition true; tell what was heard when it does not."""
        deadline = time.monotonic() + deadline_s
        with self._news:
            while True:
                answer = condition()
                if answer:
                    return answer
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(
                        f"not within {deadline_s:g} s: {what}\n{self.story()}\n{self._log()}"
                    )
                self._news.wait(min(left, 0.5))

    def on(self, topic: str) -> list[Heard]:
        """Return everything heard on one topic (without the prefix)."""
        with self._news:
            return [m for m in self.heard if m.topic == self._prefix + topic]

    def last(self, topic: str) -> Any:
        """Return the last object heard on a topic; None: nothing, or it was cleared."""
        heard = self.on(topic)
        return json.loads(heard[-1].payload) if heard and heard[-1].payload else None

    def status(self, user: str) -> Any:
        """Return the last status heard of a user."""
        return self.last(f"status/{user}")

    def statuses(self) -> dict[str, Any]:
        """Return the last status of every user."""
        with self._news:
            heard = {m.topic: m.payload for m in self.heard if m.topic.startswith(f"{self._prefix}status/")}
        return {t.removeprefix(f"{self._prefix}status/"): json.loads(p) for t, p in heard.items() if p}

    def versions(self) -> dict[str, list[tuple[int, bytes, bool]]]:
        """Return what was heard of each user's status, in order: version, payload, whether it was retained."""
        told: dict[str, list[tuple[int, bytes, bool]]] = {}
        with self._news:
            for m in self.heard:
                if m.topic.startswith(f"{self._prefix}status/") and m.payload:
                    told.setdefault(m.topic.removeprefix(f"{self._prefix}status/"), []).append(
                        (m.json["version"], m.payload, m.retained)
                    )
        return told

    def events(self, user: str) -> list[tuple[str, Any]]:
        """Return a user's events in order: name and object."""
        start = f"{self._prefix}events/{user}/"
        with self._news:
            return [(m.topic.removeprefix(start), m.json) for m in self.heard if m.topic.startswith(start)]

    def wait_for_event(self, user: str, name: str) -> Any:
        """Wait for an event of a user, which follows the status, and return its object."""
        return self.wait_for(lambda: dict(self.events(user)).get(name), f"{name} of {user}")

    def wait_for_state(self, user: str, state: str) -> Any:
        """Wait until a user's last status is of this state, and return it."""
        self.wait_for(lambda: (self.status(user) or {}).get("state") == state, f"{user} is {state}")
        return self.status(user)

    def story(self) -> str:
        """Tell the last of what was heard."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"--- heard {len(self.heard)} messages, the last of them:"
        for m in self.heard[-40:]:
            yield f"{m.at:.3f} {'R' if m.retained else ' '} {m.topic} {m.payload[:300]!r}"
