"""A message's way from the socket to the commit enters no file of the bridge twice (docs/design.md)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_presence.bridge import intake, presence_messages
from mqtt_presence.errors import PayloadError
from tests.support.message_walk import Walk, WalkedBridge

USER, CLIENT = "walker", "walkers-phone"
LOGIN = f"presence/{USER}/{CLIENT}/login"
LOG = "$SYS/broker/log/N"
NAMED = b'{"connectionId": "c1"}'
CONNECTED = (
    f"1800000000: New client connected from 192.0.2.7:4711 as {CLIENT} (p2, c0, k60, u'{USER}').".encode()
)


@pytest.fixture
def bridge(sqlite_url: str) -> Iterator[WalkedBridge]:
    walked = WalkedBridge(sqlite_url, source="mosquitto")
    walked.send(LOG, CONNECTED)
    walked.send(LOGIN, NAMED)
    yield walked
    walked.close()


BRANCHES: dict[str, tuple[str, bytes, bool, bool, str]] = {
    # topic, payload, retain flag, DUP flag, and a file of the bridge by which the message must come
    "login": (LOGIN, b'{"connectionId": "c2"}', False, False, "committer"),
    "login without a connection id": (LOGIN, b"{}", False, False, "packet_id_journal"),
    "redelivered login": (LOGIN, NAMED, False, True, "committer"),
    "heartbeat": (f"presence/{USER}/{CLIENT}/activity", NAMED, False, False, "committer"),
    "will": (f"presence/{USER}/{CLIENT}/will", NAMED, False, False, "committer"),
    "logout": (f"presence/{USER}/{CLIENT}/logout", NAMED, False, False, "committer"),
    "report of a connection": (LOG, CONNECTED.replace(b"4711", b"4712"), False, False, "new_connections"),
    "report of an end": (
        LOG,
        f"1800000000: Client {CLIENT} disconnected.".encode(),
        False,
        False,
        "committer",
    ),
    "report of the broker itself": (
        "$SYS/broker/uptime",
        f"7 seconds {USER}".encode(),
        False,
        False,
        "recovery/broker_losses",
    ),
    "retained status": (f"status/{USER}", b'{"version": 1}', True, False, "recovery/retained_statuses"),
    "time request": (f"presence/{USER}/{CLIENT}/time", b'{"t0": 1}', False, False, "link/link"),
    "refused payload": (LOGIN, b"{", False, False, "counters"),
    "refused retain flag": (LOGIN, NAMED, True, False, "counters"),
    "refused topic": (f"presence/{USER}/{CLIENT}/dance", NAMED, False, False, "counters"),
}


def walk_of(bridge: WalkedBridge, branch: str) -> Walk:
    topic, payload, retain, dup, _ = BRANCHES[branch]
    return bridge.walk(USER, topic, payload, retain=retain, dup=dup)


@pytest.mark.parametrize("branch", BRANCHES)
def test_no_file_of_the_bridge_is_entered_twice(bridge: WalkedBridge, branch: str) -> None:
    """A reader who follows a message never comes back to a file that he has left."""
    walk = walk_of(bridge, branch)
    assert walk.of("bridge/")[:3] == ["link/batch_client", "link/arrivals", "loop"]
    assert BRANCHES[branch][-1] in walk.of("bridge/")
    assert walk.returns("bridge/") == []


@pytest.mark.parametrize("branch", ["login", "will", "report of an end"])
def test_store_loads_once_and_saves_once(bridge: WalkedBridge, branch: str) -> None:
    """The rules stand between the two, each in a file of its own."""
    stays = walk_of(bridge, branch).stays
    halves = [stay for stay in stays if stay in ("store/loading", "rules/fold", "store/transaction")]
    assert halves == ["store/loading", "rules/fold", "store/transaction"]


def test_settled_heartbeat_needs_one_read(bridge: WalkedBridge) -> None:
    """The rules for the whole user are not asked."""
    walk_of(bridge, "heartbeat")
    stays = walk_of(bridge, "heartbeat").stays
    assert stays.count("store/loading") == stays.count("store/transaction") == 1
    assert "rules/fold" not in stays


def test_return_is_found(bridge: WalkedBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk sees a file that calls back."""

    def parse(name: object, *_: object) -> None:
        intake._is_handled(None, name, ())  # type: ignore[arg-type]
        raise PayloadError("bad_payload", "a test")

    monkeypatch.setattr(presence_messages, "parse", parse)
    assert walk_of(bridge, "login").returns("bridge/") == ["intake"]


def test_design_lists_the_way_of_a_login(bridge: WalkedBridge) -> None:
    """The table in docs/design.md has the files of the bridge as they were measured."""
    text = (Path(__file__).parents[2] / "docs/design.md").read_text()
    section = text.split("### A login's way")[1].split("\n### ")[0]
    listed = re.findall(r"^\| \d+ \| `([\w/]+)`", section, re.MULTILINE)
    assert listed == walk_of(bridge, "login").of("bridge/")
