"""The judgements of `mqtt-presence check` on clusters; tests/integration/test_check_clusters.py runs the probes."""

import pytest

from mqtt_presence.mqtt.broker_nodes import parse_nodes
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.tools.check.cluster_probes import (
    Arrival,
    RetainedChange,
    judge_arrivals,
    judge_retained_everywhere,
)
from mqtt_presence.tools.check.cluster_session_probes import Move, judge_session, judge_takeover_of_sessions
from mqtt_presence.tools.check.config import client_at
from mqtt_presence.tools.check.findings import Finding, Verdict

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL


def takeover(**of_the_second: object) -> Finding:
    """Judge two moves, of which the second one has these traits."""
    move = Move("two", "one", present=True, arrived=3, after_s=0.2)
    return judge_takeover_of_sessions(
        [Move("one", "two", present=True, arrived=3), move._replace(**of_the_second)]
    )


def test_the_worst_takeover_counts() -> None:
    """A lost session or message is a failure; a message that cannot be recognised counts twice."""
    assert takeover().verdict is PASS
    assert "after 0.2 s, with packet id and DUP" in takeover().evidence
    found = takeover(changes=("under another packet id",))
    assert found.verdict is WARN
    assert found.evidence.endswith("after 0.2 s, under another packet id")
    assert "without a connectionId" in found.consequence
    assert takeover(after_s=10.1).verdict is WARN
    found = takeover(was_ended=False, changes=("under another packet id",))
    assert found.verdict is WARN
    assert found.evidence.endswith("the old connection stays open from two to one")
    found = takeover(arrived=2)
    assert (found.verdict, found.evidence) == (
        FAIL,
        "the session is present, and 2 of 3 messages come from two to one",
    )
    assert takeover(present=False, arrived=0).verdict is FAIL


def test_session_must_be_at_every_next_node() -> None:
    """The finding names the moves that lose it."""
    moves = [Move("one", "two", present=True, arrived=3), Move("two", "three", present=False, arrived=0)]
    found = judge_session(moves)
    assert (found.verdict, found.evidence) == (FAIL, "the session is not present from two to three")
    assert judge_session(moves[:1]).verdict is PASS


def test_message_must_arrive_from_all_to_all() -> None:
    """The finding has the slowest arrival, or the ways that lead nowhere."""
    arrivals = [Arrival("one", "two", 0.0), Arrival("two", "one", 0.25)]
    found = judge_arrivals("cluster-live", arrivals, "message", "lost")
    assert (found.verdict, found.evidence) == (
        PASS,
        "each message arrives at all nodes, the last one after 250 ms",
    )
    found = judge_arrivals("cluster-live", [*arrivals, Arrival("one", "three", None)], "message", "lost")
    assert (found.verdict, found.evidence) == (FAIL, "messages do not arrive from one to three")


CHANGES = ("published", "overwritten", "cleared")


@pytest.mark.parametrize("number", range(len(CHANGES)), ids=CHANGES)
def test_retained_statuses_must_follow_each_change(number: int) -> None:
    """A node may have the first status and miss its successor, or keep a cleared one."""
    fine = [RetainedChange(change, "one", (), 0.1) for change in CHANGES]
    assert judge_retained_everywhere(fine, 3).verdict is PASS
    wrong = RetainedChange(CHANGES[number], "one", ("two", "three"), 5.2)
    found = judge_retained_everywhere([*fine[:number], wrong], 3)
    assert (found.verdict, found.evidence) == (
        FAIL,
        f"{CHANGES[number]} at one, not so at two, three after 5 s",
    )


@pytest.mark.parametrize(
    ("client", "at_two"),
    [
        ("mqtt://alice:a@one", "mqtt://alice@two:1884"),  # the listener of the bridge
        ("mqtt://alice:a@two:1884", "mqtt://alice@two:1884"),
        ("mqtts://alice:a@one:8883", "mqtts://alice@two:8883"),
        ("wss://alice:a@balancer/mqtt", "wss://alice@two:443/mqtt"),
    ],
)
def test_client_reaches_each_node_by_its_own_listener(client: str, at_two: str) -> None:
    """Bridge and clients may use different ports; a load balancer hides the nodes from the client's URL."""
    nodes = parse_nodes("mqtt://bridge:b@one:1883,mqtt://two:1884")
    url = client_at(nodes[1], BrokerUrl.parse(client), nodes)
    assert (str(url), url.password) == (at_two, "a")
