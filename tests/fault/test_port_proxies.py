"""Port proxies that close connections before the broker has answered: what the bridge concludes from it."""

from pathlib import Path

import pytest

from mqtt_presence.bridge.link import config, subscriptions
from mqtt_presence.bridge.link.link import Link
from tests.support.bridges import BridgeThread
from tests.support.brokers import BRIDGE_PASSWORD, Embedded, Shipped
from tests.support.checker import read
from tests.support.playing import settle
from tests.support.port_proxy import PortProxy
from tests.support.waiting import until


@pytest.fixture
def broker(tmp_path: Path):
    """Run a mosquitto that reports its connections, for a user with a connection of its own."""
    with Shipped(tmp_path / "broker", users=["alice"]) as started:
        yield started


def url_of(proxy: PortProxy) -> str:
    return f"mqtt://bridge:{BRIDGE_PASSWORD}@127.0.0.1:{proxy.port}"


def link_of(house: BridgeThread) -> Link:
    return house.links[-1]


def assert_alice_has_an_address(broker: Shipped, database: str) -> None:
    """Log alice in; the broker's report of her connection is in her record."""
    recorder = broker.recorder()
    with broker.client("alice", "phone") as alice:
        alice.publish("presence/alice/phone/login")
        settle(broker, recorder, "address")
        (record,) = [r for r in read(database)[0] if r.user_id == "alice"]
        assert record.ip_addr == "127.0.0.1"


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_connections_closed_at_the_start_do_not_cost_mqtt_5(
    broker: Shipped, sqlite_url: str, count: int
) -> None:
    """The proxy was there before the broker: what the broker can do is known only when it answers."""
    with (
        PortProxy(broker.port, closes=lambda number: number < count) as proxy,
        BridgeThread(broker=url_of(proxy), database=sqlite_url) as house,
    ):
        assert link_of(house).is_mqtt5
        assert link_of(house).receive_window == config.RECEIVE_MAXIMUM
        assert_alice_has_an_address(broker, sqlite_url)


def test_mqtt_5_is_tried_again_at_the_next_connection(
    broker: Shipped, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever made the bridge fall back, it lasts for one connection, and the log says what is missing."""
    with (
        PortProxy(broker.port, closes={0, 2}.__contains__) as proxy,
        BridgeThread(broker=url_of(proxy), database=sqlite_url) as house,
    ):
        link = link_of(house)
        assert not link.is_mqtt5
        (warning,) = [r for r in caplog.records if "does not accept MQTT 5" in r.message]
        assert warning.levelname == "WARNING"
        proxy.cut()
        until(lambda: link.is_connected and link.is_mqtt5, "MQTT 5 is back")
        assert_alice_has_an_address(broker, sqlite_url)


def test_broker_of_mqtt_3_1_1_is_asked_for_mqtt_5_at_each_connection(sqlite_url: str) -> None:
    """A broker that is replaced by a newer one is known at the next connection."""
    with (
        Embedded() as old,
        PortProxy(old.port) as proxy,
        BridgeThread(broker=url_of(proxy), database=sqlite_url) as house,
    ):
        link, before = link_of(house), proxy.accepted
        assert not link.is_mqtt5
        proxy.cut()
        until(lambda: proxy.accepted >= 2 * before and link.is_connected, "the same attempts again")
        assert not link.is_mqtt5


def test_session_that_a_probe_found_lost_is_reported(broker: Shipped, sqlite_url: str) -> None:
    """The probe makes a session: the connection after it finds one, and clients must log in again all the same."""
    with BridgeThread(broker=broker.url, database=sqlite_url):
        pass
    broker.lose_everything()
    recorder = broker.recorder("bridge/announce")
    with (
        PortProxy(broker.port, closes=lambda number: number < 1) as proxy,
        BridgeThread(broker=url_of(proxy), database=sqlite_url) as house,
    ):
        recorder.wait_for(lambda: recorder.on("bridge/announce"), "the announcement")
        assert link_of(house).is_mqtt5


def test_reports_of_the_broker_are_asked_for_again_on_the_same_connection(
    broker: Shipped,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A network that fails during the subscription to the broker's log costs addresses for a while, not for ever."""
    monkeypatch.setattr(subscriptions, "_RETRY_S", 2.0)
    asked: list[bytes] = []

    def fails(chunk: bytes) -> bool:
        if b"$SYS/broker/log/N" not in chunk:
            return False
        asked.append(chunk)
        return len(asked) == 1

    with (
        PortProxy(broker.port, cuts=fails) as proxy,
        BridgeThread(broker=url_of(proxy), database=sqlite_url) as house,
    ):
        link = link_of(house)
        until(lambda: proxy.accepted == 2 and link.is_connected, "the bridge is back")
        until(lambda: len(asked) == 2, "the broker is asked again")
        assert "before the broker answered the subscription to $SYS/broker/log" in caplog.text
        assert_alice_has_an_address(broker, sqlite_url)
        assert proxy.accepted == 2
