"""A bridge on a link and clocks that a test holds in its hand; the database is real."""

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from mqtt_presence.bridge.assembly import Assembly
from mqtt_presence.bridge.config import BridgeConfig
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.part import Due
from mqtt_presence.bridge.recovery.broker_losses import BrokerLosses
from mqtt_presence.mqtt.broker_nodes import parse_nodes
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.store import Candidate, Store

NOW = 1_800_000_000_000
CONFIRM_MS = 30_000
INPUTS = "presence/+/+/+"


def link_config(client_id: str) -> LinkConfig:
    """Return the configuration of a link that no test makes."""
    return LinkConfig(parse_nodes("mqtt://bridge@127.0.0.1:1"), client_id)


class HeldLink:
    """Delivers the arrivals that a test gives it, and records every request."""

    is_connected = True
    is_mqtt5 = True
    receive_window = 20_000
    backlog = 0
    was_taken_over = False

    def __init__(self) -> None:
        self.coming: deque[Arrivals] = deque()
        self.asked_for: list[int] = []
        self.published: list[str] = []
        self.payloads: list[bytes] = []
        self.acknowledged: list[int] = []
        self.taken: list[Any] = []

    def poll(self, _timeout_s: float, at_most: int, *, may_connect: bool) -> Arrivals:
        assert may_connect
        self.asked_for.append(at_most)
        arrivals = self.coming.popleft() if self.coming and at_most > 0 else Arrivals()
        arrivals.delivered, self.taken = self.taken, []
        return arrivals

    def publish(self, messages: Iterable[Outgoing]) -> None:
        for message in messages:
            self.published.append(message.topic)
            self.payloads.append(message.payload)
            if message.ticket is not None:
                self.taken.append(message.ticket)

    def publish_ahead(self, message: Outgoing) -> None:
        self.publish([message])

    def ack(self, messages: Iterable[Incoming]) -> None:
        self.acknowledged += [message.mid for message in messages if message.qos]

    def nothing(self, *_: Any, **__: Any) -> None:
        pass

    subscribe = unsubscribe = flush = send_now = wake = nothing


class HeldClock:
    """Two clocks that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.set_by_ms = 0
        self.wrong_by_ms = 0

    def error_ms(self) -> int:
        return self.wrong_by_ms

    def now(self) -> int:
        return NOW + int(self.now_s * 1000) + self.set_by_ms

    def monotonic(self) -> float:
        return self.now_s


class HeldBridge:
    """A bridge, its database, its link and its clocks.

    Args:
        database: its URL.
        link: delivers the messages; None: a `HeldLink`.
        config: fields of `BridgeConfig`.

    """

    def __init__(self, database: str, *, link: Any = None, seats: int = 1, **config: Any) -> None:
        self.database = database
        self.clock = HeldClock()
        self.store = Store(database, Candidate(seats=seats))
        self.link: Any = link or HeldLink()
        self._config = BridgeConfig(link=link_config, confirm_within_ms=CONFIRM_MS)
        self._mid = 0
        self.start(**config)

    def start(self, **config: Any) -> None:
        """Build the bridge, anew if there was one, and restore it from the database."""
        self._config = replace(self._config, **config)
        self.parts = Assembly(
            self._config, self.store, clock=self.clock, make_link=lambda *_: self.link, **self.more()
        )
        self.loop = self.parts.bridge
        self.loop.start()

    def more(self) -> dict[str, Any]:
        """Return more arguments of `Assembly`."""
        return {}

    def step(self, arrivals: Arrivals | None = None, *, seconds: float = 0.0) -> None:
        self.clock.now_s += seconds
        if arrivals is not None:
            self.link.coming.append(arrivals)
        self.loop.step()

    def check(self) -> None:
        self.loop.request(Due.CHECK)
        self.step()

    def connect(self) -> None:
        self.step(Arrivals(connected=True, session_present=True, subscribed=[INPUTS]))

    def announce(self) -> None:
        """Have the announcement sent and acknowledged."""
        before = self.link.published.count("bridge/announce")
        self.parts.announcements.request("a test")
        self.step()
        assert self.link.published.count("bridge/announce") == before + 1
        self.step()

    def messages(self, *given: tuple[str, dict[str, Any]]) -> Arrivals:
        arrivals = Arrivals()
        for topic, payload in given:
            self._mid += 1
            arrivals.messages.append(
                Incoming(topic, json.dumps(payload).encode(), 1, False, False, self._mid % 65_536, 1)
            )
        return arrivals


def parts_on(store: Store) -> Assembly:
    """Make the parts of a bridge on a database, without a link."""
    config = BridgeConfig(link=link_config)
    return Assembly(config, store, clock=HeldClock())


def losses(store: Any = None, clock: HeldClock | None = None, *, follows: bool = True) -> BrokerLosses:
    """Make a part that follows what the broker reports of itself; the other parts it needs stand still."""
    clock = clock or HeldClock()
    store = store or SimpleNamespace(seat=SimpleNamespace(number=0))
    parts: Any = SimpleNamespace(
        has_news_of_a_loss=lambda: False, request=lambda _reason: None, until=clock.now()
    )
    return BrokerLosses(store, clock, parts, parts, parts, follows=follows)
