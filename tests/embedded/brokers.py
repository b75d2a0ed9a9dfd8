"""The two brokers that the scenarios meet: ours, and amqtt as shipped."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from amqtt.broker import Broker

from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from tests.embedded.wire import Wire

SECRET = "bridge-secret"
USERS = ("alice", "bob", "carol", "mallory", "bridge")


class House:
    """A running broker, clients that are closed afterwards, and the bridge's way in."""

    def __init__(self, port: int, stop) -> None:
        self.port = port
        self.stop = stop
        self.wires: list[Wire] = []

    def wire(self) -> Wire:
        self.wires.append(Wire(self.port))
        return self.wires[-1]

    def client(self, user="alice", client_id="phone", **how) -> Wire:
        wire = self.wire()
        assert wire.connect(user, client_id, **how) == 0
        return wire

    def bridge(self, *filters, client_id="bridge-4711", clean=False, password=SECRET) -> Wire:
        """Connect as the bridge, subscribed to what the clients say unless told otherwise."""
        wire = self.client("bridge", client_id, clean=clean, password=password)
        wire.subscribe(*(filters or ("presence/+/+/+",)))
        return wire


@contextlib.contextmanager
def ours(**settings) -> Iterator[House]:
    config = EmbeddedConfig(**{"port": 0, "bridge_password": SECRET} | settings)
    broker = EmbeddedBroker(config)
    with broker:
        house = House(broker.port, broker.stop)
        house.broker = broker
        yield house
        for wire in house.wires:
            wire.sock.close()


@contextlib.contextmanager
def plain(plugins=None) -> Iterator[House]:
    """Run amqtt 0.12.1 as shipped, on a loop in a thread."""
    plugins = plugins or {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False}}
    started, holder = threading.Event(), {}

    async def serve():
        broker = Broker(
            {"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}, "plugins": plugins}
        )
        await broker.start()
        holder["loop"], holder["end"] = asyncio.get_running_loop(), asyncio.Event()
        holder["port"] = broker._servers["default"].instance.sockets[0].getsockname()[1]
        started.set()
        await holder["end"].wait()
        await broker.shutdown()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10)

    def stop():
        with contextlib.suppress(RuntimeError):  # stopped already
            holder["loop"].call_soon_threadsafe(holder["end"].set)
        thread.join(10)

    house = House(holder["port"], stop)
    try:
        yield house
    finally:
        for wire in house.wires:
            wire.sock.close()
        stop()
