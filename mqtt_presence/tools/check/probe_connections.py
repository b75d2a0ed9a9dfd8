"""The connections of a check, as bridge and client, in the newest version that the broker accepts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.return_codes import UNSUPPORTED_VERSION
from mqtt_presence.tools.check.config import CheckConfig
from mqtt_presence.tools.check.poll_loop import PollLoop
from mqtt_presence.tools.check.probe_client import (
    OPEN_S,
    ClosedError,
    ConnectOptions,
    Credentials,
    ProbeClient,
    RefusedError,
    UnreachableError,
)
from mqtt_presence.tools.check.probe_names import ProbeNames


class ProbeConnections:
    """Opens the connections of one check.

    Args:
        config: of the check.
        names: for client ids.
        loop: serves the connections.

    """

    def __init__(self, config: CheckConfig, names: ProbeNames, loop: PollLoop) -> None:
        self._config = config
        self._names = names
        self._loop = loop
        self.mqtt5 = False
        """Whether the broker accepts MQTT 5, from the bridge at least."""
        self.client_mqtt5 = False
        """Whether the broker accepts MQTT 5 from the client."""
        self.mqtt5_refusal: RefusedError | None = None
        self.connack_properties: dict[str, Any] = {}
        """The properties of the CONNACK in MQTT 5 to the bridge."""
        self.sessions: set[tuple[str, Credentials]] = set()
        """The persistent sessions to end: client id and credentials."""

    def connect(self, credentials: Credentials, client_id: str, options: ConnectOptions) -> ProbeClient:
        """Connect, and wait until the broker has accepted the connection.

        Raises:
            UnreachableError: the server does not answer.
            RefusedError: the broker refuses the connection.
            ClosedError: the broker closes the connection instead of an answer.

        """
        client = ProbeClient(credentials, client_id, options, self._names.is_of_check)
        before = set(self.sessions)
        if not options.clean:
            self.sessions.add((client_id, credentials))
        self.open(client)
        self._loop.until(lambda: client.is_accepted or client.is_over or client.reason is not None, OPEN_S)
        if client.is_accepted:
            return client
        answered = client.is_over or client.reason is not None
        client.cut()
        url = credentials.url
        if client.reason is not None:
            self.sessions = before  # a refused connection leaves no session
            raise RefusedError(
                f"{url} refuses us: {client.answer}", client.reason, in_mqtt5=client.connack.in_mqtt5
            )
        if answered:
            raise ClosedError(f"{url} refuses us: {client.answer}")
        raise UnreachableError(f"{url} does not answer to CONNECT in {OPEN_S:g} s")

    def open(self, client: ProbeClient) -> None:
        """Open a client's socket, and let the loop serve it.

        Raises:
            UnreachableError: the server does not answer.

        """
        client.open()
        self._loop.add(client)

    def client(
        self, client_id: str | None = None, *, credentials: Credentials | None = None, **options: Any
    ) -> ProbeClient:
        """Connect as the client, in MQTT 5 if the broker accepts that and the options do not differ.

        Args:
            client_id: None for a new one.
            credentials: None for those of the client.
            options: see `ConnectOptions`.

        """
        credentials = credentials or self._config.client
        options.setdefault("mqtt5", self.client_mqtt5)
        client_id = client_id or self._names.client_id(user=credentials.url.username)
        return self.connect(credentials, client_id, ConnectOptions(**options))

    def bridge(
        self, client_id: str | None = None, *, credentials: Credentials | None = None, **options: Any
    ) -> ProbeClient:
        """Connect as the bridge's user, with another client id than the bridge's.

        Args:
            client_id: None for a new one.
            credentials: None for those of the bridge; others lead to another node.
            options: see `ConnectOptions`.

        """
        options.setdefault("mqtt5", self.mqtt5)
        client_id = client_id or self._names.client_id("bridge", bridge=True)
        return self.connect(credentials or self._config.bridge, client_id, ConnectOptions(**options))

    def first_of_bridge(self) -> ProbeClient:
        """Connect as the bridge does, in MQTT 5 if the broker accepts it.

        Raises:
            BrokerError: the broker cannot be reached, or refuses the bridge's user.

        """

        def connect(mqtt5: bool) -> ProbeClient:
            client_id = self._names.client_id("observer", bridge=True)
            return self.connect(self._config.bridge, client_id, ConnectOptions(mqtt5=mqtt5))

        with _naming("broker"):
            client, refusal = _in_newest_version(connect)
        self.mqtt5 = client.options.mqtt5
        self.mqtt5_refusal = refusal if isinstance(refusal, RefusedError) else None
        if self.mqtt5:
            self.connack_properties = client.connack.properties
        return client

    def try_clients(self) -> None:
        """Connect once as each client of the configuration.

        Raises:
            BrokerError: the broker refuses one of the users.

        """
        with _naming("client"):
            self._first_of_client().disconnect()
        if self._config.second is not None:
            with _naming("second_client"):
                self.client(credentials=self._config.second).disconnect()

    def _first_of_client(self) -> ProbeClient:
        """Connect as the client, whose URL may lead to a listener without MQTT 5."""
        if not self.mqtt5:
            return self.client()
        client, refusal = _in_newest_version(lambda mqtt5: self.client(mqtt5=mqtt5))
        if isinstance(refusal, RefusedError) and refusal.code != UNSUPPORTED_VERSION:
            raise refusal
        self.client_mqtt5 = client.options.mqtt5
        return client


def _in_newest_version(connect: Callable[[bool], ProbeClient]) -> tuple[ProbeClient, BrokerError | None]:
    """Connect in MQTT 5, or else in 3.1.1; return the connection and the reason against MQTT 5.

    A port proxy closes connections while its broker is away. So a connection that was closed without an
    answer is tried again in MQTT 5, once the broker has accepted MQTT 3.1.1.
    """
    try:
        return connect(True), None
    except RefusedError as error:
        return connect(False), error
    except ClosedError:
        older = connect(False)
    try:
        newer = connect(True)
    except (RefusedError, ClosedError) as error:
        return older, error
    older.disconnect()
    return newer, None


@contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Add the name of the setting to an error of the broker."""
    try:
        yield
    except BrokerError as error:
        raise BrokerError(f"{setting}: {error}") from error
