"""`mqtt-presence check` with several nodes: two listeners of one mosquitto, and two that know nothing of each other."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mqtt_presence.cli.app import app
from mqtt_presence.tools.check import cluster_probes, runner
from tests.embedded.raw_client import RawClient
from tests.support.brokers import BRIDGE_PASSWORD, Mosquitto
from tests.support.waiting import free_port

USERS = {"bridge": BRIDGE_PASSWORD, "alice": "a"}
OF_NODES = ("nodes", *(name for name in runner.NAMES if name.startswith("cluster-")))


def check(*ports: int, only: tuple[str, ...] = OF_NODES, password: str = "a") -> tuple[int, dict[str, Any]]:
    """Run the command with one node for each port; the client is at the first."""
    nodes = ",".join(
        [
            f"mqtt://bridge:{BRIDGE_PASSWORD}@127.0.0.1:{ports[0]}",
            *(f"mqtt://127.0.0.1:{p}" for p in ports[1:]),
        ]
    )
    arguments = ["check", "--broker", nodes, "--client", f"mqtt://alice:{password}@127.0.0.1:{ports[0]}"]
    run = CliRunner().invoke(app, [*arguments, "--json", *(f"--only={name}" for name in only)])
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    assert run.stderr == ""
    return run.exit_code, {f["check"]: f for f in map(json.loads, run.stdout.splitlines())}


@pytest.fixture
def separate(tmp_path: Path) -> Iterator[list[Mosquitto]]:
    """Run two brokers that are no cluster; the first has a second listener."""
    with ExitStack() as all_of_them:
        yield [
            all_of_them.enter_context(
                Mosquitto(tmp_path / "one", f"listener {free_port()} 127.0.0.1", USERS)
            ),
            all_of_them.enter_context(Mosquitto(tmp_path / "two", "", USERS)),
        ]


def second_port(broker: Mosquitto) -> int:
    """Return the port of the second listener."""
    config = (broker.directory / "mosquitto.conf").read_text()
    return int(config.rpartition("listener ")[2].split()[0])


def test_two_listeners_of_one_broker_pass(separate: list[Mosquitto]) -> None:
    """Each of them has the messages, sessions, wills and retained messages of the other."""
    code, found = check(separate[0].port, second_port(separate[0]))
    assert code == 0
    assert {name: finding["verdict"] for name, finding in found.items() if name in OF_NODES} == dict.fromkeys(
        OF_NODES, "pass"
    ), found
    assert found["nodes"]["evidence"].startswith("2 accept bridge and client: 127.0.0.1:")
    assert found["cluster-takeover"]["evidence"].endswith(
        "with packet id and DUP; the old connection is ended"
    )


def test_brokers_that_are_no_cluster_fail_everywhere(
    separate: list[Mosquitto], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each probe has a failure of its own, with consequence and remedy; no message stays at any node."""
    monkeypatch.setattr(cluster_probes, "WAIT_S", 0.2)
    one, two = (broker.port for broker in separate)
    code, found = check(one, two)
    assert code == 1
    assert {name for name, finding in found.items() if finding["verdict"] == "fail"} == set(OF_NODES[1:])
    here, there = f"127.0.0.1:{one}", f"127.0.0.1:{two}"
    both = f"from {here} to {there}, {{}}{there} to {here}"
    for name, words in {
        "cluster-live": f"messages do not arrive {both.format('')}",
        "cluster-will": f"wills do not arrive {both.format('')}",
        "cluster-retained": f"published at {here}, not so at {there} after 0 s",
        "cluster-session": f"the session is not present {both.format('from ')}",
        "cluster-takeover": f"the session is not present {both.format('from ')}",
    }.items():
        assert found[name]["evidence"] == words
        assert found[name]["consequence"]
        assert "mosquitto has no cluster" in found[name]["remedy"]
    for broker in separate:
        client = RawClient(broker.port)
        client.connect("bridge", "looks-for-what-is-left", password=BRIDGE_PASSWORD)
        client.subscribe("status/#")
        assert [packet.topic for packet in client.ping() if packet.kind == 3] == []
        client.disconnect()


def test_node_that_refuses_is_named(separate: list[Mosquitto]) -> None:
    """The other nodes are compared all the same, if there are two."""
    silent = free_port()
    code, found = check(separate[0].port, silent, only=("nodes", "cluster-live"))
    assert code == 1
    assert f"127.0.0.1:{silent} cannot be reached" in found["nodes"]["evidence"]
    assert found["cluster-live"]["evidence"] == "not tried: see nodes"
    code, found = check(
        separate[0].port, silent, second_port(separate[0]), only=("nodes", "cluster-live", "cluster-will")
    )
    assert code == 1
    assert {found[name]["verdict"] for name in ("cluster-live", "cluster-will")} == {"pass"}


def test_one_node_is_no_cluster(separate: list[Mosquitto]) -> None:
    """The probes of clusters are left out, and not tried if they are asked for."""
    code, found = check(separate[0].port, only=("nodes", "cluster-session"))
    assert code == 0
    assert {found[name]["evidence"] for name in ("cluster-session",)} == {"not tried: broker names one node"}
    assert found["nodes"]["verdict"] == "note"
    assert not any(probe.is_of_cluster for probe in runner.choose([]))
    assert runner.choose([], is_cluster=True) == runner.PROBES
