"""Callbacks of both clients: connected, disconnected, and the bridge online or offline."""

from collections.abc import Callable

from mqtt_presence.client.network_connection import guard

OnConnect = Callable[[], object]
OnBridge = Callable[[bool], object]
"""Called with True when the bridge comes online, with False when it goes or the connection is lost."""


class Callbacks:
    """The callbacks of a program, called in the connection's thread. Their exceptions are logged.

    Args:
        on_connect: the broker has accepted a connection.
        on_disconnect: a connection that the broker had accepted has ended.
        on_bridge: the bridge has come online or gone.

    """

    def __init__(
        self, on_connect: OnConnect | None, on_disconnect: OnConnect | None, on_bridge: OnBridge | None
    ) -> None:
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._on_bridge = on_bridge
        self._bridge_online = False

    def connected(self) -> None:
        """Call `on_connect`."""
        if self._on_connect is not None:
            guard(self._on_connect)

    def disconnected(self) -> None:
        """Call `on_disconnect`, after `on_bridge` where the bridge was online."""
        self.bridge(online=False)
        if self._on_disconnect is not None:
            guard(self._on_disconnect)

    def bridge(self, *, online: bool) -> None:
        """Call `on_bridge` if the state differs from the last one."""
        if online != self._bridge_online:
            self._bridge_online = online
            if self._on_bridge is not None:
                guard(self._on_bridge, online)
