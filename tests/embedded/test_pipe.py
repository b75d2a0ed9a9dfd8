"""Connections that came in elsewhere and are served by the broker, over a pipe."""

import asyncio
import concurrent.futures

import pytest

from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig, client_connection
from mqtt_presence.errors import BrokerError
from tests.support.waiting import until
from tests.support.web import mqtt_connect

PINGS = b"\xc0\0" * 1024


class Greedy:
    """A peer that asks without end, and takes no answer until it is told to."""

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
        while not self.takes and not self.aborted:  # noqa: ASYNC110 - told from another thread
            await asyncio.sleep(0.001)
        self.taken += len(data)

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


def test_a_peer_that_takes_no_answers_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it stays bounded, nothing of it is lost, and it is heard again once it reads."""
    monkeypatch.setattr(client_connection, "OUTBOX_LIMIT", 10_000)
    peer = Greedy(chunks=500)
    with EmbeddedBroker(EmbeddedConfig(port=0, bridge_password="secret")) as broker:
        served = broker.submit(broker.serve(peer))
        until(lambda: broker.client_address("alice", "greedy") == "192.0.2.1")
        (served_by,) = broker._broker.router.connections
        until(lambda: served_by._outbox_size > 2 * 10_000)
        with pytest.raises(concurrent.futures.TimeoutError):
            served.result(0.2)
        assert peer.given < 20
        assert served_by._outbox_size < 2 * 10_000 + 2 * len(PINGS)
        peer.takes = True
        served.result(20)
    assert peer.taken == 4 + peer.chunks * len(PINGS)
    assert peer.aborted


def test_a_broker_that_does_not_run_serves_nobody() -> None:
    """Neither before it is started nor after it was stopped."""
    broker = EmbeddedBroker(EmbeddedConfig(port=0))
    peer = Greedy(1)
    with pytest.raises(BrokerError, match="does not run"):
        broker.submit(broker.serve(peer))
    with broker:
        pass
    with pytest.raises(BrokerError, match="does not run"):
        broker.submit(broker.serve(peer))
    assert peer.given == -1
