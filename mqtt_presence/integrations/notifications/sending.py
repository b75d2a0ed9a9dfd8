"""The port of a way to send: the notifications of one request in, the receiver's answer out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mqtt_presence.integrations.notifications.notification import Queued


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has taken the request."""

    answer: str = "delivered"
    """For people, e.g. ``HTTP 204``."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed; the same again may succeed."""

    reason: str
    """For people and logs, without any secret."""
    retry_after_s: float | None = None
    is_refused: bool = False
    """The receiver refuses the content; of several notifications, one may be at fault."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The receiver wants no more requests (HTTP 410)."""

    reason: str = "HTTP 410"


Answer = Delivered | Failed | Gone


class Sending(Protocol):
    """A way to send to one receiver. One thread uses it, and any thread may cancel."""

    @property
    def limit(self) -> int:
        """The greatest number of notifications of one request."""

    def send(self, notifications: Sequence[Queued]) -> Answer:
        """Send one request, and wait for the answer; raises nothing."""

    def cancel(self) -> None:
        """End a request on its way, and every later one at once."""
