"""The nodes of a broker in one setting, and the order in which the bridge's link tries them."""

import pytest

from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.link.connecting import Connecting
from mqtt_presence.bridge.link.node_round import NodeRound
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.broker_nodes import MOST_NODES, beginning_at, parse_nodes
from mqtt_presence.mqtt.return_codes import NOT_AUTHORIZED, TAKEN_OVER

SECRET = "5ecret"


def test_nodes_share_the_credentials_of_the_first() -> None:
    """User and password are written once; scheme, port and path are each node's own."""
    nodes = parse_nodes(f"ws://bridge:{SECRET}@one:1/a, ws://two:2/b,ws://bridge:{SECRET}@three")
    assert [(n.host, n.port, n.path) for n in nodes] == [
        ("one", 1, "/a"),
        ("two", 2, "/b"),
        ("three", 80, "/mqtt"),
    ]
    assert {(n.username, n.password) for n in nodes} == {("bridge", SECRET)}


def test_one_url_may_have_a_comma_in_its_password() -> None:
    """A URL that was valid before there were lists stays valid."""
    (node,) = parse_nodes("mqtt://bridge:a,b@one")
    assert node.password == "a,b"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("mqtt://one,mqtts://two", "must all begin with mqtt://"),
        (f"mqtt://a:{SECRET}@one,mqtt://b:{SECRET}@two", "different users or passwords"),
        (f"mqtt://one,mqtt://b:{SECRET}@two", "different users or passwords"),
        (f"mqtt://a:{SECRET}@one,mqtt://a@two", "different users or passwords"),
        ("mqtt://one:1,mqtt://two:1,mqtt://one:1", "name one:1 twice"),
        ("mqtt://one,two", "has a comma"),
        ("mqtt://one,", "has a comma"),
        ("mqtt://one,,mqtt://two", "has a comma"),
        ("mqtt://one,mqtt://", "has no host"),
        (",".join(f"mqtt://n{i}" for i in range(MOST_NODES + 1)), "32 at most"),
    ],
)  # fmt: skip
def test_wrong_lists_are_refused(text: str, error: str) -> None:
    """The message names the fault, and never the password."""
    with pytest.raises(ConfigError, match=error) as raised:
        parse_nodes(text)
    assert SECRET not in str(raised.value)


def test_each_seat_begins_at_another_node() -> None:
    """Seats spread over the nodes, and each of them tries all."""
    nodes = parse_nodes("mqtt://a,mqtt://b,mqtt://c")
    orders = ["".join(n.host for n in beginning_at(nodes, seat)) for seat in range(4)]
    assert orders == ["abc", "bca", "cab", "abc"]


def test_round_ends_when_each_node_has_failed() -> None:
    """The delay comes once for all nodes; a connection begins a new round."""
    nodes = NodeRound(parse_nodes("mqtt://a,mqtt://b,mqtt://c"))
    assert [nodes.next() for _ in range(6)] == [False, False, True, False, False, True]
    nodes.next()
    nodes.connected()
    assert (nodes.node.host, [nodes.next() for _ in range(3)]) == ("b", [False, False, True])


def _connecting(nodes: str = "mqtt://127.0.0.1:1,mqtt://127.0.0.1:2") -> Connecting:
    return Connecting(LinkConfig(parse_nodes(nodes), "bridge-1", mqtt5=False))


def test_link_goes_on_at_once_to_the_next_node() -> None:
    """One dead node costs no delay; after all of them the delays begin."""
    connecting = _connecting()
    connecting.connect(connecting.make_client(**_callbacks()))
    assert connecting.wait_s <= 0
    connecting.connect(connecting.make_client(**_callbacks()))
    assert connecting.wait_s > 0


def test_link_delays_after_a_short_connection() -> None:
    """Two bridges with one client id do not take the session from each other in a tight loop."""
    connecting = _connecting()
    assert connecting.accepted(session_present=True)
    connecting.connection_ended(0)
    assert connecting.wait_s > 0


@pytest.mark.parametrize(
    ("nodes", "reason", "is_named"),
    [
        ("mqtt://127.0.0.1:1,mqtt://127.0.0.1:2", 0, True),
        ("mqtt://127.0.0.1:1,mqtt://127.0.0.1:2", TAKEN_OVER, False),
        ("mqtt://127.0.0.1:1", 0, False),
    ],
)
def test_log_names_an_election_of_a_cluster(
    nodes: str, reason: int, is_named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A NATS node without a leader closes connections: the warning must not accuse a second bridge only."""
    connecting = _connecting(nodes)
    for _ in range(2):
        assert connecting.accepted(session_present=True)
        connecting.connection_ended(reason)
    assert "does somebody else" in caplog.messages[-1]
    assert ("elect a leader" in caplog.messages[-1]) == is_named


def test_refusals_are_final_when_all_nodes_refuse() -> None:
    """A node whose accounts are not loaded yet does not end the bridge while another may accept it."""
    connecting = _connecting()
    connecting.refused(NOT_AUTHORIZED)
    assert connecting.attempt_ended()
    assert connecting.fatal is None
    connecting.connect(connecting.make_client(**_callbacks()))  # the other node cannot be reached
    connecting.connect(connecting.make_client(**_callbacks()))  # nor the first one
    assert connecting.fatal is None
    for _ in range(2):
        connecting._refusal = NOT_AUTHORIZED
        connecting.attempt_ended()
    assert connecting.fatal is not None


def _callbacks() -> dict:
    def nothing(*_: object) -> None: ...

    return {
        "receive_publish": nothing,
        "receive_puback": nothing,
        "receive_large": nothing,
        "max_packet": 100,
    }
