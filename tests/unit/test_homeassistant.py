"""Home Assistant's discovery messages: who gets one, under which topic, and who loses it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.recovery.discovery_settings import DISCOVERY, known_discovery
from mqtt_presence.integrations.homeassistant import Discovery, HomeAssistantOutput
from mqtt_presence.mqtt.messages import Outgoing
from mqtt_presence.rules.events import Login
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import RuleSettings, UserId, UserPresence
from tests.support.held_bridge import HeldBridge

ON = Discovery("homeassistant")
ALICE = "homeassistant/device/presence_alice_1255dacaa637f70c/config"
STATUS = "status/alice"
ODD_NAMES = (
    "Zoë Müller", "tasmota:plug-1", "a b", "a_b", "a.b", "A B", "日本", "中国", "{{ states }}", "'", "$x", '"', "x" * 128,
    "x" * 127 + "y", "🦆", " ", "_",
)  # fmt: skip


def topic(user: str, discovery: Discovery = ON) -> str | None:
    return next(iter(HomeAssistantOutput(discovery).topics(UserId(user))), None)


def outcome(user: UserPresence, now: int) -> Any:
    login = Login(user_id=user.user_id, client_id="phone", connection_id=f"c{now}", now=now)
    return fold(user, [login], RuleSettings())


# The message.


def test_new_user_gets_one_message() -> None:
    """Later logins change the status, and Home Assistant reads that one itself."""
    output = HomeAssistantOutput(ON)
    first = outcome(UserPresence(user_id=UserId("alice")), 1)
    assert [(p.topic, p.retain) for p in output.publications(first)] == [(ALICE, True)]
    assert list(output.publications(outcome(first.user, 2))) == []


def test_message_names_the_topics_under_the_prefix() -> None:
    """Home Assistant subscribes to these; a user's name is no template."""
    output = HomeAssistantOutput(Discovery("ha", None, "acme/"))
    (publication,) = output.retained(UserPresence(user_id=UserId("{{ x }}")))
    message = json.loads(publication.payload)
    assert publication.topic.startswith("ha/device/presence_x_")
    assert message["stat_t"] == "acme/status/{{ x }}"
    assert message["avty"][0]["t"] == "acme/bridge/state"
    assert message["dev"]["name"] == "{{ x }}"
    assert not [c for c in message["cmps"].values() if "{{ x }}" in c["val_tpl"]]
    ids = {c["uniq_id"] for c in message["cmps"].values()}
    assert len(ids) == len(message["cmps"]) == 5


def test_topics_are_valid_and_distinct() -> None:
    """Home Assistant allows letters, digits, _ and - in an object id."""
    topics = {topic(name) for name in ODD_NAMES}
    assert len(topics) == len(ODD_NAMES)
    for each in topics:
        assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]{1,64}/config", str(each))


def test_topic_never_changes() -> None:
    """Home Assistant knows the device and its history by this id."""
    assert topic("alice") == ALICE
    assert topic("alice", Discovery("homeassistant", None, "acme/")) != ALICE


@pytest.mark.parametrize(
    ("pattern", "name", "shown"),
    [
        ("family-*", "family-bob", True),
        ("family-*", "bob", False),
        ("[ab]*", "bob", True),
        ("Bob", "bob", False),
        (None, "b\ufdd0b", False),  # no status is published for it
    ],
)
def test_pattern_decides(pattern: str | None, name: str, shown: bool) -> None:
    """As in forget --match, with capitals as they are."""
    assert (topic(name, Discovery("homeassistant", pattern)) is not None) is shown


# In a bridge.


class Recorded(HeldBridge):
    """A bridge whose publications are kept with their payloads."""

    def __init__(self, database: str, **config: Any) -> None:
        self.sent: list[Outgoing] = []
        super().__init__(database, **config)

    def start(self, **config: Any) -> None:
        super().start(**config)
        publish = type(self.link).publish

        def record(messages: Any) -> None:
            given = list(messages)
            self.sent.extend(given)
            publish(self.link, given)

        self.link.publish = record

    def login(self, user: str) -> None:
        self.step(self.messages((f"presence/{user}/phone/login", {"connectionId": "c1"})))

    def settle(self) -> None:
        for _ in range(8):
            self.step()

    def restart(self, **config: Any) -> None:
        """Restart after a kill, with other settings; the broker still has the witness."""
        self.store.close()
        self.link.taken = []
        self.start(**config)
        self.connect()
        retained = self.parts.retained
        if retained._asked_for is not None:
            retained._end_probe(self.link, retained._asked_for)

    def configs(self) -> list[tuple[str, bool]]:
        """Return the discovery messages since the last call: topics, and whether they are empty."""
        found = [(m.topic, m.payload == b"") for m in self.sent if m.topic.endswith("/config")]
        self.sent.clear()
        return found


@pytest.fixture
def held(tmp_path: Path) -> Any:
    bridge = Recorded(f"sqlite:///{tmp_path}/presence.db", homeassistant=ON)
    bridge.connect()
    bridge.settle()
    yield bridge
    bridge.store.close()


def test_message_precedes_the_status(held: Recorded) -> None:
    """The status is then the witness for both."""
    held.login("alice")
    topics = [m.topic for m in held.sent]
    assert topics.index(ALICE) < topics.index(STATUS)
    held.settle()
    held.configs()
    held.step(held.messages(("presence/alice/phone/logout", {"connectionId": "c1"})))
    assert held.configs() == []


def test_message_of_a_killed_bridge_is_published_again(held: Recorded) -> None:
    """It is committed with the login."""
    held.login("alice")
    held.configs()
    held.restart()
    assert (ALICE, False) in held.configs()


def test_setting_works_for_known_users(tmp_path: Path) -> None:
    """Switched on, the bridge publishes the messages once, also if it is killed before they are acknowledged."""
    held = Recorded(f"sqlite:///{tmp_path}/presence.db")
    held.connect()
    held.login("alice")
    held.settle()
    assert held.configs() == []
    held.restart(homeassistant=ON)
    held.step()
    assert held.configs() == [(ALICE, False)]
    held.restart()
    held.settle()
    assert held.configs() == [(ALICE, False)]
    held.restart()
    held.settle()
    assert held.configs() == []
    held.store.close()


@pytest.mark.parametrize("after", [None, Discovery("homeassistant", "b*")])
def test_message_is_removed_with_the_setting(held: Recorded, after: Discovery | None) -> None:
    """Switched off, or with a pattern that no longer matches; a kill does not cut this short."""
    held.login("alice")
    held.settle()
    held.configs()
    held.restart(homeassistant=after)
    held.step()
    assert held.configs() == [(ALICE, True)]
    held.restart()
    held.settle()
    assert held.configs() == [(ALICE, True)]
    with held.store.transaction() as tx:
        assert list(known_discovery(tx.read_value(DISCOVERY)).topics(UserId("alice"))) == []
    held.restart()
    held.settle()
    assert held.configs() == []


def test_setting_that_is_off_for_a_moment_leaves_the_message(held: Recorded) -> None:
    """Off, killed in the middle of the removal, on again: the message is published again."""
    held.login("alice")
    held.settle()
    held.restart(homeassistant=None)
    held.step()
    held.configs()
    held.restart(homeassistant=ON)
    held.settle()
    assert held.configs()[-1] == (ALICE, False)


def test_setting_that_comes_back_after_the_removal_restores_the_message(held: Recorded) -> None:
    """The bridge was killed between the last acknowledgement and the note that all are removed."""
    held.login("alice")
    held.settle()
    held.restart(homeassistant=None)
    for _ in range(8):
        if held.parts.retained.is_complete:
            break
        held.step()
    assert held.parts.retained.is_complete
    assert (ALICE, True) in held.configs()
    held.restart(homeassistant=ON)
    held.settle()
    assert held.configs() == [(ALICE, False)]


def test_other_discovery_prefix_moves_the_message(held: Recorded) -> None:
    """The old topic is cleared."""
    held.login("alice")
    held.settle()
    held.configs()
    held.restart(homeassistant=Discovery("ha"))
    held.settle()
    moved = held.configs()
    assert sorted(moved) == sorted([(ALICE, True), (ALICE.replace("homeassistant", "ha"), False)])


def test_forgotten_user_loses_the_message_before_the_status(held: Recorded) -> None:
    """Otherwise Home Assistant would read an empty status. A user who comes back has a message again."""
    held.login("alice")
    held.settle()
    held.sent.clear()
    held.store.forget(UserId("alice"))
    held.check()
    assert [m.topic for m in held.sent if not m.payload] == [ALICE, STATUS]
    held.step()
    held.check()
    with held.store.transaction() as tx:
        assert tx.uncleared() == []
    held.sent.clear()
    held.login("alice")
    assert held.configs() == [(ALICE, False)]


def test_user_is_cleared_only_when_both_messages_are(held: Recorded) -> None:
    """One acknowledgement of two proves nothing about the other."""
    held.login("alice")
    held.settle()
    held.store.forget(UserId("alice"))
    held.check()
    assert len(held.link.taken) == 2
    last = held.link.taken.pop()
    held.step()
    held.check()
    with held.store.transaction() as tx:
        assert tx.uncleared() == ["alice"]
    held.link.taken.append(last)
    held.step()
    held.check()
    with held.store.transaction() as tx:
        assert tx.uncleared() == []


def test_refused_removal_is_tried_again(held: Recorded) -> None:
    """The bridge's user lacks the right, and gets it later."""
    held.login("alice")
    held.settle()
    held.store.forget(UserId("alice"))
    held.check()
    config, status = held.sent[-2:]
    held.link.taken = []
    held.step(Arrivals(refused=[config]))
    held.sent.clear()
    held.check()
    assert [m.topic for m in held.sent] == [ALICE, STATUS]
    held.link.taken = [status.ticket]  # late, of the first attempt
    held.step()
    held.check()
    with held.store.transaction() as tx:
        assert tx.uncleared() == ["alice"]


def test_message_in_the_outbox_of_a_forgotten_user_is_emptied(held: Recorded) -> None:
    """The bridge was killed before the broker had it, and the user was forgotten meanwhile."""
    held.login("alice")
    held.store.close()
    held.store.forget(UserId("alice"))
    held.configs()
    held.restart()
    assert {is_empty for _, is_empty in held.configs()} == {True}


def test_refused_message_is_published_again(held: Recorded) -> None:
    """As a refused status is: after a delay."""
    held.login("alice")
    (config,) = [m for m in held.sent if m.topic == ALICE]
    held.link.taken = [t for t in held.link.taken if t != config.ticket] + [config.ticket]
    held.step(Arrivals(refused=[config]))
    held.configs()
    held.step(seconds=11)
    held.settle()
    assert held.configs() == [(ALICE, False)]


def test_broker_that_lost_its_statuses_gets_the_message_too(held: Recorded) -> None:
    """Both are published again."""
    held.login("alice")
    held.settle()
    held.configs()
    held.connect()
    held.step(seconds=11)  # no answer: the broker lacks the witness
    held.settle()
    assert held.configs() == [(ALICE, False)]
