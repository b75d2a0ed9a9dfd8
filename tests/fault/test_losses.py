"""A broker that drops what it has acknowledged: it is noticed, said, and made good by asking the clients."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridges import BridgeProcess
from tests.support.brokers import Shipped
from tests.support.checker import assert_true, read
from tests.support.crowd import CROWD, Crowd
from tests.support.playing import hello, wait_until_asked
from tests.support.postgres import query
from tests.support.said import Said, end_of, login_of, report_of
from tests.support.waiting import until

GONE, NEW = range(1_500), range(1_500, 2_500)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Shipped]:
    """Run a mosquitto with its own window of 20 and queue of 1,000, which tells of itself every second."""
    limits = {"max_inflight_messages 20000": None, "max_queued_messages 1000000": None}
    with Shipped(tmp_path / "mosquitto", "sys_interval 1", CROWD, limits) as broker:
        yield broker


@pytest.mark.parametrize("how", ["away", "held"])
def test_broker_drops_what_is_too_much(mosquitto: Shipped, sqlite_url: str, tmp_path: Path, how: str) -> None:
    """1,500 clients end and 1,000 others log in, while the bridge is away or cannot keep up, and 80 come and go:
    the broker keeps none of these logins, and not all wills. The bridge says so with the remedy, and asks. Who
    answers is there, who does not has ended, each has one record.
    """
    watched, said = mosquitto.recorder(), Said()
    with BridgeProcess(
        tmp_path / "log", broker=mosquitto.url, database=sqlite_url, confirm_within=3
    ) as bridge:
        hello(mosquitto)
        client = mosquitto.publisher("", "")
        client.publish_all(said.all(login_of(n, 500, announce=True) for n in GONE))
        # The count of a broker that has dropped nothing is what a later one is compared with.
        known = "SELECT 1 AS x FROM bridge WHERE name = 'losses' AND value NOT LIKE '-%'"
        until(lambda: query(sqlite_url, known), "the bridge knows the count")
        assert "has dropped" not in bridge.log()
        assert bridge.stop() == 0
        bridge.start()  # one that has asked because of a new session does not ask again within a minute
        with Crowd(mosquitto, said, seed=3) as crowd:
            crowd.wait_for_logins(100)
            if how == "away":
                assert bridge.stop() == 0
            else:
                bridge.signal(signal.SIGSTOP)
                # With MQTT 5 the bridge opens the window: so much is on its way before the queue fills.
                client.publish_all(said.all(report_of(n % 1_500, 500) for n in range(20_000)))
            client.publish_all(said.all(end_of(n, 500) for n in GONE))
            client.publish_all(said.all(login_of(n, 500, announce=True) for n in NEW))
            crowd.wait_for_logins(50)
            crowd.quiet()
            if how == "away":
                bridge.start()
            else:
                bridge.signal(signal.SIGCONT)
            bridge.wait_for_log("raise max_queued_messages")
            wait_until_asked(mosquitto, bridge)
            client.publish_all(login_of(n, 500, announce=True) for n in NEW)  # what they answer
            assert_true(mosquitto, sqlite_url, said, watched, forgetful=True)
        records = {r.connection_id: r for r in read(sqlite_url)[0]}
        ends = {records[f"id-{n}"].reason for n in GONE}
        assert ends == {"lost", "unconfirmed"}, "some wills came, some were lost"
        assert all(f"id-{n}" in records for n in NEW)
