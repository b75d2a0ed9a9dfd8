"""The reader of retained messages (mqtt_presence/client/retained_reader.py) on real brokers with rights."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_presence.client.connect_arguments import Endpoint, make_endpoint
from mqtt_presence.client.retained_reader import RetainedReader
from mqtt_presence.errors import BrokerError
from tests.support.brokers import BRIDGE_PASSWORD, BRIDGE_USER, PASSWORD, Embedded, Shipped
from tests.support.waiting import until

USERS = 1_500
QUIET_S = 0.3
MARKER = "bridge/state"


def endpoint(port: int, user: str = BRIDGE_USER, password: str = BRIDGE_PASSWORD) -> Endpoint:
    return make_endpoint(
        f"mqtt://127.0.0.1:{port}",
        user=user,
        password=password,
        client_id=None,
        keep_alive=30,
        ca_file=None,
        cert_file=None,
        key_file=None,
        reconnect_min=1.0,
        reconnect_max=1.0,
    )


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    """Run a mosquitto with the shipped rights and some retained statuses."""
    with Shipped(tmp_path_factory.mktemp("mosquitto"), users=("alice",)) as broker:
        bridge = broker.client(BRIDGE_USER, "filler", password=BRIDGE_PASSWORD)
        bridge.publish_all([(f"status/u{n}", b"%d" % n) for n in range(USERS)], retain=True)
        yield broker


@pytest.fixture
def reader(shipped: Shipped) -> Iterator[RetainedReader]:
    """Connect as the bridge."""
    with RetainedReader(endpoint(shipped.port), MARKER, 10.0) as connected:
        yield connected


def test_all_of_a_filter_are_read(reader: RetainedReader) -> None:
    """Each read returns every topic with its payload, repeatedly."""
    everything = {f"status/u{n}": b"%d" % n for n in range(USERS)}
    assert reader.read(["status/+"], quiet_s=1.0) == everything
    assert reader.read(["status/+"], quiet_s=1.0) == everything


def test_topics_are_read_after_a_filter(reader: RetainedReader) -> None:
    """Messages that answer an earlier question do not count as an answer."""
    reader.read(["status/+"], quiet_s=0.0)
    wanted = [f"status/u{n}" for n in range(0, USERS, 100)]
    found = reader.read([*wanted, "status/nobody"], quiet_s=QUIET_S)
    assert found == {topic: topic.removeprefix("status/u").encode() for topic in wanted}


def test_live_messages_are_no_retained_ones(shipped: Shipped, reader: RetainedReader) -> None:
    """Other users' statuses change while the reader waits."""
    bridge = shipped.client(BRIDGE_USER, "live", password=BRIDGE_PASSWORD)
    done = threading.Event()

    def publish() -> None:
        while not done.is_set():
            bridge.publish("status/live", b"now")

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        assert reader.read(["status/live"], quiet_s=QUIET_S) == {}
    finally:
        done.set()
        thread.join()


def test_published_and_cleared_messages_are_seen(reader: RetainedReader) -> None:
    """Publishing waits for the acknowledgement, clearing for the delivery."""
    topics = ["status/new1", "status/new2"]
    reader.publish((topic, b"x") for topic in topics)
    assert reader.read(topics, quiet_s=QUIET_S) == dict.fromkeys(topics, b"x")
    for topic in topics:
        reader.clear(topic)
    assert reader.read(topics, quiet_s=QUIET_S) == {}


def test_clearing_without_the_right_fails(shipped: Shipped, reader: RetainedReader) -> None:
    """Mosquitto acknowledges a forbidden message, but the status is still retained: an error."""
    alice = endpoint(shipped.port, "alice", PASSWORD)
    with (
        RetainedReader(alice, MARKER, 2.0) as hers,
        pytest.raises(BrokerError, match="does not let this user clear"),
    ):
        hers.clear("status/u1")
    assert reader.read(["status/u1"], quiet_s=QUIET_S) == {"status/u1": b"1"}


def test_denied_filters_are_named() -> None:
    """The embedded broker refuses a subscription without a right to it."""
    with Embedded() as broker, RetainedReader(endpoint(broker.port, "alice", ""), MARKER, 5.0) as hers:
        assert hers.read(["presence/+/+/login"], quiet_s=QUIET_S) == {}
        assert hers.read(["status/+"], quiet_s=QUIET_S) == {}
        assert hers.denied == ["presence/+/+/login"]


def test_refused_and_lost_connections_raise(tmp_path: Path) -> None:
    """The error has the reason, and the thread of the connection ends."""
    with Shipped(tmp_path / "mosquitto") as broker:
        wrong = RetainedReader(endpoint(broker.port, BRIDGE_USER, "wrong"), MARKER, 5.0)
        with pytest.raises(BrokerError, match="refuses us"), wrong:
            pass
        with RetainedReader(endpoint(broker.port), MARKER, 5.0) as lost:
            broker.kill()
            until(lambda: not lost._thread.is_alive(), "the connection ends")
            with pytest.raises(BrokerError, match="was lost"):
                lost.read(["status/+"], quiet_s=QUIET_S)
        broker.start()
    with pytest.raises(BrokerError, match="cannot be reached"), RetainedReader(endpoint(1), MARKER, 5.0):
        pass
