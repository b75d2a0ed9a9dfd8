"""The messages that an adapter reads: reports of the broker, devices, topics of other people."""

import logging
import zlib
from collections.abc import Container
from typing import Protocol

from msgspec.structs import replace

from mqtt_presence.adapters.port import Adapter
from mqtt_presence.bridge.counters import DEVICE, REPORT, Counters
from mqtt_presence.bridge.pending_messages import Pending, PendingMessages
from mqtt_presence.bridge.redeliveries import Redeliveries
from mqtt_presence.errors import PayloadError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.events import Event

log = logging.getLogger(__name__)

_SHORT = 64
"""Bytes of a device's payload that wait for the commit; of a longer one only a checksum does."""


class Reports(Adapter, Protocol):
    """The adapter of the broker's own reports."""

    @property
    def uncommitted(self) -> Container[int]:
        """The reports of network connections that are not committed yet, by the identity of the message."""


class AdapterMessages:
    """Reads messages by their adapters.

    Args:
        reports: the adapter of the broker's own reports.
        redeliveries: recognise a committed message that the broker sends again.
        counters: count refusals.
        pending: gets the events.

    """

    def __init__(
        self, reports: Reports, redeliveries: Redeliveries, counters: Counters, pending: PendingMessages
    ) -> None:
        self._reports = reports
        self._redeliveries = redeliveries
        self._counters = counters
        self._pending = pending

    def read(self, adapter: Adapter, message: Incoming, now: int) -> None:
        """Have an adapter read a message; keep it until its acknowledgement if it has one.

        Args:
            adapter: reads the topic.
            message: the message.
            now: the time of receipt, epoch milliseconds.

        """
        is_of_broker = adapter is self._reports
        kept = message if is_of_broker else _shortened(message)
        self._redeliveries.forget_packet_id(kept)
        events: tuple[Event, ...] = ()
        is_report = False
        kind = REPORT if is_of_broker else DEVICE
        try:
            if not self._redeliveries.is_repeated(kept):
                events = tuple(adapter.read(message, now))
                is_report = is_of_broker and id(message) in self._reports.uncommitted
            self._counters.accepted[kind] += 1
        except PayloadError as error:
            self._counters.refuse(error.reason, error.detail, kind=kind)
        except Exception:  # one message of a stranger must not end the bridge
            log.exception("a message cannot be processed")
            self._counters.refuse("unprocessable", message.topic, kind=kind)
        if is_of_broker:
            self._pending.messages.append(Pending(message, events, is_report=is_report))
        elif events or message.qos:
            self._pending.messages.append(Pending(kept, events, is_nameless=bool(events and message.qos)))


def _shortened(message: Incoming) -> Incoming:
    """Return the message with a checksum for a long payload: enough to recognise a repetition."""
    if len(message.payload) <= _SHORT:
        return message
    return replace(message, payload=zlib.crc32(message.payload).to_bytes(4, "big"))
