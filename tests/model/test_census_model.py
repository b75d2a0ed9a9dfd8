"""The census beside a full count: after any life of the users both have the same numbers."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.bridge.monitoring.metric import Metric
from mqtt_presence.rules.model import RuleSettings, State
from mqtt_presence.store import Store
from tests.support.held_bridge import HeldBridge
from tests.support.postgres import query

USERS = ["alice", "bob", "carol"]
CLIENTS = ["phone", "tablet"]


def counted(bridge: HeldBridge) -> tuple[dict[str, int], int, int]:
    """Count by plain SQL, without the shortcuts of `presence_totals`."""
    users = {state.value: 0 for state in State}
    for row in query(bridge.database, "SELECT state FROM users"):
        users[row["state"]] += 1
    live = query(bridge.database, "SELECT idle FROM connections WHERE live")
    return users, len(live), sum(1 for row in live if row["idle"])


def shown(bridge: HeldBridge) -> tuple[dict[str, int], int, int]:
    """Read the metrics."""
    values = {m.name: m.values for m in bridge.parts.census.metrics() if isinstance(m, Metric)}
    connections = values["connections"]
    users = {state: int(count) for (state,), count in values["users"].items()}
    return users, int(sum(connections.values())), int(connections["idle",])


def message(choose: random.Random) -> tuple[str, dict[str, Any]]:
    """Make a message of somebody, sensible or not."""
    user, client = choose.choice(USERS), choose.choice(CLIENTS)
    verb = choose.choice(["login", "login", "activity", "activity", "activity", "logout", "will"])
    payload: dict[str, Any] = {}
    if choose.random() < 0.8:
        payload["connectionId"] = f"{client}-{choose.randrange(4)}"
    if verb == "activity" and choose.random() < 0.7:
        payload["idle"] = choose.random() < 0.6
    if verb == "login":
        payload |= choose.choice([{}, {"timeout": 20}, {"idleThreshold": 5}, {"timeout": 8}])
    return f"presence/{user}/{client}/{verb}", payload


@pytest.mark.parametrize("seed", range(6))
def test_census_is_a_full_count(seed: int, tmp_path: Path) -> None:
    """Logins, ends, idleness, deadlines, graces, forgotten users and restarts."""
    choose = random.Random(seed)
    rules = RuleSettings(idle_threshold_ms=6_000, grace_ms=choose.choice([0, 4_000]))
    bridge = HeldBridge(f"sqlite:///{tmp_path / 'presence.db'}", rules=rules)
    bridge.connect()
    seen: Counter[str] = Counter()
    for _ in range(70):
        bridge.step(bridge.messages(*(message(choose) for _ in range(choose.randrange(1, 6)))))
        bridge.step(seconds=choose.choice([0.5, 3.0]))
        bridge.check()
        if choose.random() < 0.1:
            other = Store(bridge.database)  # as the command `forget` does
            other.forget(choose.choice(USERS))  # type: ignore[arg-type]
            other.close()
            bridge.step(seconds=10)  # by then the census has learned of it
            bridge.check()
        elif choose.random() < 0.1:
            bridge.start()
            bridge.connect()
        assert shown(bridge) == counted(bridge)
        seen.update({state for state, count in shown(bridge)[0].items() if count})
    assert set(seen) == {"online", "idle", "offline"}
    bridge.store.close()
