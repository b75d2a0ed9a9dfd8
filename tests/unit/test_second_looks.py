"""When a cluster's node is asked again for a status that it does not show."""

from collections.abc import Iterator

import pytest

from mqtt_presence.bridge.recovery.second_looks import SecondLooks
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.store import Store
from tests.support.held_bridge import parts_on
from tests.unit.test_link import Ends
from tests.unit.test_retained_statuses import ALICE


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.link.close()
    made.sock.close()


def test_cluster_is_asked_for_two_minutes() -> None:
    """Five looks after the first, then the status counts as lost."""
    looks, now = SecondLooks(is_cluster=True), 0.0
    looks.begin(session_present=True)
    waited = []
    while looks.missed(now):
        began = now
        while not looks.is_due(now):
            now += 1
        waited.append(now - began)
    assert waited == [5, 10, 20, 40, 80]
    assert not looks.is_pending


@pytest.mark.parametrize(("is_cluster", "session_present"), [(False, True), (True, False)])
def test_first_look_decides(is_cluster: bool, session_present: bool) -> None:
    """At one broker, and where the session is lost, so that more may be lost."""
    looks = SecondLooks(is_cluster=is_cluster)
    looks.begin(session_present=session_present)
    assert not looks.missed(0.0)


@pytest.mark.parametrize("is_cluster", [True, False])
def test_missing_witness_of_a_cluster_is_no_loss_yet(sqlite_url: str, ends: Ends, is_cluster: bool) -> None:
    """Nobody is asked to log in again, and nothing is published again, before the last look."""
    store = Store(sqlite_url)
    store.open()
    retained = parts_on(store).retained
    retained._looks = SecondLooks(is_cluster=is_cluster)
    with store.transaction() as tx:
        retained.restore(tx)
        tx.write_value("probe", None)
    retained._witness = ALICE
    retained.connected(ends.link, session_present=True, contested=False)
    without = Incoming("bridge/state", b"{}", 1, retain=True, dup=False, mid=1, epoch=1)
    assert retained.handle(ends.link, without)
    assert retained.has_news_of_a_loss() != is_cluster
    assert retained._looks.is_pending == is_cluster
    assert not retained.is_complete
    retained.disconnected()
    assert not retained._looks.is_pending
    store.close()
