"""MQTT in a WebSocket (MQTT 3.1.1 §6), as bytes in and bytes out: the socket is another's."""

from collections.abc import Iterator

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from mqtt_presence.mqtt.url import BrokerUrl


class WebSocketClient:
    """A client's side of a WebSocket, whose binary frames are pieces of one stream of bytes.

    Args:
        url: ``ws`` or ``wss``; its user is MQTT's affair.

    """

    def __init__(self, url: BrokerUrl) -> None:
        uri = WebSocketURI(url.tls, url.host, url.port, url.path, "")
        self._protocol = ClientProtocol(uri, subprotocols=[Subprotocol("mqtt")], max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self._early = bytearray()

    def send(self, data: bytes) -> None:
        """Have this sent, as soon as the server has agreed to a WebSocket."""
        match self._protocol.state:
            case State.CONNECTING:
                self._early += data
            case State.OPEN:
                self._protocol.send_binary(data)

    def output(self) -> bytes:
        """Return what is to go to the server now; to be asked after everything else."""
        return b"".join(self._protocol.data_to_send())

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what was in the frames.

        Raises:
            ConnectionError: the server does not agree, or ends it.
            ValueError: what comes is no MQTT.

        """
        self._protocol.receive_data(data)
        if self._protocol.handshake_exc is not None:
            raise ConnectionError(str(self._protocol.handshake_exc))
        for event in self._protocol.events_received():
            match event:
                case Response():
                    self.send(bytes(self._early))
                    self._early.clear()
                case Frame(opcode=Opcode.TEXT):
                    raise ValueError("a text frame: this is not MQTT [MQTT-6.0.0-1]")
                case Frame(opcode=Opcode.BINARY | Opcode.CONT):
                    yield bytes(event.data)
        if self._protocol.state not in (State.CONNECTING, State.OPEN):
            raise ConnectionError(str(self._protocol.parser_exc or "the broker has closed the WebSocket"))
