"""Node watch: notices that a node of the broker's cluster has died, and asks all clients to log in again.

A node that dies publishes no wills: its clients that do not come back would stay online. So the holder of
seat 0 keeps an idle connection to each listed node (`bridge/link/node_connections.py`).

A node is dead when its connection is lost and the next attempt is refused (nobody listens there), or nobody
has answered for 20 seconds. A node that accepts the next attempt at once has lived on: it has closed one
connection, or the network has. The nodes that were up are stored: a node that died together with the bridge
is noticed by the successor.

While the other nodes elect leaders, NATS 2.15 acknowledges retained messages that it does not store. So all
statuses are published again half a minute after a death.
"""

import logging
import queue
from collections.abc import Callable, Iterable

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.link.node_connections import NodeAnswer, NodeReport, OnReport
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.recovery.announcements import Announcements
from mqtt_presence.bridge.recovery.kept_values import KeptValue, save_changed
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)

GONE_S = 20.0
"""The time without an answer after which a node counts as dead, seconds."""
_REQUEST_EVERY_S = 60.0
_SETTLED_S = 30.0
"""The time after a death in which the other nodes elect leaders, seconds."""


class NodeStates:
    """Decides which nodes have died, from their answers. Pure.

    Args:
        nodes: the listed nodes.

    """

    def __init__(self, nodes: Iterable[str]) -> None:
        self._nodes = frozenset(nodes)
        self._silent_since: dict[str, float] = {}
        self.up: set[str] = set()
        """The nodes that were up when they last answered, and are not known to have died."""

    def restore(self, up: Iterable[str]) -> None:
        """Take over the nodes that were up for the last holder of the seat, if they are still listed."""
        self.up = set(up) & self._nodes

    def died(self, report: NodeReport) -> bool:
        """Return, once for each death, whether a node has died."""
        node = report.node
        match report.answer:
            case NodeAnswer.UP:
                self._silent_since.pop(node, None)
                self.up.add(node)
                return False
            case NodeAnswer.DENIED:
                self._silent_since.pop(node, None)
                return False
            case NodeAnswer.LOST:
                return False  # the next attempt decides
            case NodeAnswer.SILENT:
                if report.at_s - self._silent_since.setdefault(node, report.at_s) < GONE_S:
                    return False
            case NodeAnswer.REFUSED:
                pass
        self._silent_since.pop(node, None)
        is_death = node in self.up
        self.up.discard(node)
        return is_death


class NodeWatch(Part):
    """Follows the nodes of the broker's cluster.

    Args:
        nodes: host and port of each listed node; fewer than two: there is no cluster to follow.
        store: keeps the nodes that are up over a restart.
        clock: the bridge's.
        announcements: ask the clients to log in again, at most once a minute.
        republish: has all retained messages published again.
        watch: opens the connections, which call its argument with each report, from their own threads;
            returns the function that closes them.

    """

    is_of_all = False

    def __init__(
        self,
        nodes: Iterable[str],
        store: Store,
        clock: Clock,
        announcements: Announcements,
        republish: Callable[[Transaction], None],
        watch: Callable[[OnReport], Callable[[], None]],
    ) -> None:
        self._nodes = tuple(nodes)
        self._store = store
        self._clock = clock
        self._announcements = announcements
        self._republish = republish
        self._republish_at: float | None = None
        self._watch = watch
        self._states = NodeStates(self._nodes)
        self._reports: queue.SimpleQueue[NodeReport] = queue.SimpleQueue()
        self._kept = KeptValue("nodes_up", lambda: " ".join(sorted(self._states.up)) or None)
        self._stop: Callable[[], None] | None = None
        self._dead: list[str] = []
        """The nodes whose death is not announced yet."""
        self._requested_at = -_REQUEST_EVERY_S

    def restore(self, tx: Transaction) -> None:
        """Read which nodes were up, and begin to follow all of them."""
        if len(self._nodes) < 2:
            return
        self._states.restore((self._kept.restore(tx) or "").split())
        if self._stop is None:
            self._stop = self._watch(self._reports.put)

    def step(self, link: Link) -> bool:
        """Read the reports, and request an announcement after a death.

        The request is stored in one step and the death in the next: a crash in between repeats the request.
        """
        del link
        if not self._dead:
            save_changed(self._store, self._kept)
        while not self._reports.empty():
            report = self._reports.get()
            if self._states.died(report):
                log.warning("node %s of the broker is gone: it has published no wills", report.node)
                self._dead.append(report.node)
        now_s = self._clock.monotonic()
        if self._dead and now_s - self._requested_at >= _REQUEST_EVERY_S:
            self._announcements.request(f"node {', '.join(self._dead)} of the broker is gone")
            self._dead.clear()
            self._requested_at = now_s
            self._republish_at = now_s + _SETTLED_S
        if self._republish_at is not None and now_s >= self._republish_at:
            with self._store.transaction() as tx:
                self._republish(tx)
            self._republish_at = None
        return True

    def close(self) -> None:
        """End the connections."""
        if self._stop is not None:
            self._stop()
            self._stop = None
