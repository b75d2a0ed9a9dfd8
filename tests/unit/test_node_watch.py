"""Which nodes of a broker have died, by their answers; and the connections that ask them."""

import queue
import socket
import threading

import pytest

from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.link.node_connections import NodeAnswer, NodeConnections, NodeReport
from mqtt_presence.bridge.recovery.node_watch import GONE_S, NodeStates
from mqtt_presence.mqtt.broker_nodes import parse_nodes

UP, LOST, REFUSED, SILENT, DENIED = (
    NodeAnswer.UP,
    NodeAnswer.LOST,
    NodeAnswer.REFUSED,
    NodeAnswer.SILENT,
    NodeAnswer.DENIED,
)


@pytest.mark.parametrize(
    ("answers", "deaths"),
    [
        ([(UP, 0), (LOST, 1), (REFUSED, 1), (REFUSED, 2), (UP, 3)], 1),  # a crash, and its restart
        ([(UP, 0), (LOST, 1), (UP, 1)], 0),  # the network, or the node, closed one connection
        ([(UP, 0), (LOST, 1), (SILENT, 6), (UP, 12)], 0),  # the network was away for a while
        ([(UP, 0), (LOST, 1), (SILENT, 6), (SILENT, 6 + GONE_S), (SILENT, 60)], 1),  # a machine without power
        ([(UP, 0), (LOST, 1), (SILENT, 6), (SILENT, 11), (REFUSED, 16)], 1),  # a machine that boots
        ([(REFUSED, 0), (REFUSED, 9), (SILENT, 99)], 0),  # it was never seen
        ([(UP, 0), (LOST, 1), (REFUSED, 1), (UP, 2), (LOST, 3), (REFUSED, 3)], 2),
        ([(UP, 0), (LOST, 1), (SILENT, 2), (DENIED, 15), (SILENT, 25)], 0),  # it lives: it refuses the user
    ],
)
def test_deaths_of_a_node(answers: list[tuple[NodeAnswer, float]], deaths: int) -> None:
    """Each death is noticed once; a lost connection alone is none."""
    states = NodeStates(["one:1"])
    assert sum(states.died(NodeReport("one:1", answer, at)) for answer, at in answers) == deaths


def test_node_that_died_together_with_the_bridge() -> None:
    """The successor knows that the node was up; a node that is no longer listed is nobody's."""
    states = NodeStates(["one:1", "two:2"])
    states.restore(["one:1", "three:3"])
    assert states.died(NodeReport("one:1", REFUSED, 0))
    assert not states.died(NodeReport("two:2", REFUSED, 0))
    assert states.up == set()


def test_connections_report_a_broker_that_goes() -> None:
    """Up while it answers, lost when it closes the connection, refused when nobody listens."""
    reports: queue.Queue[NodeReport] = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        nodes = parse_nodes(f"mqtt://bridge@127.0.0.1:{port}")
        accepted: queue.Queue[tuple[socket.socket, bytes]] = queue.Queue()

        def accept() -> None:
            sock, _ = server.accept()
            packet = sock.recv(1000)
            sock.sendall(b"\x20\x02\x00\x00")
            accepted.put((sock, packet))

        threading.Thread(target=accept, daemon=True).start()
        watched = NodeConnections(LinkConfig(nodes, "bridge-1"), reports.put)
        sock, connect = accepted.get(timeout=10)
        assert reports.get(timeout=10).answer is UP
    sock.close()
    try:
        assert connect[9] & 0x02, "a clean session"
        assert b"bridge-1" not in connect
        assert reports.get(timeout=10).answer is LOST
        report = reports.get(timeout=10)
        assert (report.node, report.answer) == (f"127.0.0.1:{port}", REFUSED)
    finally:
        watched.close()
