"""`StatusWatcher`: a live mapping of all users' statuses."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self
from weakref import ReferenceType, ref

from mqtt_presence.client import clocks
from mqtt_presence.client.bridge_presence import BridgePresence
from mqtt_presence.client.callbacks import Callbacks, OnBridge, OnConnect
from mqtt_presence.client.connect_arguments import make_endpoint
from mqtt_presence.client.network_connection import Hooks, NetworkConnection
from mqtt_presence.client.observers import Callback, ChangeCallback, Changes, ChangeSink, Observer, Predicate
from mqtt_presence.client.reconnector import Reconnector
from mqtt_presence.client.status_table import Change, StatusTable
from mqtt_presence.errors import BrokerError, PayloadError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.client_messages import UserStatus
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.protocol.watchers import fresh_watcher_id

_QUIET_S = 5.0
"""All retained messages have arrived after this time without one, while the bridge is online."""


class StatusWatcher(Mapping[str, UserStatus]):
    """A mapping of user ids to `UserStatus` that follows the bridge.

    ``with StatusWatcher("mqtt://localhost") as users:`` connects. All users, offline ones too, arrive shortly
    after. Statuses with an older `version` are dropped, and forgotten users are removed. The mapping may be
    read from any thread. While the connection is lost, it keeps the last known statuses; see `stale`.

    The broker sends all statuses at once. With its default settings, mosquitto queues 1,000 messages for a
    client and drops the rest. For more users, raise `max_queued_messages`, as `broker_config/mosquitto` does.

    Args:
        url: ``mqtt[s]|ws[s]://user:password@host:port/path``.
        user: the user name; default: the user in the URL, if any. Some brokers refuse connections without a
            name, as `mqtt-presence up` does. The watcher then connects with the client id as its name.
        password: overrides the password in the URL.
        client_id: default: a random one.
        prefix: the beginning of every topic, as set for the bridge.
        keep_alive: MQTT keep alive, seconds. A lost network is noticed after at most about twice as long.
        ca_file: PEM file of the certificate authorities to trust; default: those of the system.
        cert_file: PEM file of the client's certificate.
        key_file: PEM file of the certificate's private key; default: `cert_file`.
        reconnect_min: the first delay before a reconnect, seconds; later delays double, with jitter.
        reconnect_max: the longest delay, seconds.
        on_connect: called when the broker has accepted a connection.
        on_disconnect: called when such a connection has ended.
        on_bridge: called with True when the bridge comes online, with False when it goes or the connection is
            lost. All three run in the connection's thread, so they must not block; exceptions are logged.

    Raises:
        ConfigError: an argument is wrong; the message names it.

    """

    def __init__(
        self,
        url: str | BrokerUrl,
        *,
        user: str | None = None,
        password: str | None = None,
        client_id: str | None = None,
        prefix: str = "",
        keep_alive: int = 30,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        reconnect_min: float = 1.0,
        reconnect_max: float = 30.0,
        on_connect: OnConnect | None = None,
        on_disconnect: OnConnect | None = None,
        on_bridge: OnBridge | None = None,
    ) -> None:
        endpoint = make_endpoint(
            url,
            user=user,
            password=password,
            client_id=fresh_watcher_id() if client_id is None else client_id,
            keep_alive=keep_alive,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            reconnect_min=reconnect_min,
            reconnect_max=reconnect_max,
        )
        self._topics = Topics(prefix)
        self._table = StatusTable()
        self._bridge = BridgePresence()
        self._callbacks = Callbacks(on_connect, on_disconnect, on_bridge)
        self._lock = threading.RLock()
        """Guards the table; held only briefly."""
        self._table_changed = threading.Condition(self._lock)
        self._notifying = threading.RLock()
        """Held while observers are called, one change at a time. Acquired before `_lock`."""
        self._observers: list[Observer] = []
        self._iterators: list[ReferenceType[ChangeSink]] = []
        self._wakers: list[Callable[[], object]] = []
        self._prune_at: float | None = None
        self._reconnector = Reconnector(
            endpoint,
            Hooks(will=lambda: None, up=self._up, message=self._message, tick=self._tick, down=self._down),
        )

    # Connecting

    def connect(self, timeout: float = 10.0, *, wait: bool = True) -> None:
        """Connect, and from now on reconnect whenever the connection is lost.

        Args:
            timeout: seconds to wait until the broker has accepted the connection and the subscription.
            wait: False: return at once, and keep trying until the broker can be reached.

        Raises:
            BrokerError: the broker cannot be reached, refuses the client, or does not let it read statuses.
            PresenceError: the watcher is connected already.

        """
        deadline = clocks.steady() + timeout
        self._reconnector.start(timeout, wait)
        if wait:
            connection = self._reconnector.connection
            remaining_s = max(0.1, deadline - clocks.steady())
            if connection is None or not connection.wait_subscribed(remaining_s):
                self.close()
                raise BrokerError(f"the broker did not acknowledge the subscription in {timeout:g} s")
            if self._topics.statuses in connection.denied:
                self.close()
                raise BrokerError(
                    f"the broker does not let this client read {self._topics.statuses}: check its ACL"
                )

    def close(self) -> None:
        """Disconnect. Iterators over changes end; the mapping keeps its last state. May be repeated."""
        self._reconnector.stop(clean=True)
        # Without a lock: a blocked callback may hold it for ever.
        iterators, self._iterators = self._iterators, []
        _put_into(iterators, None)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether the watcher is connected to the broker."""
        return self._reconnector.connection is not None

    @property
    def bridge_connected(self) -> bool:
        """Whether the watcher is connected and the bridge is online according to `bridge/state`."""
        return self._bridge.online

    @property
    def stale(self) -> bool:
        """Whether the mapping may be outdated.

        True while the broker or the bridge is away. Also true after a reconnect until the broker has sent all
        users' statuses, which arrive after the bridge's state.
        """
        with self._lock:
            return not (self.connected and self._bridge.online and self._table.is_confirmed)

    # The mapping

    def __getitem__(self, user_id: str) -> UserStatus:
        with self._lock:
            return self._table.users[user_id]

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._table.users))

    def __len__(self) -> int:
        return len(self._table.users)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<StatusWatcher {len(self)} users, connected={self.connected}>"

    def snapshot(self) -> dict[str, UserStatus]:
        """Return a copy of the mapping as of one moment."""
        with self._lock:
            return dict(self._table.users)

    @property
    def ignored(self) -> dict[str, int]:
        """Dropped messages, counted by reason: ``bad_topic``, ``bad_payload``, ``too_large``, ``stale``."""
        with self._lock:
            return dict(self._table.ignored)

    # Observing changes

    def observe(
        self,
        *,
        added: Callback | None = None,
        changed: ChangeCallback | None = None,
        removed: Callback | None = None,
        where: Predicate | None = None,
    ) -> Observer:
        """Call functions when users that match a predicate change.

        The callbacks of all observers run one after the other in the connection's thread, so they must not
        block. Their exceptions are logged. `added` is also called before this method returns, for each user
        that matches already.

        Args:
            added: called as ``added(status)`` when a user starts to match.
            changed: called as ``changed(new, old)`` when a matching user's status changes and still matches.
            removed: called as ``removed(old)`` when a user stops matching or is forgotten.
            where: the predicate, e.g. ``lambda user: user.online``; default: all users match.

        Returns:
            The observer. Stop it with `Observer.stop`, or use it as a context manager.

        """
        observer = Observer(added, changed, removed, where, self._forget)
        with self._notifying:
            for status in self.snapshot().values():
                observer.notify(Change(None, status))
            self._observers = [*self._observers, observer]
        return observer

    def changes(self, timeout: float | None = None) -> Changes:
        """Return an iterator over all changes from now on, as pairs of a user's status before and after.

        Args:
            timeout: end after so many seconds without a change; default: end when the watcher is closed.

        """
        iterator = Changes(timeout)
        self.deliver_to(iterator)
        return iterator

    def deliver_to(self, sink: ChangeSink) -> list[UserStatus]:
        """Put each change from now on into a sink, and None when the watcher is closed.

        The watcher keeps a weak reference: the sink ends with its last other reference.

        Args:
            sink: an object with a method `put`, which is called in the connection's thread.

        Returns:
            The statuses that the first change follows.

        """
        with self._notifying:
            self._iterators = [*(i for i in self._iterators if i() is not None), ref(sink)]
            return list(self.snapshot().values())

    def wait_for(self, predicate: Callable[["StatusWatcher"], bool], timeout: float = 10.0) -> bool:
        """Wait until a predicate is true; return False after the timeout. Must not be called by callbacks.

        Args:
            predicate: called with the watcher after every change, e.g. ``lambda users: users["bob"].online``.
                A KeyError counts as False.
            timeout: seconds.

        """
        with self._table_changed:
            return self._table_changed.wait_for(lambda: self.holds(predicate), timeout)

    def holds(self, predicate: Callable[["StatusWatcher"], bool]) -> bool:
        """Return whether a predicate is true now; a KeyError counts as False."""
        try:
            return bool(predicate(self))
        except KeyError:
            return False

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call a function after each change of the table or the connection, within the block.

        Args:
            wake: called in the connection's thread; it must not block or raise.

        """
        with self._lock:
            self._wakers = [*self._wakers, wake]
        try:
            yield
        finally:
            with self._lock:
                self._wakers = [other for other in self._wakers if other is not wake]

    def _wake_waiting(self) -> None:
        self._table_changed.notify_all()
        for wake in self._wakers:
            wake()

    def _forget(self, observer: Observer) -> None:
        with self._lock:
            self._observers = [other for other in self._observers if other is not observer]

    # Hooks, called in the thread of the connection

    def _up(self, connection: NetworkConnection) -> None:
        with self._table_changed:
            self._table.reconnected()
            self._prune_at = None
            self._wake_waiting()
        # The bridge's state first: the broker may drop messages when all statuses overflow its queue.
        connection.subscribe([(self._topics.bridge_state, 1), (self._topics.statuses, 1)])
        self._callbacks.connected()

    def _down(self) -> None:
        with self._table_changed:
            self._bridge.reset()
            self._prune_at = None
            self._wake_waiting()
        self._callbacks.disconnected()

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.bridge_state:
            with self._table_changed:
                try:
                    self._bridge.receive(payload)
                except PayloadError as error:
                    self._table.ignored[error.reason] += 1
                self._postpone_prune()
                self._wake_waiting()
            self._callbacks.bridge(online=self._bridge.online)
            return
        user_id = self._topics.parse_status(topic)
        with self._notifying:
            with self._table_changed:
                if retained:  # live messages never cease on a busy broker
                    self._postpone_prune()
                if user_id is None:
                    self._table.ignored["bad_topic"] += 1
                    return
                change = self._table.apply(user_id, payload)
                self._wake_waiting()
            if change is not None:
                self._notify(change)

    def _postpone_prune(self) -> None:
        self._prune_at = clocks.steady() + _QUIET_S if self._bridge.online else None

    def _tick(self) -> None:
        if self._prune_at is None or clocks.steady() < self._prune_at:
            return
        with self._notifying:
            with self._table_changed:
                self._prune_at = None
                changes = self._table.prune()
                self._wake_waiting()
            for change in changes:
                self._notify(change)

    def _notify(self, change: Change) -> None:
        for observer in self._observers:
            observer.notify(change)
        _put_into(self._iterators, change)


def _put_into(iterators: list[ReferenceType[ChangeSink]], change: Change | None) -> None:
    """Append a change to the iterators that still exist."""
    for reference in iterators:
        iterator = reference()
        if iterator is not None:
            iterator.put(change)
