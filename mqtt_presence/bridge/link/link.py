"""The bridge's connection to the broker: the only module that knows paho on the bridge's side.

One thread, no queue between threads: `poll` connects, reads, writes and keeps alive; what came is returned,
what is to be told is in `Arrivals`. MQTT 5 where the broker speaks it, because only there the client says how
many messages may be on the way to it; else 3.1.1 (docs/design.md; the choice is `mqtt_version.py`).
"""

import logging
import random
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import paho.mqtt.client as mqtt
from msgspec.structs import replace
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.link.batch_client import BatchClient
from mqtt_presence.bridge.link.config import RECEIVE_MAXIMUM, LinkConfig
from mqtt_presence.bridge.link.mqtt_version import MqttVersion
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.mqtt.paho_client import prepare, transport
from mqtt_presence.mqtt.return_codes import (
    BAD_USER_NAME_OR_PASSWORD,
    FAILURE,
    NOT_AUTHORIZED,
    TAKEN_OVER,
    UNSUPPORTED_VERSION,
    connack_words,
)
from mqtt_presence.mqtt.tls_files import TlsFiles
from mqtt_presence.protocol.topics import is_safe

log = logging.getLogger(__name__)
# Messages on their way to a broker that takes so many (MQTT 5 §3.2.2.3.3): its acknowledgements come behind
# what it has on the way to us, and what must wait for them is published after all of that.
_IN_FLIGHT = 20_000
_IN_FLIGHT_V311 = 1000  # there a broker does not say what it takes
_MANY_IN_FLIGHT = 100
_USUAL_WINDOW = 20  # mosquitto's, and the least there is
_READ_AT_MOST = 4 * 1024 * 1024  # bytes in one poll; some 150 KB are what a batch of usual messages has
_COMPLAIN_EVERY_S = 10.0
_ACKNOWLEDGED_S = 60.0  # at the latest, by a broker that will ever do so
_PATIENCE_AT_MOST_S = 3600.0
_LOOKED_AWAY_S = 5.0  # the database took so long: what the broker has said since may be on its way to us
_CONNECT_TIMEOUT_S = 5.0
_STABLE_S = 30.0
# Until an optional subscription is tried again that may have ended the connection; doubled each time.
_OPTIONAL_AGAIN_S = 60.0
_OPTIONAL_AGAIN_AT_MOST_S = 86_400.0
_FINAL_REFUSALS = {UNSUPPORTED_VERSION, BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED}


def newest_only(messages: Iterable[Outgoing]) -> list[Outgoing]:
    """Drop each retained message that a later message of its topic replaces; the later one gets its ticket.

    For messages that the broker may have already: subscribers must not receive an old status after a new one.
    """
    kept: list[Outgoing] = []
    older: dict[str, tuple[Any, ...]] = {}
    last: set[str] = set()
    for message in reversed(list(messages)):
        if not message.retain or message.topic not in last:
            kept.append(message)
            if message.retain:
                last.add(message.topic)
        else:
            tickets = (*message.replaced, message.ticket)
            older[message.topic] = (*tickets, *older.get(message.topic, ()))
    kept.reverse()
    return [
        replace(m, replaced=(*older[m.topic], *m.replaced)) if m.retain and m.topic in older else m
        for m in kept
    ]


def _tickets(message: Outgoing) -> list[Any]:
    """Return the tickets of a message and of those that it replaces."""
    return [ticket for ticket in (*message.replaced, message.ticket) if ticket is not None]


class Link:
    """A persistent session with the broker, kept up.

    Args:
        config: where and as whom.
        make_will: called before every connection: topic and payload of the retained will.

    """

    def __init__(self, config: LinkConfig, make_will: Callable[[], tuple[str, bytes]]) -> None:
        self._config = config
        self._make_will = make_will
        self._version = MqttVersion(mqtt5=config.mqtt5)
        is_tls = config.url.tls
        self._tls = TlsFiles(config.ca_file, config.cert_file, config.key_file) if is_tls else None
        self._in_flight: dict[int, Outgoing] = {}
        self._client = self._make_client()
        self._window = _IN_FLIGHT_V311
        self._arrivals = Arrivals()
        self._waiting: deque[Outgoing] = deque()
        self._subscribing: dict[int, str] = {}
        self._optional: dict[int, str] = {}
        """Topic filters of optional subscriptions that the broker has not answered, by packet id."""
        self._skipped: list[tuple[str, int]] = []
        """Optional subscriptions that this connection has not asked for yet: topic filter and QoS."""
        self._skip_until = 0.0
        self._skip_s = _OPTIONAL_AGAIN_S
        self._denied: set[str] = set()
        """Topic filters whose denial is logged."""
        self._epoch = 0
        self._connected = False
        self._leaving = False
        self._complain_at = 0.0
        self._watched: Outgoing | None = None
        """The oldest that waits for its acknowledgement, while all that the broker says is read."""
        self._watched_until = 0.0
        self._looked_at = 0.0
        self._patience_s = _ACKNOWLEDGED_S
        self._refused: int | None = None
        self._is_probe_over = False
        self._has_lost_session = False
        """A probe found no session at the broker, and the bridge has not been told yet."""
        self._fallback_level = logging.WARNING
        self._fatal: str | None = None
        self._once_connected = False
        self._failures = 0
        self._short_lived = 0
        self._connected_at = 0.0
        self._next_attempt = 0.0
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)

    @property
    def is_connected(self) -> bool:
        """The broker has accepted the connection, and it has not ended since."""
        return self._connected

    @property
    def is_mqtt5(self) -> bool:
        """The broker is spoken to in MQTT 5."""
        return self._version.is_mqtt5

    @property
    def receive_window(self) -> int:
        """How many messages the broker sends, at least, before it waits for an acknowledgement."""
        return RECEIVE_MAXIMUM if self.is_mqtt5 else _USUAL_WINDOW

    @property
    def backlog(self) -> int:
        """How many messages wait for the broker's acknowledgement, sent or not."""
        return len(self._waiting) + len(self._in_flight)

    def wake(self) -> None:
        """Make a `poll` that waits return; may be called from any thread and from a signal handler."""
        with suppress(OSError):  # it is full of reasons to wake up, or closed
            self._wake_out.send(b"!")

    def poll(self, timeout_s: float, at_most: int) -> Arrivals:
        """Do what there is to do, waiting for it up to `timeout_s` seconds.

        Args:
            timeout_s: how long to wait for something to happen.
            at_most: how many messages to read, and no more than some MB; what is left stays with the
                operating system. 0: read none; the connection is kept alive.

        Raises:
            BrokerError: the broker refuses us for good: wrong password, or no right to subscribe.

        """
        if self._client.socket() is None:
            wait = self._next_attempt - time.monotonic()
            if wait > 0:
                self._sleep(min(wait, timeout_s))
            else:
                self._connect()
        else:
            self._exchange(timeout_s, at_most)
        if self._fatal is not None:
            raise BrokerError(self._fatal)
        arrivals, self._arrivals = self._arrivals, Arrivals()
        return arrivals

    def ack(self, messages: Iterable[Incoming]) -> None:
        """Acknowledge messages, unless the connection they came by has ended: they come again then."""
        epoch = self._epoch if self._connected else None
        self._client.queue_acks(m.mid for m in messages if m.qos and m.epoch == epoch)

    def publish(self, messages: Iterable[Outgoing]) -> None:
        """Send messages at QoS 1, in this order, over this connection or the next.

        A message with an unsafe topic is not sent, because brokers and clients may close the connection that
        brings it: the next poll has it in `Arrivals.unsent`, and its tickets in `Arrivals.delivered`.
        """
        for message in messages:
            if is_safe(message.topic):
                self._waiting.append(message)
            else:
                self._arrivals.unsent.append(message)
                self._arrivals.delivered += _tickets(message)
        self._feed()

    def publish_ahead(self, message: Outgoing) -> None:
        """Send a message at QoS 1 before all that waits, if there is a connection."""
        if self._connected:
            mid = self._client.queue_publish(message.topic, message.payload, retain=message.retain)
            self._in_flight[mid] = message

    def send_now(self, topic: str, payload: bytes) -> None:
        """Send a message at QoS 0, if there is a connection."""
        if self._connected:
            self._client.publish(topic, payload, 0)

    def subscribe(self, topic_filter: str, qos: int = 1, *, required: bool = True) -> None:
        """Subscribe, after all that was said before; `Arrivals.subscribed` tells when.

        Args:
            topic_filter: to what.
            qos: 0: what comes while we are away is not kept for us.
            required: without it the bridge cannot work, so `poll` raises if the broker does not grant it.
                If not required it may be denied, and is put off if it may have ended an earlier connection.

        """
        if not required and time.monotonic() < self._skip_until:
            self._skipped.append((topic_filter, qos))
            return
        self._client.flush()
        _, mid = self._client.subscribe(topic_filter, qos)
        if mid is not None:
            (self._subscribing if required else self._optional)[mid] = topic_filter

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe."""
        self._client.unsubscribe(topic_filter)

    def disconnect(self) -> None:
        """End the connection on purpose: no will goes out. The session stays."""
        self._leaving = True
        if self._client.socket() is not None:
            self._client.flush()
            self._client.disconnect()
            self._client.loop_write()
        self._connected = False

    def close(self) -> None:
        """Give everything back; without `disconnect` before, the broker publishes the will."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._wake_in.close()
        self._wake_out.close()

    # Connecting.

    def _make_client(self) -> BatchClient:
        config = self._config
        client = BatchClient(
            take_publish=self._take_publish,
            take_puback=self._take_puback,
            take_large=self._take_large,
            max_packet=config.max_packet,
            in_flight=self._in_flight,
            callback_api_version=CallbackAPIVersion.VERSION2,
            client_id=config.client_id,
            clean_session=None if self.is_mqtt5 else False,
            protocol=mqtt.MQTTv5 if self.is_mqtt5 else mqtt.MQTTv311,
            transport=transport(config.url),
            reconnect_on_failure=False,
        )
        tls = None if self._tls is None else self._tls.context()
        prepare(client, config.url, timeout_s=_CONNECT_TIMEOUT_S, tls=tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        return client

    def _connect(self) -> None:
        self._refused = None
        self._client = self._make_client()  # its version and certificates may have changed
        self._client.will_set(*self._make_will(), qos=1, retain=True)
        url = self._config.url
        try:
            self._client.connect(
                url.host, url.port, keepalive=self._config.keep_alive_s, **self._session_options()
            )
        except (OSError, ValueError, mqtt.WebsocketConnectionError) as error:
            self._version.begin()
            self._back_off()
            log.warning("cannot reach the broker at %s: %s; %s", url, error, self._next_try())

    def _session_options(self) -> dict[str, Any]:
        """Return the options for a session that never expires and for many messages on their way."""
        if not self.is_mqtt5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0xFFFF_FFFF
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        return {"clean_start": False, "properties": properties}

    def _back_off(self) -> None:
        delay = min(30.0, 0.25 * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.5)  # noqa: S311
        self._failures += 1
        self._next_attempt = time.monotonic() + delay

    def _next_try(self) -> str:
        return f"next try in {max(0.0, self._next_attempt - time.monotonic()):.1f} s"

    def _on_connect(
        self, _client: mqtt.Client, _data: object, flags: mqtt.ConnectFlags, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            self._refused = int(reason.value)
            return
        self._has_lost_session = self._has_lost_session or not flags.session_present
        if not self._version.accepted():
            self._is_probe_over = True
            self._client.disconnect()
            return
        if self._version.is_fallback:
            log.log(
                self._fallback_level,
                "the broker at %s does not accept MQTT 5: this connection uses MQTT 3.1.1, without a receive "
                "maximum and, unless `source` is set, without addresses and causes of ends; MQTT 5 is tried "
                "again at the next connection",
                self._config.url,
            )
            self._fallback_level = logging.INFO
        else:
            self._fallback_level = logging.WARNING
        most = _IN_FLIGHT if self.is_mqtt5 else _IN_FLIGHT_V311
        self._window = min(most, getattr(properties, "ReceiveMaximum", most))
        self._epoch += 1
        self._connected = self._once_connected = True
        self._connected_at = time.monotonic()
        self._arrivals.connected = True
        self._arrivals.session_present = not self._has_lost_session
        self._arrivals.contested = self._short_lived > 0
        log.info("connected to %s, session %s", self._config.url, "new" if self._has_lost_session else "kept")
        self._has_lost_session = False

    def _on_disconnect(
        self, _client: mqtt.Client, _data: object, _flags: object, reason: Any, _properties: object
    ) -> None:
        if self._leaving:
            return
        if not self._connected and self._tries_at_once():
            return
        lasted = time.monotonic() - self._connected_at
        self._put_optional_off()
        if self._connected and lasted >= _STABLE_S:
            self._failures = self._short_lived = 0
        self._back_off()
        if self._connected:
            self._short_lived += lasted < _STABLE_S
            if self._short_lived > 1 or reason.value == TAKEN_OVER:
                log.warning(
                    "the broker has closed the connection after %.1f s: does somebody else, a second "
                    "bridge on the same database perhaps, use this bridge's client id? %s",
                    lasted,
                    self._next_try(),
                )
            else:
                log.warning("the connection to the broker was lost; %s", self._next_try())
        elif self._refused is not None:
            why = connack_words(self._refused)
            log.error("the broker at %s refuses us: %s; %s", self._config.url, why, self._next_try())
            if self._refused in _FINAL_REFUSALS and not self._once_connected:
                self._fatal = f"the broker at {self._config.url} refuses us: {why}"
        else:
            log.warning("the broker at %s did not answer; %s", self._config.url, self._next_try())
        if self._connected:
            self._version.begin()
        self._connected = False
        self._watched = None
        self._subscribing.clear()
        # What was not acknowledged comes before what waits.
        unacknowledged = (m for m in self._in_flight.values() if not m.of_connection)
        self._waiting = deque(newest_only((*unacknowledged, *self._waiting)))
        self._in_flight.clear()

    def _tries_at_once(self) -> bool:
        """Return whether the next attempt follows at once, in another version."""
        if self._is_probe_over:
            self._is_probe_over = False
            return True
        if self._refused is None:
            return self._version.closed()
        return self._version.refused(unsupported=self._refused == UNSUPPORTED_VERSION)

    def _put_optional_off(self) -> None:
        """Put optional subscriptions off if the connection ended before the broker answered them.

        Some brokers close the connection instead of denying a subscription. The network may also have failed
        at that moment, so the subscriptions are tried again, each time later.
        """
        self._skipped.clear()
        if not self._optional:
            return
        self._skip_until = time.monotonic() + self._skip_s
        log.warning(
            "the connection ended before the broker answered the subscription to %s: going on without "
            "addresses, causes of ends and the broker's losses, next try in %.0f s (source = none: never)",
            ", ".join(sorted(self._optional.values())),
            self._skip_s,
        )
        self._skip_s = min(2 * self._skip_s, _OPTIONAL_AGAIN_AT_MOST_S)
        self._optional.clear()

    def _ask_for_skipped(self) -> None:
        if self._skipped and self._connected and time.monotonic() >= self._skip_until:
            skipped, self._skipped = self._skipped, []
            for topic_filter, qos in skipped:
                self.subscribe(topic_filter, qos, required=False)

    # Reading and writing.

    def _exchange(self, timeout_s: float, at_most: int) -> None:
        sock: Any = self._client.socket()
        at_most = at_most if self._connected else max(1, at_most)  # the answer to CONNECT, at least
        if timeout_s and (self._waiting or len(self._in_flight) > _MANY_IN_FLIGHT):
            time.sleep(min(timeout_s, self._pause()))
        if at_most and not _has_buffered(sock):
            waiter = select.poll()
            waiter.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
            waiter.register(self._wake_in, select.POLLIN)
            waiter.poll(timeout_s * 1000)
        elif not at_most:
            self._client.excuse_silence()
            self._sleep(timeout_s)
        self._hear_wake()
        if self._read(at_most):
            self._watch()
        else:
            self._watched = None  # what we have not read may be its acknowledgement
        self._ask_for_skipped()
        self._feed()
        self._client.loop_misc()
        self._client.flush()

    def _pause(self) -> float:
        """How long to wait, in seconds, for more acknowledgements than the next one.

        They come one by one, each as soon as the broker has it: to wake for each costs more than all else
        that is done for it. A broker has taken a tenth of what is on the way by then.
        """
        return 1e-6 * min(1000, len(self._in_flight))

    def _read(self, at_most: int) -> bool:
        """Read messages; tell whether that is all there is now."""
        client, messages = self._client, self._arrivals.messages
        client.bytes_read = 0
        while len(messages) < at_most:
            if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return True
            if client.bytes_read >= _READ_AT_MOST:
                self._arrivals.cut_short = True
                break
        return False

    def _watch(self) -> None:
        """Leave a broker that owes an acknowledgement: only a new connection lets us send again (§4.4)."""
        if not self._connected:
            return
        now = time.monotonic()
        oldest = next(iter(self._in_flight.values()), None)
        has_looked_away = now - self._looked_at > _LOOKED_AWAY_S
        self._looked_at = now
        if oldest is None or oldest is not self._watched or has_looked_away:
            if now - self._connected_at > self._patience_s:
                self._patience_s = _ACKNOWLEDGED_S  # this connection has outlived what ended the last one
            self._watched, self._watched_until = oldest, now + self._patience_s
        elif now > self._watched_until:
            log.warning(
                "the broker has not acknowledged what was published to %s %.0f s ago: connecting again, to "
                "publish it again",
                oldest.topic,
                self._patience_s,
            )
            self._patience_s = min(2 * self._patience_s, _PATIENCE_AT_MOST_S)
            self._client.hang_up()

    def flush(self) -> None:
        """Hand over to the operating system what waits to be written."""
        self._client.flush()

    def _feed(self) -> None:
        """Pass on what waits, as far as the window goes."""
        if self._arrivals.connected:
            return  # first our caller asks what the broker still has: what we send must not be the answer
        while self._waiting and self._connected and len(self._in_flight) < self._window:
            message = self._waiting.popleft()
            mid = self._client.queue_publish(message.topic, message.payload, retain=message.retain)
            self._in_flight[mid] = message

    def _take_large(self, flags: int, topic: bytes, size: int, mid: int) -> None:
        if not self._connected:
            return
        self._take_publish(flags, topic, b"", mid)
        messages = self._arrivals.messages
        messages[-1] = replace(messages[-1], oversize=size)

    def _take_publish(self, flags: int, topic: bytes, payload: bytes, mid: int) -> None:
        if not self._connected:
            return  # it came by a probe: the broker sends it again by the next connection
        try:
            name = topic.decode()
        except UnicodeDecodeError:
            name = ""  # a broker should not let it through (MQTT 3.1.1 §1.5.3); no topic is empty
        self._arrivals.messages.append(
            Incoming(name, payload, flags >> 1 & 3, flags & 1 != 0, flags & 8 != 0, mid, self._epoch)
        )

    def _take_puback(self, mid: int, reason: int) -> None:
        message = self._in_flight.pop(mid, None)
        if message is None:
            return
        if reason >= FAILURE:
            self._arrivals.refused += [
                replace(message, ticket=t, replaced=()) for t in (*message.replaced, message.ticket)
            ]
            self._complain(message, reason)
        else:
            self._arrivals.delivered += _tickets(message)

    def _complain(self, message: Outgoing, reason: int) -> None:
        if time.monotonic() < self._complain_at:
            return
        self._complain_at = time.monotonic() + _COMPLAIN_EVERY_S
        if reason == NOT_AUTHORIZED:
            log.error(
                "the broker does not let this user publish to %s: see broker_config/ for the rights that "
                "the bridge needs",
                message.topic,
            )
        else:
            log.error("the broker refuses what is published to %s: reason 0x%02X", message.topic, reason)

    def _on_subscribe(self, _client: mqtt.Client, _data: object, mid: int, codes: Any, *_: Any) -> None:
        if mid in self._optional:
            self._note_answer(self._optional.pop(mid), is_denied=any(code.is_failure for code in codes))
        topic_filter = self._subscribing.pop(mid, None)
        if topic_filter is None:
            return
        if any(code.is_failure for code in codes):
            self._fatal = (
                f"the broker does not let this user subscribe to {topic_filter}: see broker_config/ for the "
                "rights that the bridge needs"
            )
            return
        self._arrivals.subscribed.append(topic_filter)

    def _note_answer(self, topic_filter: str, *, is_denied: bool) -> None:
        """Record the answer to an optional subscription."""
        if not self._optional:
            self._skip_s = _OPTIONAL_AGAIN_S
        if not is_denied:
            self._denied.discard(topic_filter)
        elif topic_filter not in self._denied:
            self._denied.add(topic_filter)
            log.warning(
                "the broker does not let this user subscribe to %s: going on without what it reports there "
                "(addresses, causes of ends, its losses)",
                topic_filter,
            )

    def _sleep(self, seconds: float) -> None:
        waiter = select.poll()  # `select` takes no file descriptor beyond 1,023
        waiter.register(self._wake_in, select.POLLIN)
        waiter.poll(1000 * max(0.0, seconds))
        self._hear_wake()

    def _hear_wake(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_in.recv(4096):
                pass


def _has_buffered(sock: Any) -> bool:
    """TLS may have decrypted more than was read: no poll tells of that."""
    pending = getattr(sock, "pending", None)
    return pending is not None and pending() > 0
