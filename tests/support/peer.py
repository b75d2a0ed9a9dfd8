"""A client for any broker: TCP or WebSocket, with TLS and certificates, that can die and tells what it hears."""

import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.waiting import DEADLINE_S


class RefusedError(Exception):
    """The broker does not let the client in."""


class Peer:
    """Connected, and subscribed, when the constructor returns.

    Args:
        port: of the broker, on this machine.
        user: the user name.
        client_id: the client id.
        password: None: none.
        will: topic and payload, QoS 1.
        filters: what to subscribe to, at QoS 1.
        path: of the WebSocket; None: TCP.
        tls: the context of a TLS connection; None: without.
        persistent: the broker keeps the session.
        mqtt5: speak MQTT 5.

    Raises:
        RefusedError: the broker does not take the connection.

    """

    def __init__(
        self,
        port: int,
        user: str,
        client_id: str,
        *,
        password: str | None = None,
        will: tuple[str, bytes] | None = None,
        filters: tuple[str, ...] = (),
        path: str | None = None,
        tls: ssl.SSLContext | None = None,
        persistent: bool = False,
        mqtt5: bool = False,
    ) -> None:
        self._changed = threading.Condition()
        self._answer: Any = None
        self._ended = False
        self._granted: list[Any] | None = None
        self._acknowledged: set[int] = set()
        self.heard: list[tuple[str, bytes, bool]] = []
        client = self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5 if mqtt5 else mqtt.MQTTv311,
            clean_session=None if mqtt5 else not persistent,
            transport="tcp" if path is None else "websockets",
            reconnect_on_failure=False,
        )
        if path is not None:
            client.ws_set_options(path=path)
        if tls is not None:
            client.tls_set_context(tls)
        client.username_pw_set(user, password)
        if will is not None:
            client.will_set(*will, qos=1)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        try:
            client.connect("localhost" if tls is not None else "127.0.0.1", port, keepalive=30)
        except (OSError, ValueError, mqtt.WebsocketConnectionError) as error:
            raise RefusedError(str(error)) from error
        client.loop_start()
        self._wait(lambda: self._answer is not None or self._ended, "an answer to CONNECT")
        if self._answer is None or self._answer.is_failure:
            client.loop_stop()
            raise RefusedError(str(self._answer or "the connection was closed"))
        if filters:
            client.subscribe([(f, 1) for f in filters])
            self._wait(lambda: self._granted is not None or self._ended, "an answer to SUBSCRIBE")

    @property
    def is_connected(self) -> bool:
        return not self._ended

    @property
    def granted(self) -> list[bool]:
        """Whether each filter was granted; none if the broker closed the connection instead."""
        return [not code.is_failure for code in self._granted or []]

    def publish(self, topic: str, payload: bytes = b"{}", *, retain: bool = False) -> bool:
        """Publish at QoS 1; return False if the broker closed the connection instead of answering."""
        return self.publish_all([(topic, payload)], retain=retain)

    def publish_all(self, messages: Iterable[tuple[str, bytes]], *, retain: bool = False) -> bool:
        """Publish all at QoS 1 without waiting in between; return whether all were acknowledged."""
        sent = [self._client.publish(topic, payload, 1, retain).mid for topic, payload in messages]
        self._wait(
            lambda: self._ended or self._acknowledged.issuperset(sent), f"answers to {len(sent)} messages"
        )
        return self._acknowledged.issuperset(sent)

    def said(self, topic: str) -> list[bytes]:
        """Return the payloads heard on one topic."""
        with self._changed:
            return [payload for heard, payload, _ in self.heard if heard == topic]

    def wait_for(self, topic: str, part: bytes = b"", deadline_s: float = DEADLINE_S) -> bytes:
        """Wait until the last of what was heard on a topic contains something, and return it."""
        self._wait(
            lambda: self.said(topic) and part in self.said(topic)[-1], f"{part!r} on {topic}", deadline_s
        )
        return self.said(topic)[-1]

    def die(self) -> None:
        """End the connection without a word: the will follows."""
        sock: Any = self._client.socket()
        if sock is not None:
            raw = getattr(sock, "_socket", sock)
            raw.shutdown(2)
        self._client.loop_stop()

    def close(self) -> None:
        """Leave on purpose: no will."""
        self._client.disconnect()
        self._client.loop_stop()

    def wait_for_end(self) -> None:
        """Wait until the broker has closed the connection."""
        self._wait(lambda: self._ended, "the broker closes the connection")

    def _on_connect(self, _client, _data, _flags, reason, _properties) -> None:
        with self._changed:
            self._answer = reason
            self._changed.notify_all()

    def _on_disconnect(self, *_) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _on_subscribe(self, _client, _data, _mid, codes, _properties) -> None:
        with self._changed:
            self._granted = codes
            self._changed.notify_all()

    def _on_publish(self, _client, _data, mid, *_) -> None:
        with self._changed:
            self._acknowledged.add(mid)
            self._changed.notify_all()

    def _on_message(self, _client, _data, message) -> None:
        with self._changed:
            self.heard.append((message.topic, message.payload, message.retain))
            self._changed.notify_all()

    def _wait(self, condition: Any, what: str, deadline_s: float = DEADLINE_S) -> None:
        deadline = time.monotonic() + deadline_s
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {deadline_s:g} s: {what}; heard {self.heard[-30:]}")
                self._changed.wait(min(left, 0.5))
