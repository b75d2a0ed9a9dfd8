"""mosquitto's dynamic-security plugin as a list: recorded answers of 2.1, and the real plugin of 2.0."""

import json
import logging
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.adapters.brokers.dynamic_security import ANSWERS, QUESTIONS
from mqtt_presence.adapters.brokers.mosquitto import NOTICES, VERSION
from mqtt_presence.bridge.config import Implicit
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.recovery.plugin_list import AGAIN_S
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.mqtt.url import BrokerUrl
from tests.support.bridges import BridgeThread
from tests.support.brokers import BRIDGE_PASSWORD, Mosquitto
from tests.support.held_bridge import INPUTS, HeldBridge, HeldLink
from tests.support.postgres import query
from tests.support.waiting import until


class AskingLink(HeldLink):
    """Records the questions and the topic filters of the moment; keeps retained statuses, as a broker does."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[list[dict[str, str]]] = []
        self.filters: set[str] = set()
        self.retained: dict[str, bytes] = {}

    def publish(self, messages: Iterable[Outgoing]) -> None:
        sent = [*messages]
        self.questions += [json.loads(m.payload)["commands"] for m in sent if m.topic == QUESTIONS]
        self.retained |= {m.topic: m.payload for m in sent if m.retain}
        super().publish(sent)

    def subscribe(self, topic_filter: str, *_: Any, **__: Any) -> None:  # type: ignore[override]
        self.filters.add(topic_filter)
        kept = self.retained.get(topic_filter)
        if kept is not None:
            self.coming.append(Arrivals(messages=[Incoming(topic_filter, kept, 0, True, False, 0, 1)]))

    def unsubscribe(self, topic_filter: str) -> None:  # type: ignore[override]
        self.filters.discard(topic_filter)


class Scene:
    """A held bridge beside a mosquitto 2.1 with the plugin.

    Args:
        database: its URL.
        mode: the setting `implicit`.

    """

    def __init__(self, database: str, mode: str = "username") -> None:
        self.database = database
        self.link = AskingLink()
        self.held = HeldBridge(database, link=self.link)
        url = BrokerUrl.parse("mqtt://bridge@127.0.0.1:1883")
        self.held.start(
            link=lambda client_id: LinkConfig((url,), client_id, 30),
            source="mosquitto",
            implicit=Implicit(mode, asks_plugin=True),
        )
        self.held.connect()
        self._mid = 0
        self.arrive((VERSION, b"mosquitto version 2.1.2"))

    def arrive(self, *messages: tuple[str, bytes], oversize: int = 0) -> None:
        arrivals = Arrivals()
        for topic, payload in messages:
            self._mid += 1
            arrivals.messages.append(Incoming(topic, payload, 1, False, False, self._mid, 1, oversize))
        self.held.step(arrivals)
        self.held.step()

    def connects(self, *clients: tuple[str, str, str]) -> None:
        """Report connects: user, client and address."""
        lines = [
            f"1800000000: New client connected from {address}:5{number} as {client} (p2, c1, k60, u'{user}')."
            for number, (user, client, address) in enumerate(clients)
        ]
        self.arrive(*((NOTICES, line.encode()) for line in lines))
        self.held.step(seconds=2)
        self.held.step()

    def lose(self) -> None:
        """Have the bridge come back after a minute."""
        self.held.step(Arrivals(connected=True, session_present=True, subscribed=[INPUTS]), seconds=60)
        self.held.step(seconds=3)
        self.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass without a pause of the bridge, in which it would miss reports."""
        for _ in range(int(seconds / 10)):
            self.held.step(seconds=10)
        self.settle()

    def settle(self) -> None:
        for _ in range(4):
            self.held.check()

    def answer(self, responses: dict[str, dict[str, Any]]) -> list[str]:
        """Answer the latest question, and return its users."""
        asked = self.link.questions[-1]
        found = []
        for command in asked:
            client = responses.get(command["username"])
            about = {"error": "Client not found"} if client is None else {"data": {"client": client}}
            found.append({"command": "getClient", "correlationData": command["correlationData"]} | about)
        self.arrive((ANSWERS, json.dumps({"responses": found}).encode()))
        self.settle()
        return [command["username"] for command in asked]

    def states(self) -> dict[str, str]:
        """Return each record's reason, or `?` for an open one in doubt, or `open`."""
        rows = query(self.database, "SELECT * FROM connections ORDER BY id")
        return {r["client_id"]: r["reason"] or ("?" if r["unconfirmed_since"] else "open") for r in rows}


def sessions(user: str, *addresses: str | None, **fields: Any) -> dict[str, Any]:
    """A client as 2.1 has it; no address: a session that waits since a restart of the broker."""
    listed = [{} if address is None else {"address": address} for address in addresses]
    return {"username": user, "roles": [], "groups": [], "connections": listed} | fields


def test_ends_that_the_list_proves(sqlite_url: str) -> None:
    """A user without a session has left, and so has a client whose address is not listed. All others stay in doubt,
    since a listed session may wait for an absent client.
    """
    scene = Scene(sqlite_url)
    scene.connects(
        ("alice", "a1", "192.0.2.1"),
        ("bob", "b1", "192.0.2.2"),
        ("carol", "c1", "192.0.2.3"),
        ("carol", "c2", "192.0.2.4"),
        ("dora", "d1", "192.0.2.5"),
        ("erin", "e1", "192.0.2.6"),
        ("frank", "f1", "192.0.2.7"),
        ("gina", "g1", "192.0.2.8"),
    )
    assert set(scene.states().values()) == {"open"}
    assert scene.link.questions == []
    scene.lose()
    assert set(scene.states().values()) == {"?"}
    assert ANSWERS in scene.link.filters
    asked = scene.answer(
        {
            "alice": sessions("alice", "192.0.2.1"),
            "bob": sessions("bob"),
            "carol": sessions("carol", "::ffff:192.0.2.4"),
            "erin": sessions("erin", None),
            "frank": sessions("frank", clientid="f1"),
            "gina": sessions("gina", clientid="another"),
        }
    )
    assert asked == ["alice", "bob", "carol", "dora", "erin", "frank", "gina"]
    ended = {client for client, state in scene.states().items() if state == "lost"}
    assert ended == {"b1", "c1", "f1"}
    assert {c for c, state in scene.states().items() if state == "?"} == {"a1", "c2", "d1", "e1", "g1"}
    rows = query(sqlite_url, "SELECT cause FROM connections WHERE reason = 'lost'")
    assert {row["cause"] for row in rows} == {None}
    assert ANSWERS not in scene.link.filters
    scene.arrive((NOTICES, b"1800000100: Client a1 [192.0.2.1:50] disconnected."))
    assert scene.states()["a1"] == "logout"


def test_bridge_asks_again_while_somebody_is_in_doubt(sqlite_url: str) -> None:
    """A client that leaves later under an id that was never reported is found by the next question."""
    scene = Scene(sqlite_url)
    scene.connects(("alice", "a1", "192.0.2.1"))
    scene.lose()
    scene.answer({"alice": sessions("alice", "192.0.2.1")})
    scene.settle()
    assert len(scene.link.questions) == 1
    scene.wait(AGAIN_S + 10)
    assert scene.answer({"alice": sessions("alice")}) == ["alice"]
    assert scene.states() == {"a1": "lost"}
    scene.wait(AGAIN_S + 10)
    assert len(scene.link.questions) == 2


def test_report_meanwhile_is_newer_than_the_answer(sqlite_url: str) -> None:
    """A client that connects between question and answer is there."""
    scene = Scene(sqlite_url)
    scene.connects(("alice", "a1", "192.0.2.1"), ("bob", "b1", "192.0.2.2"))
    scene.lose()
    scene.arrive(
        (NOTICES, b"1800000200: New client connected from 192.0.2.1:9 as a1 (p2, c1, k60, u'alice').")
    )
    scene.held.step(seconds=2)
    scene.held.step()
    scene.answer({"alice": sessions("alice"), "bob": sessions("bob")})
    rows = query(sqlite_url, "SELECT client_id, reason FROM connections ORDER BY id")
    assert [(r["client_id"], r["reason"]) for r in rows] == [
        ("a1", "superseded"),
        ("b1", "lost"),
        ("a1", None),
    ]


def test_questions_are_small_and_get_smaller(sqlite_url: str) -> None:
    """Twenty users at a time; half as many after an answer that is too large; a user whose answer alone is too large
    stays in doubt.
    """
    scene = Scene(sqlite_url)
    names = [f"u{n:03}" for n in range(25)]
    for start in range(0, 25, 5):
        scene.connects(*((name, name, "192.0.2.1") for name in names[start : start + 5]))
    scene.lose()
    sizes = []
    for _ in range(60):
        if ANSWERS not in scene.link.filters:
            break
        asked = [command["username"] for command in scene.link.questions[-1]]
        sizes.append(len(asked))
        if "u003" in asked:
            scene.arrive((ANSWERS, b""), oversize=100_000)
            scene.settle()
        else:
            scene.answer({name: sessions(name) for name in asked})
    assert sizes[:5] == [20, 10, 5, 2, 2]
    assert set(sizes[5:]) == {1}
    assert {c for c, state in scene.states().items() if state != "lost"} == {"u003"}


def test_client_ids_end_by_the_user_that_the_broker_named(sqlite_url: str) -> None:
    """With `client_id` the bridge asks about the user of the reported connection; after its own restart it has
    forgotten that, and asks nothing.
    """
    scene = Scene(sqlite_url, "client_id")
    scene.connects(("fleet", "lamp-1", "192.0.2.1"), ("fleet", "lamp-2", "192.0.2.2"))
    scene.lose()
    assert scene.answer({"fleet": sessions("fleet", "192.0.2.2")}) == ["fleet"]
    assert scene.states() == {"lamp-1": "lost", "lamp-2": "?"}
    asked = len(scene.link.questions)
    scene.held.start()
    scene.lose()
    scene.wait(AGAIN_S + 10)
    assert len(scene.link.questions) == asked
    assert scene.states() == {"lamp-1": "lost", "lamp-2": "?"}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(ANSWERS, b'{"error": "endpoint not available"}')], "endpoint not available"),
        ([], "no answer"),
    ],
)
def test_broker_that_does_not_answer(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, answers: Sequence[tuple[str, bytes]], words: str
) -> None:
    """One line in the log; everybody stays in doubt; the next question follows later."""
    caplog.set_level(logging.WARNING)
    scene = Scene(sqlite_url)
    scene.connects(("alice", "a1", "192.0.2.1"))
    scene.lose()
    scene.arrive(*answers)
    scene.wait(40)
    assert words in caplog.text
    assert scene.states() == {"a1": "?"}
    assert len(scene.link.questions) == 1
    scene.wait(AGAIN_S + 10)
    assert len(scene.link.questions) == 2
    scene.answer({"alice": sessions("alice")})
    assert scene.states() == {"a1": "lost"}


@contextmanager
def with_plugin(directory: Path, *, is_admin: bool) -> Iterator[Mosquitto]:
    """Run mosquitto 2.0 with its own plugin; the bridge may or may not ask it."""
    (library,) = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
    config = directory / "dynamic-security.json"
    subprocess.run(["mosquitto_ctrl", "dynsec", "init", config, "admin", "admin-secret"], check=True)
    made = json.loads(config.read_text())
    topics = ["#", "$SYS/#", *(["$CONTROL/#"] if is_admin else [])]
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern", "unsubscribePattern")
    acls = [{"acltype": kind, "topic": topic, "allow": True} for kind in kinds for topic in topics]
    made["roles"].append({"rolename": "all", "acls": acls})
    config.write_text(json.dumps(made))
    config.chmod(0o600)
    more = f"log_dest topic\nsys_interval 1\nplugin {library}\nplugin_opt_config_file {config}"
    with Mosquitto(directory / "mosquitto", more) as broker:
        for user, password in (("bridge", BRIDGE_PASSWORD), ("alice", "secret")):
            control(broker, "createClient", user, "-p", password)
            control(broker, "addClientRole", user, "all")
        yield broker


def control(broker: Mosquitto, *command: str) -> None:
    login = ["-h", "127.0.0.1", "-p", str(broker.port), "-u", "admin", "-P", "admin-secret"]
    subprocess.run(
        ["mosquitto_ctrl", *login, "dynsec", *command], check=True, capture_output=True, timeout=20
    )


@pytest.mark.parametrize(
    ("is_admin", "words"), [(True, "it lists no connections"), (False, "does not let this user ask")]
)
def test_real_plugin_of_mosquitto_2_0(
    tmp_path: Path, sqlite_url: str, caplog: pytest.LogCaptureFixture, *, is_admin: bool, words: str
) -> None:
    """The plugin answers the bridge over MQTT, or the broker refuses the question. Everybody stays in doubt."""
    caplog.set_level(logging.WARNING)
    settings = {"implicit": "username", "implicit_after": "0.2s", "implicit_list": "dynamic-security"}

    def records() -> list[dict[str, Any]]:
        return query(sqlite_url, "SELECT * FROM connections WHERE user_id = 'alice'")

    with with_plugin(tmp_path, is_admin=is_admin) as broker:
        with BridgeThread(broker=broker.url, database=sqlite_url, **settings):
            until(lambda: broker.log().count("$SYS/broker/log/E (QoS 1)") > 0, "the bridge reads reports")
            broker.client("alice", "a1", password="secret")
            until(records, "alice is seen")
        with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
            connection.execute("UPDATE bridge SET value = '1000' WHERE name = 'source_until'")
        with BridgeThread(broker=broker.url, database=sqlite_url, **settings):
            until(lambda: words in caplog.text, f"the question is answered\n{broker.log()[-3000:]}")
            (record,) = records()
            assert record["unconfirmed_since"]
            assert record["reason"] is None
