"""Connecting: node, time and MQTT version of the next attempt, and the meaning of the broker's refusals."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqtt_presence.bridge.link.batch_client import BatchClient
from mqtt_presence.bridge.link.config import RECEIVE_MAXIMUM, LinkConfig
from mqtt_presence.bridge.link.mqtt_version import MqttVersion
from mqtt_presence.bridge.link.node_round import NodeRound
from mqtt_presence.mqtt.backoff import Backoff
from mqtt_presence.mqtt.paho_client import prepare, transport
from mqtt_presence.mqtt.port_advice import port_advice
from mqtt_presence.mqtt.return_codes import (
    BAD_USER_NAME_OR_PASSWORD,
    NOT_AUTHORIZED,
    TAKEN_OVER,
    UNSUPPORTED_VERSION,
    connack_words,
)
from mqtt_presence.mqtt.tls_files import TlsFiles
from mqtt_presence.mqtt.url import BrokerUrl

log = logging.getLogger(__name__)
_TIMEOUT_S = 5.0
_FIRST_DELAY_S = 0.375
_LONGEST_DELAY_S = 30.0
_STABLE_S = 30.0
_FINAL_REFUSALS = {UNSUPPORTED_VERSION, BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED}


class Connecting:
    """Attempts to connect: their MQTT version, their delays, and their results.

    Args:
        config: where to connect, and as which client.

    """

    def __init__(self, config: LinkConfig) -> None:
        self._config = config
        self._version = MqttVersion(mqtt5=config.mqtt5)
        self._round = NodeRound(config.nodes)
        is_tls = config.nodes[0].tls
        self._tls = TlsFiles(config.ca_file, config.cert_file, config.key_file) if is_tls else None
        self._backoff = Backoff(_FIRST_DELAY_S, _LONGEST_DELAY_S, steady_after=_STABLE_S)
        self._next_attempt = 0.0
        self._refusal: int | None = None
        """The return code of the CONNACK that ended the current attempt."""
        self._is_probe_over = False
        self._has_lost_session = False
        """A probe found no session at the broker, and the bridge does not know it yet."""
        self._fallback_level = logging.WARNING
        self._has_ever_connected = False
        self._refusing: set[BrokerUrl] = set()
        """The nodes whose last answer was a refusal for good."""
        self._short_connections = 0
        self.was_taken_over = False
        """Whether another client has taken the last connection over, or seems to."""
        self.connected_at = 0.0
        """The begin of the last connection, seconds of the monotonic clock."""
        self.fatal: str | None = None
        """Why the broker refuses the bridge for good."""

    @property
    def is_mqtt5(self) -> bool:
        """Whether the current connection, or the next attempt, is in MQTT 5."""
        return self._version.is_mqtt5

    @property
    def is_contested(self) -> bool:
        """Whether the connection before was short: another client may use this client id."""
        return self._short_connections > 0

    @property
    def wait_s(self) -> float:
        """How long to wait for the next attempt, seconds."""
        return self._next_attempt - time.monotonic()

    def make_client(self, **callbacks: Any) -> BatchClient:
        """Return a client for the next attempt: its version and certificates may have changed.

        Args:
            callbacks: arguments of `BatchClient`.

        """
        client = BatchClient(
            **callbacks,
            callback_api_version=CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id,
            clean_session=None if self.is_mqtt5 else False,
            protocol=mqtt.MQTTv5 if self.is_mqtt5 else mqtt.MQTTv311,
            transport=transport(self._round.node),
            reconnect_on_failure=False,
        )
        tls = None if self._tls is None else self._tls.context()
        prepare(client, self._round.node, timeout_s=_TIMEOUT_S, tls=tls)
        return client

    def connect(self, client: BatchClient) -> None:
        """Open a network connection and send CONNECT."""
        self._refusal = None
        url = self._round.node
        try:
            client.connect(url.host, url.port, keepalive=self._config.keep_alive_s, **self._session_options())
        except (OSError, ValueError, mqtt.WebsocketConnectionError) as error:
            self._version.begin()
            self._refusing.discard(url)
            self._back_off(0.0)
            why = f"{error}{port_advice(url, error)}"
            log.warning("cannot reach the broker at %s: %s; %s", url, why, self._next_try())

    def _session_options(self) -> Mapping[str, Any]:
        """Return the options for a session that never expires and for many unacknowledged messages."""
        if not self.is_mqtt5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0xFFFF_FFFF
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        return {"clean_start": False, "properties": properties}

    def refused(self, code: int) -> None:
        """Record a CONNACK that refuses the connection; `ended` follows."""
        self._refusal = code

    def accepted(self, *, session_present: bool) -> bool:
        """Record a CONNACK that accepts the connection; return False if the connection was only a probe."""
        self._has_lost_session = self._has_lost_session or not session_present
        if self._version.accepted():
            self.was_taken_over = False
            self._log_fallback()
            self._has_ever_connected = True
            self._round.connected()
            self.connected_at = time.monotonic()
            return True
        self._is_probe_over = True
        return False

    def found_session(self) -> bool:
        """Return whether the broker has kept the session, also during the probes before this connection."""
        has_lost_session, self._has_lost_session = self._has_lost_session, False
        log.info("connected to %s, session %s", self._round.node, "new" if has_lost_session else "kept")
        return not has_lost_session

    def _log_fallback(self) -> None:
        if not self._version.is_fallback:
            self._fallback_level = logging.WARNING
            return
        log.log(
            self._fallback_level,
            "the broker at %s does not accept MQTT 5: this connection uses MQTT 3.1.1, without a receive "
            "maximum and, unless `source` is set, without addresses and causes of ends; MQTT 5 is tried "
            "again at the next connection",
            self._round.node,
        )
        self._fallback_level = logging.INFO

    def attempt_ended(self) -> bool:
        """Record the end of an attempt; return False if the next one follows at once, in another version."""
        if self._is_probe_over:
            self._is_probe_over = False
            return False
        if self._refusal is None:
            tries_at_once = self._version.closed()
        else:
            tries_at_once = self._version.refused(unsupported=self._refusal == UNSUPPORTED_VERSION)
        if tries_at_once:
            return False
        url = self._round.node
        self._back_off(0.0)
        if self._refusal is None:
            self._refusing.discard(url)
            log.warning("the broker at %s did not answer%s; %s", url, port_advice(url), self._next_try())
            return True
        words = connack_words(self._refusal)
        log.error("the broker at %s refuses us: %s; %s", url, words, self._next_try())
        if self._refusal in _FINAL_REFUSALS:
            self._refusing.add(url)
        if self._refusing.issuperset(self._config.nodes) and not self._has_ever_connected:
            self.fatal = f"the broker at {url} refuses us: {words}"
        return True

    @property
    def has_other_nodes(self) -> bool:
        """Whether another node may grant the request that this one denies."""
        return len(self._config.nodes) > 1

    def _may_elect(self, reason: int) -> bool:
        """Return whether a node may have closed the connection because it has no leader, as NATS does."""
        return self.has_other_nodes and reason != TAKEN_OVER

    def connection_ended(self, reason: int, denied: str | None = None) -> None:
        """Record the end of an accepted connection.

        Args:
            reason: of the broker's DISCONNECT (MQTT 5 §3.14.2.1), or paho's own.
            denied: the subscription that the node has denied, if the link ended the connection for it.

        """
        lasted = time.monotonic() - self.connected_at
        node = self._round.node
        is_short = lasted < _STABLE_S
        if denied is None:
            self._short_connections = self._short_connections + 1 if is_short else 0
        self._back_off(lasted)
        self.was_taken_over = denied is None and (self._short_connections > 1 or reason == TAKEN_OVER)
        if denied is not None:
            log.warning(
                "the broker at %s does not let this user subscribe to %s, as a node without a leader of its "
                "cluster does; %s",
                node,
                denied,
                self._next_try(),
            )
        elif self.was_taken_over:
            log.warning(
                "the broker has closed the connection after %.1f s: %sdoes somebody else, a second "
                "bridge on the same database perhaps, use this bridge's client id? %s",
                lasted,
                "its nodes may still elect a leader; or " if self._may_elect(reason) else "",
                self._next_try(),
            )
        else:
            log.warning("the connection to the broker at %s was lost; %s", node, self._next_try())
        self._version.begin()

    def _back_off(self, lasted: float) -> None:
        """Go on with the next node: at once, unless all nodes have failed or the connection was short."""
        is_round_over = self._round.next()
        is_short = 0.0 < lasted < _STABLE_S  # perhaps a takeover, which no other node avoids
        delay = self._backoff.next(lasted) if is_round_over or is_short else 0.0
        self._next_attempt = time.monotonic() + delay

    def _next_try(self) -> str:
        if len(self._config.nodes) == 1:
            return f"next try in {max(0.0, self.wait_s):.1f} s"
        return f"next: {self._round.node} in {max(0.0, self.wait_s):.1f} s"
