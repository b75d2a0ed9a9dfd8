"""Idle connections to the nodes of a broker's cluster: one thread for each node, which reports its answers.

A connection is MQTT 3.1.1 with a clean session and a random client id, without will and subscription. So a
node has nothing to keep for it, and the connection needs no rights.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.mqtt.paho_client import prepare, transport
from mqtt_presence.mqtt.return_codes import connack_words
from mqtt_presence.mqtt.tls_files import TlsFiles
from mqtt_presence.mqtt.url import BrokerUrl

log = logging.getLogger(__name__)

_KEEP_ALIVE_S = 5
_TIMEOUT_S = 5.0
_LONGEST_WAIT_S = 1.0
_RETRY_S = 1.0


class NodeAnswer(Enum):
    """The result of an attempt to connect to a node, or the end of a connection."""

    UP = auto()
    """The node has accepted the connection."""
    LOST = auto()
    """The connection has ended."""
    REFUSED = auto()
    """Nobody listens at the node's port."""
    SILENT = auto()
    """No answer, or none of a broker: the node, or the network to it, is away."""
    DENIED = auto()
    """The node answers, and refuses the user."""


class NodeReport(NamedTuple):
    """An answer of one node."""

    node: str
    """Host and port."""
    answer: NodeAnswer
    at_s: float
    """By the monotonic clock, seconds."""


OnReport = Callable[[NodeReport], None]
"""Called in the thread of the node."""


def name_of(node: BrokerUrl) -> str:
    """Return host and port of a node, without spaces."""
    return f"{node.host}:{node.port}"


class NodeConnections:
    """Connections to all nodes, open from the constructor to `close`.

    Args:
        config: the nodes, and the certificates.
        on_report: called with each answer.

    """

    def __init__(self, config: LinkConfig, on_report: OnReport) -> None:
        self._on_report = on_report
        self._is_over = threading.Event()
        is_tls = config.nodes[0].tls
        self._tls = TlsFiles(config.ca_file, config.cert_file, config.key_file) if is_tls else None
        for node in config.nodes:
            threading.Thread(
                target=self._follow, args=(node,), name=f"node-{name_of(node)}", daemon=True
            ).start()

    def close(self) -> None:
        """End all connections soon, without waiting for them."""
        self._is_over.set()

    def _follow(self, node: BrokerUrl) -> None:
        was_denied = False
        while not self._is_over.is_set():
            connection = CleanConnection(
                node, self._tls, f"{node.username or 'bridge'}-node-{secrets.token_hex(8)}"
            )
            answer = connection.open()
            if answer is NodeAnswer.DENIED and not was_denied:
                log.warning("%s refuses the connection that watches it: %s", node, connection.refusal)
            was_denied = answer is NodeAnswer.DENIED
            self._on_report(NodeReport(name_of(node), answer, time.monotonic()))
            if answer is NodeAnswer.UP:
                connection.keep(self._is_over)
                if not self._is_over.is_set():
                    self._on_report(NodeReport(name_of(node), NodeAnswer.LOST, time.monotonic()))
                    continue  # the attempt that follows at once tells a death from a lost connection
            self._is_over.wait(_RETRY_S)


class CleanConnection:
    """One connection to one node; the node keeps no session of its client id."""

    def __init__(self, node: BrokerUrl, tls: TlsFiles | None, client_id: str) -> None:
        self._node = node
        self._code: int | None = None
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv311,
            transport=transport(node),
            reconnect_on_failure=False,
        )
        prepare(self._client, node, timeout_s=_TIMEOUT_S, tls=None if tls is None else tls.context())
        self._client.on_connect = self._on_connect

    @property
    def refusal(self) -> str:
        """The node's refusal in words."""
        return connack_words(self._code or 0)

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._code = int(reason.value)

    def open(self) -> NodeAnswer:
        """Connect, and wait for the node's answer."""
        try:
            self._client.connect(self._node.host, self._node.port, _KEEP_ALIVE_S)
        except ConnectionRefusedError:
            return NodeAnswer.REFUSED
        except (OSError, ValueError, mqtt.WebsocketConnectionError):
            return NodeAnswer.SILENT
        deadline = time.monotonic() + _TIMEOUT_S
        while self._code is None and time.monotonic() < deadline:
            if self._client.loop(_LONGEST_WAIT_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        if self._code == 0:
            return NodeAnswer.UP
        self.close()
        return NodeAnswer.SILENT if self._code is None else NodeAnswer.DENIED

    def keep(self, is_over: threading.Event) -> None:
        """Keep the connection until it is lost, or until the end of the watch."""
        while not is_over.is_set():
            if self._client.loop(_LONGEST_WAIT_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        self.close()

    def close(self) -> None:
        """Disconnect."""
        with suppress(Exception):  # the node may have closed the connection at any point
            self._client.disconnect()
            self._client.loop_write()
        sock: Any = self._client.socket()
        if sock is not None:
            with suppress(OSError):
                sock.close()
