"""Thousands of connections in one thread: non-blocking sockets, and the loop that serves them."""

import os
import resource
import selectors
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.mqtt.framing import Framer, Packet, ProtocolError
from mqtt_presence.mqtt.tls_files import TlsFiles
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.mqtt.websocket_client import WebSocketClient

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_SPARE_FILES = 64
_CONNECT_S = 10.0


def allow_files(count: int) -> None:
    """Raise the limit of open files for a number of connections.

    Raises:
        ConfigError: the system does not allow as many.

    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"users x connections = {count} needs {needed} open files, and this system allows {hard}: "
            "raise it (ulimit -Hn) or ask for fewer"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a broker, with its URL and TLS files."""

    family: socket.AddressFamily
    address: tuple[object, ...]
    url: BrokerUrl
    tls: TlsFiles | None


def find_target(url: BrokerUrl, tls: TlsFiles | None) -> Target:
    """Return an address of the broker that accepts connections.

    Raises:
        BrokerError: no address accepts one.

    """
    try:
        with socket.create_connection((url.host, url.port), _CONNECT_S) as sock:
            return Target(sock.family, sock.getpeername(), url, tls)
    except (OSError, UnicodeError) as error:
        raise BrokerError(f"{url} cannot be reached: {error}") from error


class _SocketPhase(Enum):
    CONNECTING = auto()
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSED = auto()


class SocketConnection:
    """A connection to the broker, opened at once and served by the loop.

    Args:
        loop: serves the connection.
        target: the broker.
        on_packet: called with each packet from the broker.
        on_lost: called once with the reason of an end, unless by `close` or `finish`.

    Raises:
        OSError: this machine has no socket or port left.

    """

    def __init__(
        self,
        loop: "Loop",
        target: Target,
        on_packet: Callable[[Packet], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._target = target
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._framer = Framer()
        self._websocket = WebSocketClient(target.url) if target.url.websockets else None
        self._out = bytearray() if self._websocket is None else bytearray(self._websocket.output())
        self._phase = _SocketPhase.CONNECTING
        self._interest = _READ | _WRITE
        self._is_last = False
        self._sock = socket.socket(target.family, socket.SOCK_STREAM)
        self._fd = self._sock.fileno()
        self._open()

    def _open(self) -> None:
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(BlockingIOError):
                self._sock.connect(self._target.address)
        except OSError:
            self._phase = _SocketPhase.CLOSED
            self._sock.close()
            raise
        self._loop.selector.register(self._fd, self._interest, self)

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended on either side."""
        return self._phase is _SocketPhase.CLOSED

    def send(self, data: bytes) -> None:
        """Send as much as the socket accepts now, and the rest later."""
        if self._phase is _SocketPhase.CLOSED:
            return
        if self._websocket is None:
            self._out += data
        else:
            self._websocket.send(data)
        self._send_on()

    def _send_on(self) -> None:
        if self._websocket is not None:
            self._out += self._websocket.output()
        if self._phase is _SocketPhase.OPEN:
            self._run_guarded(self._flush)

    def finish(self, data: bytes) -> None:
        """Send the last bytes, and close."""
        self._is_last = True
        self.send(data)

    def close(self) -> None:
        """Close the socket at once, without sending queued bytes."""
        if self._phase is _SocketPhase.CLOSED:
            return
        self._phase = _SocketPhase.CLOSED
        self._loop.selector.unregister(self._fd)
        with suppress(OSError):
            self._sock.close()

    def serve(self, mask: int) -> None:
        """Read and write as far as the socket is ready."""
        match self._phase:
            case _SocketPhase.CONNECTING:
                self._run_guarded(self._connected)
            case _SocketPhase.HANDSHAKE:
                self._run_guarded(self._continue_handshake)
            case _SocketPhase.OPEN:
                if mask & _WRITE:
                    self._run_guarded(self._flush)
                if mask & _READ:
                    self._run_guarded(self._read)
            case _SocketPhase.CLOSED:
                pass  # a callback of another connection has just closed this one

    def _run_guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (OSError, ValueError) as error:
            self._fail(str(error))
        except ProtocolError as error:
            self._fail(f"this is not MQTT: {error}")
        self._set_interest()

    def _fail(self, why: str) -> None:
        self.close()
        if not self._is_last:
            self._on_lost(why)

    def _connected(self) -> None:
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if self._target.tls is None:
            self._phase = _SocketPhase.OPEN
            self._flush()
            return
        self._sock = self._target.tls.context().wrap_socket(
            self._sock, do_handshake_on_connect=False, server_hostname=self._target.url.host
        )
        self._phase = _SocketPhase.HANDSHAKE
        self._continue_handshake()

    def _continue_handshake(self) -> None:
        assert isinstance(self._sock, ssl.SSLSocket)
        self._sock.do_handshake()
        self._phase = _SocketPhase.OPEN
        self._flush()

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(self._out)
            except BlockingIOError:
                return
            del self._out[:sent]
        if self._is_last:
            self.close()

    def _read(self) -> None:
        while self._phase is _SocketPhase.OPEN:
            try:
                data = self._sock.recv(65_536)
            except BlockingIOError:
                return
            if not data:
                raise ConnectionError("the broker has closed the connection")
            for packet in self._packets(data):
                if self.is_closed:
                    return  # the callback has closed the connection
                self._on_packet(packet)
            if self._target.tls is None and len(data) < 65_536:
                return

    def _packets(self, data: bytes) -> Iterator[Packet]:
        if self._websocket is None:
            yield from self._framer.feed(data)
            return
        for piece in self._websocket.feed(data):
            yield from self._framer.feed(piece)
        self._send_on()

    def _set_interest(self) -> None:
        if self._phase is _SocketPhase.CLOSED:
            return
        wants = _READ | _WRITE if self._out or self._phase is _SocketPhase.CONNECTING else _READ
        if wants != self._interest:
            self._interest = wants
            self._loop.selector.modify(self._fd, wants, self)


class Loop:
    """Serves connections."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def run_once(self, timeout_s: float) -> None:
        """Serve all ready connections; wait for one up to the timeout."""
        for key, mask in self.selector.select(timeout_s):
            connection: SocketConnection = key.data
            connection.serve(mask)

    def close(self) -> None:
        """Close all remaining connections at once."""
        for key in list(self.selector.get_map().values()):
            key.data.close()
        self.selector.close()
