"""The service manager: tells systemd that the bridge is ready, works, or stops (sd_notify(3)).

The loop itself feeds the watchdog, so systemd starts a stuck bridge again.
"""

import logging
import os
import socket
from collections.abc import Mapping
from typing import Self

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part

log = logging.getLogger(__name__)

_SOCKET, _WATCHDOG_US, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
_LONGEST_S = 10.0
"""Between two messages; a watchdog may need them more often."""


class ServiceManager(Part):
    """Sends the state of the bridge to the socket of the service manager.

    Args:
        address: of the datagram socket; ``@`` begins an abstract one.
        clock: the bridge's.
        watchdog_s: after this time without a message the service manager ends the bridge; None: it does not.

    """

    def __init__(self, address: str, clock: Clock, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._clock = clock
        self._every_s = min(_LONGEST_S, (watchdog_s or _LONGEST_S) / 4)
        self._is_watched = watchdog_s is not None
        self._due_s = 0.0
        self._is_ready = False
        self._is_connected: bool | None = None
        self._socket: socket.socket | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], clock: Clock) -> Self | None:
        """Return the service manager of this process; None: no service manager has started it.

        Args:
            environment: the variables of the process.
            clock: the bridge's.

        """
        address = environment.get(_SOCKET, "")
        if not address.startswith(("/", "@")):
            return None
        watchdog_us = environment.get(_WATCHDOG_US, "")
        is_ours = environment.get(_WATCHDOG_PID, str(os.getpid())) == str(os.getpid())
        watchdog_s = int(watchdog_us) / 1e6 if is_ours and watchdog_us.isdecimal() else None
        return cls(address, clock, watchdog_s or None)

    def turned(self, link: Link) -> None:
        """Report the first turn as ready, feed the watchdog, and report changes of the connection."""
        now_s = self._clock.monotonic()
        is_new = link.is_connected is not self._is_connected
        if now_s < self._due_s and not is_new:
            return
        self._due_s = now_s + self._every_s
        self._is_connected = link.is_connected
        status = "connected to the broker" if link.is_connected else "the broker is away: connecting again"
        self._send(
            *["READY=1"] * (not self._is_ready),
            *["WATCHDOG=1"] * self._is_watched,
            f"STATUS={status}",
        )
        self._is_ready = True

    def leaving(self, link: Link) -> None:
        """See `Part`."""
        del link
        self._send("STOPPING=1", "STATUS=publishing the last messages")

    def _send(self, *lines: str) -> None:
        """Send lines; a service manager that does not listen changes nothing for the bridge."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.debug("the service manager does not listen: %s", error)
