"""The metrics of a bridge: their number, their labels, and their cost for a million users."""

import re
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.bridge import counters
from mqtt_presence.bridge.monitoring.census import NO_CAUSE
from mqtt_presence.bridge.monitoring.metric import Histogram, Metric
from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.errors import PayloadError
from mqtt_presence.rules.model import Cause, Reason
from mqtt_presence.store import Store
from mqtt_presence.web.exposition import Exposition
from tests.support.held_bridge import HeldBridge
from tests.support.monitored import read_series
from tests.support.postgres import cursor

ROOT = Path(__file__).parents[2]
MILLION = 1_000_000


class Queue:
    """Another part with a metric of its own."""

    def metrics(self) -> list[Metric]:
        return [Metric("queue", "What waits.", is_counter=False, labels=("name",), values={("ops",): 7})]


def monitored(directory: Path) -> tuple[HeldBridge, Monitor]:
    bridge = HeldBridge(f"sqlite:///{directory / 'presence.db'}")
    monitor = Monitor()
    monitor.watch(bridge.loop.request, bridge.parts.vitals, bridge.parts.census, bridge.parts.counters)
    return bridge, monitor


def written(monitor: Monitor) -> str:
    return Exposition(monitor).write("")[0].decode()


def test_series_are_few_whatever_happens(tmp_path: Path) -> None:
    """With every reason, cause and refusal there is, a scrape has fewer than 200 series."""
    bridge, monitor = monitored(tmp_path)
    bridge.connect()
    bridge.step(bridge.messages(("presence/alice/phone/login", {})))
    for reason, cause in product(Reason, (NO_CAUSE, *Cause)):
        bridge.parts.census._ends[reason.value, cause] += 1
    series = read_series(written(monitor))
    assert {name for name, _ in series} > {
        "mqtt_presence_users",
        "mqtt_presence_last_message_timestamp_seconds",
    }
    assert len(series) < 200
    bridge.store.close()


def test_no_label_names_a_user(tmp_path: Path) -> None:
    """Names of users, clients and connections are in no text of the metrics."""
    bridge, monitor = monitored(tmp_path)
    bridge.connect()
    login = ("presence/some-user/some-client/login", {"connectionId": "some-id"})
    bridge.step(bridge.messages(login, ("presence/some-user/some-client/nonsense", {"x": "some-id"})))
    text = written(monitor)
    assert 'verb="login"' in text
    assert "some-" not in text
    bridge.store.close()


def test_other_parts_add_their_metrics(tmp_path: Path) -> None:
    """A part needs nothing but a list of values."""
    bridge, monitor = monitored(tmp_path)
    monitor.add(Queue())
    assert read_series(written(monitor))["mqtt_presence_queue", (("name", "ops"),)] == 7
    bridge.store.close()


def test_histogram_counts_a_bound_in_its_own_bucket() -> None:
    """`le` means less than or equal."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 14.0


def test_reasons_of_refusals_are_complete() -> None:
    """Each reason in the code and in the protocol is shown from the start, so that its first increase is seen."""
    table = (ROOT / "docs/protocol.md").read_text().split("| reason | condition |")[1].split("\n\n")[0]
    documented = {
        word
        for row in table.splitlines()
        for word in re.findall(r"`(\w+)`", row.split("|")[1:2][0] if row else "")
    }
    raised = set()
    for path in (ROOT / "mqtt_presence").rglob("*.py"):
        if path.parts[-2] not in {"client", "check"}:
            raised |= set(re.findall(r'(?:PayloadError|refuse)\(\s*"(\w+)"', path.read_text()))
    assert documented | raised | {"unprocessable"} == set(counters.REASONS)
    assert PayloadError("bad_topic", "").reason in counters.REASONS


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a database of a million users, half of them online."""
    url = f"sqlite:///{tmp_path_factory.mktemp('million') / 'presence.db'}"
    store = Store(url)
    store.open()
    store.close()
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MILLION})"
    with cursor(url) as cur:
        cur.execute("PRAGMA synchronous = off")
        cur.execute(
            f"{numbers} INSERT INTO user_states (user_id, state, online, connections, version) SELECT "
            "printf('user-%07d', i), CASE i % 4 WHEN 0 THEN 'idle' WHEN 1 THEN 'online' ELSE 'offline' END, "
            "i % 4 < 2, i % 4 < 2, 1 FROM n"
        )
    return url


def test_scrape_of_a_million_users_is_quick(million: str, tmp_path: Path) -> None:
    """A scrape reads numbers that are kept, and no table: 50 ms are far more than it takes."""
    bridge = HeldBridge(million)
    monitor = Monitor()
    monitor.watch(bridge.loop.request, bridge.parts.vitals, bridge.parts.census, bridge.parts.counters)
    exposition = Exposition(monitor)
    took_s: list[float] = []
    text = b""
    for _ in range(5):
        began_s = time.perf_counter()
        text, _ = exposition.write("")
        took_s.append(time.perf_counter() - began_s)
    assert min(took_s) < 0.05
    users: dict[Any, float] = {
        dict(labels)["state"]: value
        for (name, labels), value in read_series(text.decode()).items()
        if name == "mqtt_presence_users"
    }
    assert users == {"online": MILLION / 4, "idle": MILLION / 4, "offline": MILLION / 2}
    bridge.store.close()
