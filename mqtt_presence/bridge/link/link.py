"""The link: the bridge's persistent session with the broker.

The link has one thread and no queue between threads. `poll` connects, reads, writes and keeps the connection
alive; its `Arrivals` hold the messages and every change. The link uses MQTT 5 where the broker accepts it,
because only MQTT 5 lets a client name its receive window; else MQTT 3.1.1 (`mqtt_version.py`).
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import paho.mqtt.client as mqtt
from msgspec.structs import replace
from paho.mqtt.enums import MQTTErrorCode

from mqtt_presence.access.rate_limited_log import RateLimitedLog
from mqtt_presence.bridge.link.acknowledgements import (
    IN_FLIGHT,
    IN_FLIGHT_V311,
    AcknowledgementTimeout,
    Publications,
    tickets,
)
from mqtt_presence.bridge.link.arrivals import Arrivals, Collector
from mqtt_presence.bridge.link.batch_client import BatchClient
from mqtt_presence.bridge.link.config import RECEIVE_MAXIMUM, LinkConfig
from mqtt_presence.bridge.link.connecting import Connecting
from mqtt_presence.bridge.link.session_end import end_session
from mqtt_presence.bridge.link.subscriptions import Subscriptions
from mqtt_presence.bridge.link.wake_up import WakeUp
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.mqtt.paho_sockets import has_buffered
from mqtt_presence.mqtt.return_codes import FAILURE, NOT_AUTHORIZED
from mqtt_presence.protocol.topics import is_safe

log = logging.getLogger(__name__)
_SMALLEST_WINDOW = 20
"""mosquitto's default receive maximum, the smallest among the supported brokers."""
_MAX_READ = 4 * 1024 * 1024
"""Bytes of one poll; a batch of usual messages has some 150 KB."""
_REFUSED_RIGHT = (
    "the broker does not let this user publish to %s: see broker_config/ for the rights that the bridge needs"
)
_REFUSED = "the broker refuses what is published to %s: reason 0x%02X"


class Link:
    """A persistent session with the broker, reconnected after each loss.

    Args:
        config: where to connect, and as which client.
        make_will: called before every connection: topic and payload of the retained will; None: no will.

    """

    def __init__(self, config: LinkConfig, make_will: Callable[[], tuple[str, bytes]] | None) -> None:
        self._make_will = make_will
        self._config = config
        self._connecting = Connecting(config)
        self._max_packet = config.max_packet
        self._publications = Publications()
        self._timeout = AcknowledgementTimeout()
        self._subscriptions = Subscriptions()
        self._wake_up = WakeUp()
        self._refusals = RateLimitedLog(log)
        self._collector = Collector()
        self._is_leaving = False
        self._fatal: str | None = None
        self._denied: str | None = None
        """The topic filter that this node has denied, and another one may grant."""
        self._client = self._make_client()

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the connection, which has not ended since."""
        return self._collector.is_connected

    @property
    def was_taken_over(self) -> bool:
        """Whether another client has taken the last connection over, or seems to."""
        return self._connecting.was_taken_over

    @property
    def is_mqtt5(self) -> bool:
        """Whether the connection uses MQTT 5."""
        return self._connecting.is_mqtt5

    @property
    def receive_window(self) -> int:
        """The least number of messages that the broker sends before it waits for an acknowledgement."""
        return RECEIVE_MAXIMUM if self.is_mqtt5 else _SMALLEST_WINDOW

    @property
    def backlog(self) -> int:
        """The number of publications that the broker has not acknowledged, sent or not."""
        return len(self._publications)

    def wake(self) -> None:
        """Make a waiting `poll` return; safe in any thread and in a signal handler."""
        self._wake_up.send()

    def poll(self, timeout_s: float, at_most: int, *, may_connect: bool = True) -> Arrivals:
        """Connect, read and write; wait up to `timeout_s` seconds for something to do.

        Args:
            timeout_s: the longest wait.
            at_most: how many messages to read, up to some MB; the rest stays with the operating system.
                0: read none, and keep the connection alive.
            may_connect: whether to connect if there is no connection.

        Raises:
            BrokerError: the broker refuses the bridge for good: wrong password, or no right to subscribe.

        """
        if self._client.socket() is None:
            wait_s = self._connecting.wait_s
            if wait_s > 0 or not may_connect:
                self._wake_up.wait(min(wait_s, timeout_s) if may_connect else timeout_s)
            else:
                self._connect()
        else:
            self._exchange(timeout_s, at_most)
        fatal = self._fatal or self._connecting.fatal
        if fatal is not None:
            raise BrokerError(fatal)
        return self._collector.take()

    def ack(self, messages: Iterable[Incoming]) -> None:
        """Acknowledge messages, except those of an earlier connection, which arrive again."""
        epoch = self._collector.epoch if self._collector.is_connected else None
        self._client.queue_acks(m.mid for m in messages if m.qos and m.epoch == epoch)

    def publish(self, messages: Iterable[Outgoing]) -> None:
        """Send messages at QoS 1, in this order, over this connection or the next.

        A message with an unsafe topic is not sent, because brokers and clients may close the connection that
        brings it: the next poll has it in `Arrivals.unsent`, and its tickets in `Arrivals.delivered`.
        """
        for message in messages:
            if is_safe(message.topic):
                self._publications.add(message)
            else:
                self._collector.arrivals.unsent.append(message)
                self._collector.arrivals.delivered += tickets(message)
        self._send_waiting()

    def publish_ahead(self, message: Outgoing) -> None:
        """Send a message at QoS 1 before all waiting ones, if there is a connection."""
        if self._collector.is_connected:
            self._publications.send_at_once(self._client, message)

    def send_now(self, topic: str, payload: bytes) -> None:
        """Send a message at QoS 0, if there is a connection."""
        if self._collector.is_connected:
            self._client.publish(topic, payload, 0)

    def subscribe(self, topic_filter: str, qos: int = 1, *, required: bool = True) -> None:
        """Subscribe, after everything sent before; `Arrivals.subscribed` has the answer.

        Args:
            topic_filter: the topics.
            qos: 0: the broker keeps no messages for an absent bridge.
            required: `poll` raises if the broker denies it. An optional subscription may be denied, and is
                put off if it may have ended an earlier connection.

        """
        self._subscriptions.request(self._client, topic_filter, qos, required=required)

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe, after everything sent before; `Arrivals.unsubscribed` has the answer."""
        self._subscriptions.request_end(self._client, topic_filter)

    def flush(self) -> None:
        """Write the waiting packets, as far as the operating system accepts them."""
        self._client.flush()

    def disconnect(self) -> None:
        """End the connection with DISCONNECT: the broker publishes no will and keeps the session."""
        self._is_leaving = True
        if self._client.socket() is not None:
            self._client.flush()
            self._client.disconnect()
            self._client.loop_write()
        self._collector.is_connected = False

    def end_session(self) -> bool:
        """Disconnect for good, and have the broker forget the session; return whether it has."""
        self.disconnect()
        return end_session(self._config)

    def close(self) -> None:
        """Close all sockets; without `disconnect` before, the broker publishes the will."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._wake_up.close()

    # Connecting.

    def _make_client(self) -> BatchClient:
        client = self._connecting.make_client(
            receive_publish=self._collector.receive_publish,
            receive_puback=self._receive_puback,
            receive_large=self._collector.receive_large,
            max_packet=self._max_packet,
            in_flight=self._publications.in_flight,
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        return client

    def _connect(self) -> None:
        self._client = self._make_client()
        if self._make_will is not None:
            self._client.will_set(*self._make_will(), qos=1, retain=True)
        self._connecting.connect(self._client)

    def _on_connect(
        self, _client: mqtt.Client, _data: object, flags: mqtt.ConnectFlags, reason: Any, properties: Any
    ) -> None:
        connecting = self._connecting
        if reason.is_failure:
            connecting.refused(int(reason.value))
            return
        if not connecting.accepted(session_present=flags.session_present):
            self._client.disconnect()
            return
        window = IN_FLIGHT if self.is_mqtt5 else IN_FLIGHT_V311
        self._publications.connected(min(window, getattr(properties, "ReceiveMaximum", window)))
        self._collector.epoch += 1
        self._collector.is_connected = True
        self._collector.arrivals.connected = True
        self._collector.arrivals.session_present = connecting.found_session()
        self._collector.arrivals.contested = connecting.is_contested

    def _on_disconnect(
        self, _client: mqtt.Client, _data: object, _flags: object, reason: Any, _properties: object
    ) -> None:
        if self._is_leaving:
            return
        if self._collector.is_connected:
            self._connecting.connection_ended(reason.value, self._denied)
        elif not self._connecting.attempt_ended():
            return
        self._denied = None
        self._collector.is_connected = False
        self._timeout.restart()
        self._subscriptions.disconnected()
        self._publications.disconnected()

    def _on_subscribe(self, _client: mqtt.Client, _data: object, mid: int, codes: Any, *_: Any) -> None:
        is_denied = any(code.is_failure for code in codes)
        topic_filter = self._subscriptions.answered(mid, is_denied=is_denied)
        if topic_filter is None:
            return
        if is_denied and self._connecting.has_other_nodes:
            self._denied = topic_filter
        elif is_denied:
            self._fatal = (
                f"the broker does not let this user subscribe to {topic_filter}: see broker_config/ for the "
                "rights that the bridge needs"
            )
        else:
            self._collector.arrivals.subscribed.append(topic_filter)

    def _on_unsubscribe(self, _client: mqtt.Client, _data: object, mid: int, *_: Any) -> None:
        topic_filter = self._subscriptions.ended(mid)
        if topic_filter is not None:
            self._collector.arrivals.unsubscribed.append(topic_filter)

    # Reading and writing.

    def _exchange(self, timeout_s: float, at_most: int) -> None:
        sock: Any = self._client.socket()
        at_most = (
            at_most if self._collector.is_connected else max(1, at_most)
        )  # the answer to CONNECT, at least
        pause_s = min(timeout_s, self._publications.pause_s)
        if pause_s:
            time.sleep(pause_s)
        if not at_most:
            self._client.excuse_silence()
            self._wake_up.wait(timeout_s)
        elif has_buffered(sock):
            self._wake_up.clear()
        else:
            self._wake_up.wait(timeout_s, sock, writes=self._client.want_write())
        if self._read(at_most):
            self._check_stalled_ack()
        else:
            self._timeout.restart()
        if self._denied is not None:
            self._client.drop_connection()
        if self._collector.is_connected:
            self._subscriptions.request_skipped(self._client)
        self._send_waiting()
        self._client.loop_misc()
        self._client.flush()

    def _read(self, at_most: int) -> bool:
        """Read messages; return whether all that had arrived are read."""
        client, messages = self._client, self._collector.arrivals.messages
        client.bytes_read = 0
        while len(messages) < at_most:
            if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return True
            if client.bytes_read >= _MAX_READ:
                self._collector.arrivals.cut_short = True
                break
        return False

    def _check_stalled_ack(self) -> None:
        """Reconnect if the broker has stopped acknowledging."""
        oldest = self._publications.oldest
        if (
            self._collector.is_connected
            and self._timeout.is_over(oldest, self._connecting.connected_at)
            and oldest is not None
        ):
            log.warning(
                "the broker has not acknowledged what was published to %s %.0f s ago: connecting again, to "
                "publish it again",
                oldest.topic,
                self._timeout.timeout_s,
            )
            self._timeout.extend()
            self._client.drop_connection()

    def _send_waiting(self) -> None:
        # On a new connection the bridge first reads the statuses that the broker has; a status that is sent
        # before could be mistaken for the answer.
        if self._collector.is_connected and not self._collector.arrivals.connected:
            self._publications.send(self._client)

    def _receive_puback(self, mid: int, reason: int) -> None:
        message = self._publications.in_flight.pop(mid, None)
        if message is None:
            return
        if reason >= FAILURE:
            self._collector.arrivals.refused += [
                replace(message, ticket=t, replaced=()) for t in (*message.replaced, message.ticket)
            ]
            self._log_refused(message, reason)
        else:
            self._collector.arrivals.delivered += tickets(message)

    def _log_refused(self, message: Outgoing, reason: int) -> None:
        if reason == NOT_AUTHORIZED:
            self._refusals.log(_REFUSED_RIGHT, message.topic, level=logging.ERROR)
        else:
            self._refusals.log(_REFUSED, message.topic, reason, level=logging.ERROR)
