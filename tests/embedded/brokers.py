"""The two brokers that the scenarios run on: the embedded broker, and plain amqtt."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from amqtt.broker import Broker

from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from tests.embedded.raw_client import RawClient

SECRET = "bridge-secret"
USERS = ("alice", "bob", "carol", "mallory", "bridge")


class RunningBroker:
    """A running broker, and the raw clients of a test, which are closed afterwards."""

    def __init__(self, port: int, stop) -> None:
        self.port = port
        self.stop = stop
        self.broker: EmbeddedBroker | None = None
        self.clients: list[RawClient] = []

    @property
    def router(self):
        return self.broker._broker.router

    def raw_client(self) -> RawClient:
        self.clients.append(RawClient(self.port))
        return self.clients[-1]

    def client(self, user="alice", client_id="phone", **how) -> RawClient:
        raw_client = self.raw_client()
        assert raw_client.connect(user, client_id, **how) == 0
        return raw_client

    def bridge(self, *filters, client_id="bridge-4711", clean=False, password=SECRET) -> RawClient:
        """Connect as the bridge, subscribed to the clients' messages or to other filters."""
        raw_client = self.client("bridge", client_id, clean=clean, password=password)
        raw_client.subscribe(*(filters or ("presence/+/+/+",)))
        return raw_client


@contextlib.contextmanager
def embedded_server(**settings) -> Iterator[RunningBroker]:
    config = EmbeddedConfig(**{"port": 0, "bridge_password": SECRET} | settings)
    broker = EmbeddedBroker(config)
    with broker:
        server = RunningBroker(broker.port, broker.stop)
        server.broker = broker
        yield server
        for raw_client in server.clients:
            raw_client.sock.close()


@contextlib.contextmanager
def amqtt_server(plugins=None) -> Iterator[RunningBroker]:
    """Run plain amqtt 0.12.1 on an event loop in a thread."""
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

    server = RunningBroker(holder["port"], stop)
    try:
        yield server
    finally:
        for raw_client in server.clients:
            raw_client.sock.close()
        stop()
