"""Subscriptions: those that the bridge needs, and optional ones, which the broker may deny."""

import logging
import time
from collections.abc import Iterable

from mqtt_presence.bridge.link.batch_client import BatchClient

log = logging.getLogger(__name__)
# Until the next attempt at an optional subscription that may have ended the connection; doubled each time.
_RETRY_S = 60.0
_LONGEST_RETRY_S = 86_400.0


class Subscriptions:
    """The requests of one connection, and how the broker has answered optional ones so far."""

    def __init__(self) -> None:
        self._required: dict[int, str] = {}
        """Topic filters of unanswered requests, by packet id; `_optional` likewise."""
        self._optional: dict[int, str] = {}
        self._ending: dict[int, str] = {}
        """Topic filters of unanswered requests to unsubscribe, by packet id."""
        self._skipped: list[tuple[str, int]] = []
        """Optional subscriptions that this connection has not requested yet: topic filter and QoS."""
        self._skip_until = 0.0
        self._retry_s = _RETRY_S
        self._denied: set[str] = set()
        """Topic filters whose denial is logged."""

    def request(self, client: BatchClient, topic_filter: str, qos: int, *, required: bool) -> None:
        """Subscribe; see `Link.subscribe`."""
        if not required and self._skips_optional:
            self._skipped.append((topic_filter, qos))
            return
        client.flush()
        _, mid = client.subscribe(topic_filter, qos)
        if mid is not None:
            (self._required if required else self._optional)[mid] = topic_filter

    def request_end(self, client: BatchClient, topic_filter: str) -> None:
        """Unsubscribe; see `Link.unsubscribe`."""
        client.flush()
        _, mid = client.unsubscribe(topic_filter)
        if mid is not None:
            self._ending[mid] = topic_filter

    def ended(self, mid: int) -> str | None:
        """Record the answer to a request to unsubscribe; return the topic filter."""
        return self._ending.pop(mid, None)

    def request_skipped(self, client: BatchClient) -> None:
        """Request the skipped subscriptions once their delay is over."""
        if self._skipped and not self._skips_optional:
            skipped, self._skipped = self._skipped, []
            for topic_filter, qos in skipped:
                self.request(client, topic_filter, qos, required=False)

    @property
    def _skips_optional(self) -> bool:
        return time.monotonic() < self._skip_until

    def answered(self, mid: int, *, is_denied: bool) -> str | None:
        """Record an answer of the broker; return the topic filter if the subscription is a required one."""
        if mid in self._optional:
            self._optional_answered(self._optional.pop(mid), is_denied=is_denied)
        return self._required.pop(mid, None)

    def _optional_answered(self, topic_filter: str, *, is_denied: bool) -> None:
        if not self._optional:
            self._retry_s = _RETRY_S
        if not is_denied:
            self._denied.discard(topic_filter)
        elif topic_filter not in self._denied:
            self._denied.add(topic_filter)
            log.warning(
                "the broker does not let this user subscribe to %s: going on without what it reports there "
                "(addresses, causes of ends, its losses)",
                topic_filter,
            )

    def disconnected(self) -> None:
        """Put optional subscriptions off if the connection ended before the broker answered them.

        Some brokers close the connection instead of denying a subscription. The network may also have failed
        at that moment, so the subscriptions are tried again, each time later.
        """
        self._required.clear()
        self._ending.clear()
        self._skipped.clear()
        if not self._optional:
            return
        self._skip_until = time.monotonic() + self._retry_s
        log.warning(
            "the connection ended before the broker answered the subscription to %s: going on without "
            "addresses, causes of ends and the broker's losses, next try in %.0f s (source = none: never)",
            _joined(self._optional.values()),
            self._retry_s,
        )
        self._retry_s = min(2 * self._retry_s, _LONGEST_RETRY_S)
        self._optional.clear()


def _joined(topic_filters: Iterable[str]) -> str:
    return ", ".join(sorted(topic_filters))
