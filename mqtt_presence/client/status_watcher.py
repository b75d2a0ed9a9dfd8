"""The client of whoever wants to know who is there: a live mapping of all users."""

import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self
from weakref import ReferenceType, ref

from mqtt_presence.client import clocks
from mqtt_presence.client.bridge_presence import BridgePresence
from mqtt_presence.client.connect_arguments import make_endpoint
from mqtt_presence.client.network_connection import Hooks, NetworkConnection
from mqtt_presence.client.observers import Callback, ChangeCallback, Changes, Observer, Predicate
from mqtt_presence.client.reconnector import Reconnector
from mqtt_presence.client.status_table import Change, StatusTable
from mqtt_presence.errors import BrokerError, PayloadError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.client_messages import UserStatus
from mqtt_presence.protocol.topics import Topics

_QUIET_S = 5.0
"""The retained messages have all come when no more have for so long, and the bridge is there."""


class StatusWatcher(Mapping[str, UserStatus]):
    """A mapping of user ids to `UserStatus` that follows the bridge.

    ``with StatusWatcher("mqtt://localhost") as users:`` connects; the users come within moments, offline
    ones too. What is older by `version` is dropped, and users that were forgotten go. It may be read from any
    thread. While the connection is lost it keeps the last known state, see `stale`.

    All users are sent at once on connecting. A mosquitto with its default settings queues 1,000 messages for
    one client and drops the rest: for more users raise `max_queued_messages` (the shipped `broker_config`
    does).

    Args:
        url: ``mqtt[s]|ws[s]://user:password@host:port/path``.
        user: the user name; default: the one of the URL. Without either, none is sent, or the client id where
            the broker refuses a connection without a name, as `mqtt-presence up` does.
        password: instead of the one in the URL.
        client_id: default: a random one.
        prefix: what the bridge puts before every topic.
        keep_alive: seconds until a lost network is noticed, at most about twice as long.
        ca_file: PEM file of the authorities to trust; default: those of the system.
        cert_file: PEM file of our own certificate.
        key_file: PEM file of its key; default: it is in `cert_file`.
        reconnect_min: seconds until the first attempt to reconnect; doubled each time, with jitter.
        reconnect_max: the longest delay, seconds.

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
    ) -> None:
        endpoint = make_endpoint(
            url,
            user=user,
            password=password,
            client_id=client_id,
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
        self._lock = threading.RLock()
        """Guards the roster; held only for moments."""
        self._table_changed = threading.Condition(self._lock)
        self._notifying = threading.RLock()
        """Held while observers are told, so that each sees one change at a time. Taken before `_lock`."""
        self._observers: list[Observer] = []
        self._iterators: list[ReferenceType[Changes]] = []
        self._prune_at: float | None = None
        self._reconnector = Reconnector(
            endpoint,
            Hooks(will=lambda: None, up=self._up, message=self._message, tick=self._tick, down=self._down),
        )

    # The connection

    def connect(self, timeout: float = 10.0, *, wait: bool = True) -> None:
        """Connect, and from now on come back whenever the connection is lost.

        Args:
            timeout: seconds until the broker has accepted the connection and the subscription.
            wait: False: return at once, and go on trying even if the broker is not there yet.

        Raises:
            BrokerError: the broker cannot be reached, refuses us, or does not let us read the users' status.
            PresenceError: connected already.

        """
        deadline = clocks.steady() + timeout
        self._reconnector.start(timeout, wait)
        if wait:
            connection = self._reconnector.connection
            left = max(0.1, deadline - clocks.steady())
            if connection is None or not connection.wait_subscribed(left):
                self.close()
                raise BrokerError(f"the broker did not acknowledge the subscription in {timeout:g} s")
            if self._topics.statuses in connection.denied:
                self.close()
                raise BrokerError(f"the broker does not let us read {self._topics.statuses}: check its ACL")

    def close(self) -> None:
        """Disconnect; iterators over changes end, the users stay as they were. May be repeated."""
        self._reconnector.stop(clean=True)
        # Without a lock: a callback that waits for something holds it, perhaps for ever.
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
        """The broker is there."""
        return self._reconnector.connection is not None

    @property
    def bridge_connected(self) -> bool:
        """The bridge is there too, as `bridge/state` says."""
        return self._bridge.online

    @property
    def stale(self) -> bool:
        """What the mapping shows is the last known state, not the present one.

        Broker or bridge are not there, or they are back and the broker has not yet named everybody again: the
        bridge's state comes before the users'.
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
        """Return all users as they are at one moment."""
        with self._lock:
            return dict(self._table.users)

    @property
    def ignored(self) -> dict[str, int]:
        """How many messages were dropped: ``bad_topic``, ``bad_payload``, ``too_large`` or ``stale``."""
        with self._lock:
            return dict(self._table.ignored)

    # Being told

    def observe(
        self,
        *,
        added: Callback | None = None,
        changed: ChangeCallback | None = None,
        removed: Callback | None = None,
        where: Predicate | None = None,
    ) -> Observer:
        """Be told of the users that match a predicate.

        ``added(status)`` is called when a user begins to match, and before this method returns for those that
        do; ``changed(new, old)`` when the status changes and still matches; ``removed(old)`` when it ceases
        to match, or the user is forgotten. The callbacks of all observers run one after the other, in the
        thread of the connection: they must not wait for anything. What they raise is logged.

        Args:
            added: see above.
            changed: see above.
            removed: see above.
            where: whom to consider, e.g. ``lambda user: user.online``; default: everybody.

        Returns:
            The observer, to be stopped by `Observer.stop` or as a context manager.

        """
        observer = Observer(added, changed, removed, where, self._forget)
        with self._notifying:
            for status in self.snapshot().values():
                observer.notify(Change(None, status))
            self._observers = [*self._observers, observer]
        return observer

    def changes(self, timeout: float | None = None) -> Changes:
        """Iterate over the changes from this call on, as pairs of a user's status before and after.

        Args:
            timeout: end when nothing has come for so many seconds; None: wait until the watcher is closed.

        """
        iterator = Changes(timeout)
        with self._notifying:
            self._iterators = [*(i for i in self._iterators if i() is not None), ref(iterator)]
        return iterator

    def wait_for(self, predicate: Callable[["StatusWatcher"], bool], timeout: float = 10.0) -> bool:
        """Wait until something is true of this watcher; False: it was not in time. Not for callbacks.

        Args:
            predicate: called with the watcher after every change, e.g. ``lambda users: users["bob"].online``;
                a KeyError counts as False.
            timeout: seconds.

        """

        def holds() -> bool:
            try:
                return bool(predicate(self))
            except KeyError:
                return False

        with self._table_changed:
            return self._table_changed.wait_for(holds, timeout)

    def _forget(self, observer: Observer) -> None:
        with self._lock:
            self._observers = [other for other in self._observers if other is not observer]

    # The hooks of the session, in its thread

    def _up(self, connection: NetworkConnection) -> None:
        with self._table_changed:
            self._table.reconnected()
            self._prune_at = None
            self._table_changed.notify_all()
        # The bridge's state first: where the users overflow the broker's queue, it is not among the dropped.
        connection.subscribe([(self._topics.bridge_state, 1), (self._topics.statuses, 1)])

    def _down(self) -> None:
        with self._table_changed:
            self._bridge.reset()
            self._prune_at = None
            self._table_changed.notify_all()

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.bridge_state:
            with self._table_changed:
                try:
                    self._bridge.receive(payload)
                except PayloadError as error:
                    self._table.ignored[error.reason] += 1
                self._postpone_prune()
                self._table_changed.notify_all()
            return
        user_id = self._topics.parse_status(topic)
        with self._notifying:
            with self._table_changed:
                if retained:  # what comes live says nothing of them; where many come and go it never ceases
                    self._postpone_prune()
                if user_id is None:
                    self._table.ignored["bad_topic"] += 1
                    return
                change = self._table.apply(user_id, payload)
                self._table_changed.notify_all()
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
                self._table_changed.notify_all()
            for change in changes:
                self._notify(change)

    def _notify(self, change: Change) -> None:
        for observer in self._observers:
            observer.notify(change)
        _put_into(self._iterators, change)


def _put_into(iterators: list[ReferenceType[Changes]], change: Change | None) -> None:
    """Tell those that somebody still has."""
    for reference in iterators:
        iterator = reference()
        if iterator is not None:
            iterator.put(change)
