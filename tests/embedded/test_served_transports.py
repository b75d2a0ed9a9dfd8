"""Network connections that another server accepts and the broker serves."""

import asyncio
import concurrent.futures

import pytest

from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig, send_buffer
from mqtt_presence.errors import BrokerError
from tests.support.waiting import until
from tests.support.web import mqtt_connect

PINGS = b"\xc0\0" * 1024


class NonReadingTransport:
    """A client that sends pings without end, and reads no answer until `takes` is set."""

    address = "192.0.2.1"

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks
        self.given = -1
        self.taken = 0
        self.takes = False
        self.aborted = False

    async def receive(self) -> bytes:
        await asyncio.sleep(0)
        self.given += 1
        if self.given == 0:
            return mqtt_connect("greedy")
        return PINGS if self.given <= self.chunks else b""

    async def send(self, data: bytes) -> None:
        while not self.takes and not self.aborted:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.001)
        self.taken += len(data)

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


def test_packets_wait_until_the_client_reads_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers in memory are bounded, none is lost, and packets are read again once the client reads."""
    monkeypatch.setattr(send_buffer, "BUFFER_LIMIT", 10_000)
    transport = NonReadingTransport(chunks=500)
    with EmbeddedBroker(EmbeddedConfig(port=0, bridge_password="secret")) as broker:
        served = broker.submit(broker.serve(transport))
        until(lambda: broker.client_address("alice", "greedy") == "192.0.2.1")
        (served_by,) = broker._broker.router.connections
        until(lambda: served_by._buffer.size > 2 * 10_000)
        with pytest.raises(concurrent.futures.TimeoutError):
            served.result(0.2)
        assert transport.given < 20
        assert served_by._buffer.size < 2 * 10_000 + 2 * len(PINGS)
        transport.takes = True
        served.result(20)
    assert transport.taken == 4 + transport.chunks * len(PINGS)
    assert transport.aborted


def test_a_stopped_broker_serves_no_client() -> None:
    """The broker refuses clients before its start and after its stop."""
    broker = EmbeddedBroker(EmbeddedConfig(port=0))
    transport = NonReadingTransport(1)
    with pytest.raises(BrokerError, match="is not running"):
        broker.submit(broker.serve(transport))
    with broker:
        pass
    with pytest.raises(BrokerError, match="is not running"):
        broker.submit(broker.serve(transport))
    assert transport.given == -1
