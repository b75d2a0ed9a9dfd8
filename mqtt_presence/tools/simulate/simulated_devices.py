"""Simulated clients on real connections; each performs its actions one after another."""

import heapq
import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.framing import Kind, Packet
from mqtt_presence.mqtt.packets import (
    DISCONNECT,
    MQTT_311,
    PINGREQ,
    Connect,
    Will,
    connect_packet,
    publish_packet,
    read_connack,
    read_id,
)
from mqtt_presence.mqtt.return_codes import Refusal, connack_words_311
from mqtt_presence.protocol import client_messages
from mqtt_presence.protocol import topics as verbs
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.tools.simulate.scenario import Action
from mqtt_presence.tools.simulate.simulated_names import Count, SimulatedNames
from mqtt_presence.tools.simulate.socket_loop import Loop, SocketConnection, Target

USER_AGENT = "mqtt-presence simulate"
KEEP_ALIVE_S = 120
_PING_AFTER_S = 60.0
_SWEEP_EVERY_S = 15.0
_WINDOW = 200  # more connections at once overflow the broker's listen queue
_RETRY_S = 1.0


class _Phase(Enum):
    AWAY = auto()
    WAITING = auto()
    CONNECTING = auto()
    UP = auto()
    LEAVING = auto()


class SimulatedDevice:
    """One simulated client.

    Args:
        devices: all simulated clients.
        user_id: the user of the client.
        client_id: of the client.

    """

    __slots__ = (
        "_actions", "_client_id", "_connection", "_connection_id", "_devices", "_idle", "_login_id",
        "_logout_id", "_next_id", "_phase", "_sent_at", "_unacknowledged", "_user_id",
    )  # fmt: skip

    def __init__(self, devices: "SimulatedDevices", user_id: str, client_id: str) -> None:
        self._devices = devices
        self._user_id = user_id
        self._client_id = client_id
        self._actions: deque[Action] = deque()
        self._phase = _Phase.AWAY
        self._connection: SocketConnection | None = None
        self._connection_id = ""
        self._idle: bool | None = None
        self._next_id = 0
        self._unacknowledged = 0
        self._login_id = self._logout_id = 0
        self._sent_at = 0.0

    @property
    def left(self) -> int:
        """The number of open actions and unacknowledged publications."""
        return len(self._actions) + self._unacknowledged + (self._phase not in (_Phase.AWAY, _Phase.UP))

    def add(self, action: Action) -> None:
        """Perform an action after all earlier ones."""
        self._actions.append(action)
        self._go()

    def _go(self) -> None:
        while self._actions and self._can(self._actions[0]):
            self._perform(self._actions.popleft())

    def _can(self, action: Action) -> bool:
        if action is Action.LOGIN:
            return self._phase is _Phase.AWAY
        # A cut before the login has arrived would leave the user unknown.
        return self._phase is _Phase.UP and not (action is Action.CUT and self._login_id)

    def _perform(self, action: Action) -> None:
        match action:
            case Action.LOGIN:
                self._idle = None
                self._wait()
            case Action.LOGOUT if self._devices.implicit:
                self._devices.count.logouts += 1
                self.disconnect_without_logout()
                self._on_ended()
            case Action.HEARTBEAT | Action.IDLE | Action.ACTIVE if self._devices.implicit:
                pass
            case Action.HEARTBEAT:
                self._idle = False
                self._publish(verbs.ACTIVITY, client_messages.encode_activity(self._connection_id))
            case Action.IDLE | Action.ACTIVE:
                self._idle = action is Action.IDLE
                self._report()
            case Action.LOGOUT:
                self._phase = _Phase.LEAVING
                self._logout_id = self._publish(verbs.LOGOUT, client_messages.encode_end(self._connection_id))
            case Action.CUT:
                self._devices.count.cuts += 1
                self._on_ended()

    def disconnect_without_logout(self) -> None:
        """Disconnect without a logout: the broker discards the will, and the user stays online."""
        if self._connection is not None:
            self._connection.finish(DISCONNECT)
            self._connection = None

    def ping_if_silent(self, now: float) -> None:
        """Keep the connection alive."""
        if self._phase is _Phase.UP and now - self._sent_at > _PING_AFTER_S and self._connection is not None:
            self._sent_at = now
            self._connection.send(PINGREQ)

    @property
    def connection_id(self) -> str:
        """The id of the current connection, or of the last one."""
        return self._connection_id

    def answer_announce(self, connection_id: str) -> None:
        """Log in again, with the same connection id, and report activity.

        Args:
            connection_id: of the connection that got the announcement; a later one has its own login.

        """
        is_same = self._phase is _Phase.UP and connection_id == self._connection_id
        if is_same and not self._devices.implicit:
            self._log_in()

    # Connecting.

    def _wait(self) -> None:
        self._phase = _Phase.WAITING
        self._devices.queue(self)

    def connect(self) -> None:
        """Open a connection."""
        self._phase = _Phase.CONNECTING
        self._connection_id = secrets.token_hex(8)
        self._next_id = self._unacknowledged = self._login_id = self._logout_id = 0
        devices = self._devices
        password = devices.names.password_of(self._user_id)
        will = Will(self._topic(verbs.WILL), client_messages.encode_end(self._connection_id))
        request = Connect(
            MQTT_311,
            keep_alive_s=KEEP_ALIVE_S,
            client_id=self._client_id,
            will=None if devices.implicit else will,
            user=self._user_id,
            password=None if password is None else password.encode(),
        )
        try:
            self._connection = SocketConnection(devices.loop, devices.target, self._on_packet, self._on_lost)
        except OSError as error:
            self._on_lost(str(error))
        else:
            self._connection.send(connect_packet(request))

    def _on_packet(self, packet: Packet) -> None:
        if packet.kind == Kind.PUBACK:
            self._on_acknowledged(read_id(packet.body)[0])
        elif packet.kind == Kind.CONNACK:
            _, code, _ = read_connack(packet.body)
            if code == Refusal.UNAVAILABLE:
                self._on_lost("the broker is unavailable")
                return
            if code:
                self._devices.on_refused(self._user_id, connack_words_311(code))
                return
            self._phase = _Phase.UP
            self._devices.on_accepted()
            if self._devices.implicit:
                self._devices.count.logins += 1
            else:
                self._log_in()
            self._go()

    def _log_in(self) -> None:
        login = client_messages.encode_login(self._connection_id, user_agent=USER_AGENT, announce=True)
        self._login_id = self._publish(verbs.LOGIN, login)
        if self._idle is not None:
            self._report()

    def _report(self) -> None:
        self._publish(verbs.ACTIVITY, client_messages.encode_activity(self._connection_id, idle=self._idle))

    def _on_acknowledged(self, packet_id: int) -> None:
        self._unacknowledged -= 1
        self._devices.count.messages += 1
        if packet_id == self._login_id:
            self._login_id = 0
            self._devices.count.logins += 1
            self._go()
        elif packet_id == self._logout_id:
            self._devices.count.logouts += 1
            self.disconnect_without_logout()
            self._on_ended()

    # Ending.

    def _on_ended(self) -> None:
        self._devices.count.connected -= 1
        self._close()
        self._phase = _Phase.AWAY
        self._go()

    def _close(self) -> None:
        self._unacknowledged = self._login_id = self._logout_id = 0
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _on_lost(self, why: str) -> None:
        """Reconnect after an unplanned end, in the same state as before."""
        devices = self._devices
        if self._phase is _Phase.CONNECTING:
            devices.on_failed(why)
        else:
            devices.count.connected -= 1
            devices.count.lost += 1
        if self._phase is _Phase.LEAVING:
            self._actions.appendleft(Action.LOGOUT)  # the logout may not have arrived
        self._close()
        self._phase = _Phase.WAITING
        devices.retry(self)

    # Publishing.

    def _topic(self, verb: str) -> str:
        return self._devices.topics.input(self._user_id, self._client_id, verb)

    def _publish(self, verb: str, payload: bytes) -> int:
        assert self._connection is not None
        self._next_id = packet_id = self._next_id % 65_535 + 1
        self._unacknowledged += 1
        self._sent_at = self._devices.now
        self._connection.send(publish_packet(self._topic(verb), payload, packet_id))
        return packet_id


class SimulatedDevices:
    """All simulated clients.

    Args:
        loop: serves the connections.
        target: the broker.
        topics: the topics under the prefix in use.
        names: of the users and clients.
        monotonic: returns the time in seconds.
        implicit: the clients only connect and disconnect: the bridge counts them by the broker's reports.

    """

    def __init__(
        self,
        loop: Loop,
        target: Target,
        topics: Topics,
        names: SimulatedNames,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        implicit: bool = False,
    ) -> None:
        self.implicit = implicit
        self.loop = loop
        self.target = target
        self.topics = topics
        self.names = names
        self.count = Count()
        self._monotonic = monotonic
        self.now = monotonic()
        count = names.users * names.connections
        self._devices = [SimulatedDevice(self, *names.of_client(n)) for n in range(count)]
        self._waiting: deque[SimulatedDevice] = deque()
        self._connecting = 0
        self._retries: deque[tuple[float, SimulatedDevice]] = deque()
        self._answers: list[tuple[float, int, str]] = []
        """A heap of answers to announcements: their times, the numbers of the devices, their connections."""
        self._sweep_at = self.now + _SWEEP_EVERY_S
        self._ever_accepted = False
        self._failure: BrokerError | None = None

    def add(self, client: int, action: Action) -> None:
        """Have a client perform an action after all its earlier ones."""
        self._devices[client].add(action)

    @property
    def left(self) -> int:
        """The number of open actions and unacknowledged publications."""
        return sum(device.left for device in self._devices)

    @property
    def unaccepted(self) -> int:
        """The number of clients that wait for the broker to accept them."""
        return len(self._waiting) + self._connecting + len(self._retries)

    @property
    def is_busy(self) -> bool:
        """Whether so many clients wait to connect that further steps should wait too."""
        return len(self._waiting) + self._connecting > _WINDOW

    def maintain(self) -> None:
        """Connect waiting clients, and ping for silent ones; call this repeatedly.

        Raises:
            BrokerError: the broker accepts no client.

        """
        if self._failure is not None:
            raise self._failure
        self.now = self._monotonic()
        while self._retries and self._retries[0][0] <= self.now:
            self._waiting.append(self._retries.popleft()[1])
        while self._waiting and self._connecting < _WINDOW:
            self._connecting += 1
            self._waiting.popleft().connect()
        while self._answers and self._answers[0][0] <= self.now:
            _, number, connection_id = heapq.heappop(self._answers)
            self._devices[number].answer_announce(connection_id)
        if self.now >= self._sweep_at:
            self._sweep_at = self.now + _SWEEP_EVERY_S
            for device in self._devices:
                device.ping_if_silent(self.now)

    def answer_announce(self, within_s: float) -> None:
        """Log in all connected clients again, as the bridge requests, each once and at a random moment.

        Args:
            within_s: the time over which the logins are spread, seconds; 0: at once.

        """
        self._answers = [
            (self.now + random.uniform(0, within_s), number, device.connection_id)  # noqa: S311
            for number, device in enumerate(self._devices)
        ]
        heapq.heapify(self._answers)

    def disconnect_without_logout(self) -> None:
        """Disconnect all clients without a logout."""
        for device in self._devices:
            device.disconnect_without_logout()

    # Called by the devices.

    def queue(self, device: SimulatedDevice) -> None:
        """Connect a device when its turn comes."""
        self._waiting.append(device)

    def retry(self, device: SimulatedDevice) -> None:
        """Connect a device again, a little later."""
        self._retries.append((self.now + _RETRY_S + random.random() / 10, device))  # noqa: S311

    def on_accepted(self) -> None:
        """Count a connection that the broker has accepted."""
        self._connecting -= 1
        self._ever_accepted = True
        self.count.connected += 1

    def on_failed(self, why: str) -> None:
        """Count an attempt to connect that has failed."""
        self._connecting -= 1
        if not self._ever_accepted and self._failure is None:  # keep an earlier refusal with its reason
            self._failure = BrokerError(f"the broker accepts no simulated client: {why}")

    def on_refused(self, user_id: str, why: str) -> None:
        """Give up: the broker would refuse this user again."""
        self._failure = BrokerError(
            f"the broker refuses user {user_id}: {why}; give --name and --password of known users"
        )
