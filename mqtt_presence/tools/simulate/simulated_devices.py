"""Simulated clients on real connections: each carries out its steps one after another."""

import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
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
from mqtt_presence.tools.simulate.socket_loop import Loop, SocketConnection, Target

USER_AGENT = "mqtt-presence simulate"
USER = "{user}"
"""Stands for the user's name in a password."""
KEEP_ALIVE_S = 120
_PING_AFTER_S = 60.0
_SWEEP_EVERY_S = 15.0
_WINDOW = 200  # more at once would overflow the broker's queue of those who knock
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Names:
    """How the simulated users and clients are called, and get in.

    Args:
        name: what all user names and client ids begin with.
        users: how many users.
        connections: clients of each.
        password: of every user, `USER` stands for the name; None: none.

    """

    name: str
    users: int
    connections: int
    password: str | None = None

    def user(self, number: int) -> str:
        """Name a user."""
        return f"{self.name}-{number}"

    def of_client(self, client: int) -> tuple[str, str]:
        """Name the user and the client id of a client of the plan."""
        user, number = divmod(client, self.connections)
        return self.user(user), f"{self.user(user)}-{number}"

    def password_of(self, user_id: str) -> str | None:
        """Make a user's password."""
        return None if self.password is None else self.password.replace(USER, user_id)


@dataclass(slots=True)
class Count:
    """What has happened so far."""

    here: int = 0
    """Connections that are up."""
    logins: int = 0
    logouts: int = 0
    cuts: int = 0
    messages: int = 0
    """Published by clients and acknowledged by the broker."""
    lost: int = 0
    """Connections that ended otherwise than planned."""


class _Phase(Enum):
    AWAY = auto()
    WAITING = auto()
    CONNECTING = auto()
    UP = auto()
    LEAVING = auto()


class Device:
    """One simulated client.

    Args:
        fleet: that it belongs to.
        user_id: whose it is.
        client_id: its own.

    """

    __slots__ = (
        "_client_id", "_connection", "_connection_id", "_fleet", "_idle", "_login_id", "_logout_id",
        "_next_id", "_phase", "_sent_at", "_steps", "_unacknowledged", "_user_id",
    )  # fmt: skip

    def __init__(self, fleet: "SimulatedDevices", user_id: str, client_id: str) -> None:
        self._fleet = fleet
        self._user_id = user_id
        self._client_id = client_id
        self._steps: deque[Action] = deque()
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
        """How much it has still to do, or the broker to acknowledge."""
        return len(self._steps) + self._unacknowledged + (self._phase not in (_Phase.AWAY, _Phase.UP))

    def ask(self, do: Action) -> None:
        """Do this, after what it was asked for before."""
        self._steps.append(do)
        self._go()

    def _go(self) -> None:
        while self._steps and self._can(self._steps[0]):
            self._do(self._steps.popleft())

    def _can(self, do: Action) -> bool:
        if do is Action.LOGIN:
            return self._phase is _Phase.AWAY
        # Cut before its login has arrived, nobody would have heard of the user.
        return self._phase is _Phase.UP and not (do is Action.CUT and self._login_id)

    def _do(self, do: Action) -> None:
        match do:
            case Action.LOGIN:
                self._idle = None
                self._wait()
            case Action.HEARTBEAT:
                self._idle = False
                self._publish(verbs.ACTIVITY, client_messages.encode_activity(self._connection_id))
            case Action.IDLE | Action.ACTIVE:
                self._idle = do is Action.IDLE
                self._report()
            case Action.LOGOUT:
                self._phase = _Phase.LEAVING
                self._logout_id = self._publish(verbs.LOGOUT, client_messages.encode_end(self._connection_id))
            case Action.CUT:
                self._fleet.count.cuts += 1
                self._away()

    def leave_quietly(self) -> None:
        """Disconnect without a logout: no will, and still there for all who look."""
        if self._connection is not None:
            self._connection.finish(DISCONNECT)
            self._connection = None

    def ping_if_silent(self, now: float) -> None:
        """Keep the connection alive."""
        if self._phase is _Phase.UP and now - self._sent_at > _PING_AFTER_S and self._connection is not None:
            self._sent_at = now
            self._connection.send(PINGREQ)

    def answer_announce(self) -> None:
        """Log in again, with the same connection id, and say how it is."""
        if self._phase is _Phase.UP:
            self._say_hello()

    # Connecting.

    def _wait(self) -> None:
        self._phase = _Phase.WAITING
        self._fleet.queue(self)

    def connect(self) -> None:
        """Open a connection; it is this client's turn."""
        self._phase = _Phase.CONNECTING
        self._connection_id = secrets.token_hex(8)
        self._next_id = self._unacknowledged = self._login_id = self._logout_id = 0
        fleet = self._fleet
        password = fleet.names.password_of(self._user_id)
        hello = Connect(
            MQTT_311,
            keep_alive_s=KEEP_ALIVE_S,
            client_id=self._client_id,
            will=Will(self._topic(verbs.WILL), client_messages.encode_end(self._connection_id)),
            user=self._user_id,
            password=None if password is None else password.encode(),
        )
        try:
            self._connection = SocketConnection(fleet.loop, fleet.target, self._on_packet, self._on_lost)
        except OSError as error:
            self._on_lost(str(error))
        else:
            self._connection.send(connect_packet(hello))

    def _on_packet(self, packet: Packet) -> None:
        if packet.kind == Kind.PUBACK:
            self._on_acknowledged(read_id(packet.body)[0])
        elif packet.kind == Kind.CONNACK:
            _, code, _ = read_connack(packet.body)
            if code == Refusal.UNAVAILABLE:
                self._on_lost("the broker is unavailable")
                return
            if code:
                self._fleet.refused(self._user_id, connack_words_311(code))
                return
            self._phase = _Phase.UP
            self._fleet.arrived()
            self._say_hello()
            self._go()

    def _say_hello(self) -> None:
        login = client_messages.encode_login(self._connection_id, user_agent=USER_AGENT, announce=True)
        self._login_id = self._publish(verbs.LOGIN, login)
        if self._idle is not None:
            self._report()

    def _report(self) -> None:
        self._publish(verbs.ACTIVITY, client_messages.encode_activity(self._connection_id, idle=self._idle))

    def _on_acknowledged(self, packet_id: int) -> None:
        self._unacknowledged -= 1
        self._fleet.count.messages += 1
        if packet_id == self._login_id:
            self._login_id = 0
            self._fleet.count.logins += 1
            self._go()
        elif packet_id == self._logout_id:
            self._fleet.count.logouts += 1
            self.leave_quietly()
            self._away()

    # Ending.

    def _away(self) -> None:
        self._fleet.count.here -= 1
        self._close()
        self._phase = _Phase.AWAY
        self._go()

    def _close(self) -> None:
        self._unacknowledged = self._login_id = self._logout_id = 0
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _on_lost(self, why: str) -> None:
        """It ended, and that was not planned: come back, and be what it was."""
        fleet = self._fleet
        if self._phase is _Phase.CONNECTING:
            fleet.did_not_arrive(why)
        else:
            fleet.count.here -= 1
            fleet.count.lost += 1
        if self._phase is _Phase.LEAVING:
            self._steps.appendleft(Action.LOGOUT)  # nobody knows whether it was heard
        self._close()
        self._phase = _Phase.WAITING
        fleet.retry(self)

    # Saying.

    def _topic(self, verb: str) -> str:
        return self._fleet.topics.input(self._user_id, self._client_id, verb)

    def _publish(self, verb: str, payload: bytes) -> int:
        assert self._connection is not None
        self._next_id = packet_id = self._next_id % 65_535 + 1
        self._unacknowledged += 1
        self._sent_at = self._fleet.now
        self._connection.send(publish_packet(self._topic(verb), payload, packet_id))
        return packet_id


class SimulatedDevices:
    """All simulated clients.

    Args:
        loop: that serves their connections.
        target: the broker.
        topics: under which prefix.
        names: who they are.
        monotonic: tells the time in seconds.

    """

    def __init__(
        self,
        loop: Loop,
        target: Target,
        topics: Topics,
        names: Names,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.loop = loop
        self.target = target
        self.topics = topics
        self.names = names
        self.count = Count()
        self._monotonic = monotonic
        self.now = monotonic()
        self._devices = [Device(self, *names.of_client(n)) for n in range(names.users * names.connections)]
        self._waiting: deque[Device] = deque()
        self._connecting = 0
        self._retries: deque[tuple[float, Device]] = deque()
        self._sweep_at = self.now + _SWEEP_EVERY_S
        self._ever_arrived = False
        self._failure: BrokerError | None = None

    def ask(self, client: int, do: Action) -> None:
        """Have a client do something, after what it was asked for before."""
        self._devices[client].ask(do)

    @property
    def left(self) -> int:
        """How much is still to be done, or to be acknowledged by the broker."""
        return sum(device.left for device in self._devices)

    @property
    def outside(self) -> int:
        """How many want to connect and are not let in yet."""
        return len(self._waiting) + self._connecting + len(self._retries)

    @property
    def is_busy(self) -> bool:
        """Many are waiting to connect: more steps can wait, too."""
        return len(self._waiting) + self._connecting > _WINDOW

    def tend(self) -> None:
        """Let in who waits, and keep alive who is silent; to be called again and again.

        Raises:
            BrokerError: the broker lets nobody in.

        """
        if self._failure is not None:
            raise self._failure
        self.now = self._monotonic()
        while self._retries and self._retries[0][0] <= self.now:
            self._waiting.append(self._retries.popleft()[1])
        while self._waiting and self._connecting < _WINDOW:
            self._connecting += 1
            self._waiting.popleft().connect()
        if self.now >= self._sweep_at:
            self._sweep_at = self.now + _SWEEP_EVERY_S
            for device in self._devices:
                device.ping_if_silent(self.now)

    def answer_announce(self) -> None:
        """The bridge may have missed something: all log in again."""
        for device in self._devices:
            device.answer_announce()

    def leave_quietly(self) -> None:
        """Disconnect all without a logout."""
        for device in self._devices:
            device.leave_quietly()

    # For the devices.

    def queue(self, device: Device) -> None:
        """Let it connect when it is its turn."""
        self._waiting.append(device)

    def retry(self, device: Device) -> None:
        """Let it connect again, a little later."""
        self._retries.append((self.now + _RETRY_S + random.random() / 10, device))  # noqa: S311

    def arrived(self) -> None:
        """The broker has accepted one."""
        self._connecting -= 1
        self._ever_arrived = True
        self.count.here += 1

    def did_not_arrive(self, why: str) -> None:
        """One that was connecting has failed."""
        self._connecting -= 1
        if not self._ever_arrived and self._failure is None:  # it may have said why before it hung up
            self._failure = BrokerError(f"the broker lets no simulated client in: {why}")

    def refused(self, user_id: str, why: str) -> None:
        """The broker has said no: it will again."""
        self._failure = BrokerError(
            f"the broker refuses user {user_id}: {why}; give --name and --password of users that it knows"
        )
