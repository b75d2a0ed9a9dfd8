"""The client side of MQTT over WebSocket, without the socket: bytes in, bytes out (MQTT 3.1.1 §6)."""

from collections.abc import Iterator

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from mqtt_presence.mqtt.url import BrokerUrl


class WebSocketClient:
    """A WebSocket, whose binary frames are pieces of one stream of bytes.

    Args:
        url: of the scheme ``ws`` or ``wss``; its user and password are not used here.

    """

    def __init__(self, url: BrokerUrl) -> None:
        uri = WebSocketURI(url.tls, url.host, url.port, url.path, "")
        self._protocol = ClientProtocol(uri, subprotocols=[Subprotocol("mqtt")], max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self._unsent = bytearray()

    def send(self, data: bytes) -> None:
        """Send data; before the server has agreed to a WebSocket, keep it until then."""
        match self._protocol.state:
            case State.CONNECTING:
                self._unsent += data
            case State.OPEN:
                self._protocol.send_binary(data)

    def output(self) -> bytes:
        """Return the bytes for the server; call it after `send` and `feed`."""
        return b"".join(self._protocol.data_to_send())

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the contents of the frames in bytes from the server.

        Raises:
            ConnectionError: the server does not agree to a WebSocket, or has closed it.
            ValueError: a frame is not MQTT.

        """
        self._protocol.receive_data(data)
        if self._protocol.handshake_exc is not None:
            raise ConnectionError(str(self._protocol.handshake_exc))
        for event in self._protocol.events_received():
            match event:
                case Response():
                    self.send(bytes(self._unsent))
                    self._unsent.clear()
                case Frame(opcode=Opcode.TEXT):
                    raise ValueError("a text frame: this is not MQTT [MQTT-6.0.0-1]")
                case Frame(opcode=Opcode.BINARY | Opcode.CONT):
                    yield bytes(event.data)
        if self._protocol.state not in (State.CONNECTING, State.OPEN):
            raise ConnectionError(str(self._protocol.parser_exc or "the broker has closed the WebSocket"))
