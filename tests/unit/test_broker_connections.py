"""What is made of the broker's word: whose address, whose end; and what is rather not believed."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from mqtt_presence.adapters.brokers.mosquitto import ERRORS, NOTICES, VERSION
from mqtt_presence.adapters.registry import SOURCES
from mqtt_presence.bridge import broker_connections as module
from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.bridge.link import config
from mqtt_presence.bridge.recovery.kept_values import save_changed
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.model import BrokerReport, Cause, Login, NetworkClosed, NetworkReplaced, Reason
from mqtt_presence.settings import SourceName
from tests.support.kept import Kept

NOW = 1_800_000_000_000
OLD = "closing old connection"


NO_STORE: Any = None
"""Its transaction is given to each call."""


class FakeLink:
    """Takes down what is subscribed to."""

    def __init__(self, *, is_mqtt5: bool = True) -> None:
        self.is_mqtt5 = is_mqtt5
        self.filters: list[str] = []
        self.dropped: list[str] = []

    def subscribe(self, topic_filter: str, *, required: bool = True) -> None:
        assert not required
        self.filters.append(topic_filter)

    def unsubscribe(self, topic_filter: str) -> None:
        self.dropped.append(topic_filter)


class FakeTransaction:
    """A database of names, and of the open records that came by a known connection."""

    def __init__(self, *records: tuple[str, str, int, str | None]) -> None:
        self.names: dict[str, str | None] = {}
        self.records = list(records)

    def recall(self, name: str) -> str | None:
        return self.names.get(name)

    def remember(self, name: str, value: str | None) -> None:
        self.names[name] = value
        if value is None:
            del self.names[name]

    def recall_all(self, prefix: str) -> dict[str, str | None]:
        return {name.removeprefix(prefix): v for name, v in self.names.items() if name.startswith(prefix)}

    def told_connections(self, limit: int) -> list[tuple[str, str, int, str | None]]:
        return self.records[-limit:]


class Story:
    """A witness of mosquitto's log, and short words for its lines."""

    def __init__(self, version: str = "2.0.11", *records: Any) -> None:
        self.witness = BrokerConnections(NO_STORE)
        self.tx: Any = FakeTransaction(*records)
        self.version = version
        self.mids: dict[str, int] = {}
        self.last_mid = 0
        self.pending: list[tuple[Incoming, Any]] = []
        self.kept = Kept()
        self.restart()

    def hear(self, topic: str, line: str, *, dup: bool = False) -> BrokerReport | None:
        if not dup or line not in self.mids:
            self.last_mid += 1
            self.mids[line] = self.last_mid
        message = Incoming(topic, line.encode(), 1, False, dup, self.mids[line], 1)
        assert self.witness.is_about(message)
        self.kept.known.forget_packet_id(message)
        is_known = self.kept.known.is_repeated(message)
        self.pending.append((message, None if is_known else self.witness.hear(message, NOW)))
        return self.pending[-1][1]

    def login(self, user: str, client: str) -> None:
        event = Login(user_id=user, client_id=client, now=NOW, network_id=self.number(user, client))
        message = Incoming(f"presence/{user}/{client}/login", b"", 1, False, False, 60_000, 1)
        self.pending.append((message, event))

    def commit(self) -> None:
        """Keep what was heard, as `Bridge` does with a batch."""
        lines = [message for message, _ in self.pending if self.witness.has_read(message)]
        events = [event for _, event in self.pending if event is not None]
        self.witness.remember_batch(self.tx, lines, events)
        self.kept.commit([(message, message in lines) for message, _ in self.pending])
        self.witness.committed()
        self.pending.clear()

    def reconnect(self) -> None:
        """What is not committed will come again."""
        self.pending.clear()
        self.witness.connected(FakeLink(), session_present=True, contested=False)  # type: ignore[arg-type]

    def restart(self) -> None:
        """Begin anew with what is committed; what is not will come again."""
        self.pending.clear()
        self.kept.restart()
        self.witness = BrokerConnections(NO_STORE)
        self.witness.restore(self.tx)
        self.hear(VERSION, f"mosquitto version {self.version}")

    def connect(
        self, client: str, user: str, *, at: int = 100, port: int = 7, dup: bool = False
    ) -> BrokerReport | None:
        line = f"{at}: New client connected from 192.0.2.1:{port} as {client} (p2, c1, k60, u'{user}')."
        return self.hear(NOTICES, line, dup=dup)

    def end(
        self, client: str, words: str = "disconnected.", *, at: int = 200, dup: bool = False
    ) -> BrokerReport | None:
        return self.hear(ERRORS if OLD in words else NOTICES, f"{at}: Client {client} {words}", dup=dup)

    def taken(self, client: str) -> BrokerReport | None:
        return self.end(client, f"already connected, {OLD}.")

    def address(self, user: str, client: str) -> str | None:
        peer = self.witness.peer(user, client)
        return None if peer is None else peer.address

    def number(self, user: str, client: str) -> int:
        peer = self.witness.peer(user, client)
        assert peer is not None
        return peer.number


def said(gone: BrokerReport | None) -> tuple[Any, ...] | None:
    assert gone is None or isinstance(gone, NetworkClosed)
    return gone and (gone.user_id, gone.client_id, gone.network_id, gone.cause, gone.reason)


def test_address_is_for_the_user_and_client_that_the_broker_named() -> None:
    """Another user with that client id, and another client of that user, get none."""
    story = Story()
    assert story.connect("phone", "alice") is None
    assert story.address("alice", "phone") == "192.0.2.1"
    assert story.address("bob", "phone") is None
    assert story.address("alice", "tablet") is None


@pytest.mark.parametrize(
    ("words", "cause", "reason"),
    [
        ("disconnected.", Cause.DISCONNECT, Reason.LOGOUT),
        ("closed its connection.", Cause.CLOSED, Reason.LOST),
        ("has exceeded timeout, disconnecting.", Cause.KEEP_ALIVE, Reason.LOST),
        ("been disconnected by administrative action.", Cause.KICKED, Reason.LOST),
    ],
)
def test_end_is_of_the_connection_that_was_told(words: str, cause: Cause, reason: Reason) -> None:
    """An end names the user and the connection of the connect line; afterwards there is no address."""
    story = Story()
    story.connect("phone", "alice")
    number = story.number("alice", "phone")
    assert said(story.end("phone", words)) == ("alice", "phone", number, cause, reason)
    assert story.address("alice", "phone") is None


def test_end_of_nobody_known_says_nothing() -> None:
    """A client whose connect was not heard, or a name that only looks like one."""
    story = Story()
    assert story.end("phone") is None
    assert story.connect("al9 (p2, c1, k60, u'bob').", "mallory") is None
    assert story.end("al9 (p2, c1, k60, u'bob').") is None
    assert story.end("al9") is None


def test_takeover_by_the_same_user_only_notes_the_cause() -> None:
    """The new login will end the old record, and nobody sees a gap."""
    story = Story()
    story.connect("phone", "alice")
    first = story.number("alice", "phone")
    assert said(story.taken("phone")) == ("alice", "phone", first, Cause.TAKEOVER, None)
    moved = story.connect("phone", "alice", port=8)
    second = story.number("alice", "phone")
    assert moved == NetworkReplaced(
        user_id="alice", client_id="phone", now=NOW, network_id=first, new_network_id=second
    )
    assert second != first
    assert story.address("alice", "phone") == "192.0.2.1"


def test_takeover_by_another_user_ends_the_record() -> None:
    """Nobody will log in for it, so the record ends with the connection; the taker gets nothing of it."""
    story = Story()
    story.connect("phone", "alice")
    first = story.number("alice", "phone")
    story.taken("phone")
    assert said(story.connect("phone", "mallory", port=8)) == (
        "alice", "phone", first, Cause.TAKEOVER, Reason.LOST,
    )  # fmt: skip
    assert story.address("alice", "phone") is None
    # And when she is gone, it is her connection that is.
    gone = story.end("phone")
    assert gone is not None
    assert gone.user_id == "mallory"


def test_late_line_of_a_connection_that_was_taken_over_is_not_believed() -> None:
    """In 2.0, mosquitto logs the close of a WebSocket that was taken over after the connect of the new one."""
    story = Story()
    story.connect("phone", "mallory")
    story.taken("phone")
    story.connect("phone", "alice", port=8)
    number = story.number("alice", "phone")
    assert story.end("phone", "closed its connection.") is None
    assert story.address("alice", "phone") == "192.0.2.1"
    assert said(story.end("phone", "closed its connection."))[:3] == ("alice", "phone", number)


def test_one_line_is_left_out_for_each_takeover() -> None:
    """However they overlap, and also when the new one has ended meanwhile."""
    story = Story()
    for port, user in ((1, "mallory"), (2, "alice"), (3, "mallory")):
        story.connect("phone", user, port=port)
        story.taken("phone")
    story.connect("phone", "alice", port=4)
    assert [story.end("phone", "closed its connection.") for _ in range(2)] == [None, None]
    assert story.end("phone", "disconnected.") is not None  # that one is never late
    story.connect("phone", "alice", port=5)
    assert story.end("phone", "closed its connection.") is None
    assert story.end("phone", "closed its connection.") is not None


CLOSED = "closed its connection."


def taken_back(story: Story) -> None:
    """Another user had alice's client id by WebSocket, and still has the socket."""
    story.connect("phone", "mallory")
    story.taken("phone")
    story.connect("phone", "alice", port=8)


def test_late_line_is_not_believed_after_a_restart() -> None:
    """What is left out is kept with the batch, before the broker may forget why."""
    story = Story()
    taken_back(story)
    story.login("alice", "phone")
    story.commit()
    story.tx.records.append(("alice", "phone", story.number("alice", "phone"), None))
    story.restart()
    assert story.end("phone", CLOSED) is None
    story.commit()
    story.restart()
    assert said(story.end("phone", CLOSED)) is not None  # one line was late, and only one
    story.commit()
    assert story.tx.recall_all("source_late ") == {}


def test_line_that_was_perhaps_late_is_expected_of_the_next() -> None:
    """It was her own, and her record has ended by her will: a restart must not forget that the other one is to come."""
    story = Story()
    taken_back(story)
    assert story.end("phone", CLOSED) is None
    story.commit()
    story.tx.names.pop("source_new")  # what a login does
    story.restart()
    story.connect("phone", "alice", port=9)
    assert story.end("phone", CLOSED) is None
    assert story.end("phone", CLOSED, at=201) is not None


def test_late_line_that_comes_again_is_late_again() -> None:
    """It was heard and not committed when the connection with the broker broke: it is the same line."""
    story = Story()
    taken_back(story)
    story.commit()
    assert story.end("phone", CLOSED) is None
    story.reconnect()
    assert story.end("phone", CLOSED, dup=True) is None
    story.commit()
    story.reconnect()
    assert story.end("phone", CLOSED, dup=True) is None  # committed, and not acknowledged
    assert story.end("phone", CLOSED, at=201) is not None


def test_takeover_that_comes_again_ends_the_record_again() -> None:
    """Also when the taker has gone meanwhile; and it is counted once."""
    story = Story()
    story.connect("phone", "alice")
    story.commit()
    gone = story.connect("phone", "mallory", port=8)
    assert gone is not None
    end = story.end("phone")
    story.reconnect()
    assert story.connect("phone", "mallory", port=8, dup=True) == gone
    assert story.end("phone", dup=True) == end
    story.connect("phone", "alice", port=9)
    assert story.end("phone", CLOSED) is None
    assert story.end("phone", CLOSED, at=201) is not None


def test_line_that_is_committed_is_not_heard_again() -> None:
    """Neither before a restart nor after it, as long as the broker may deliver it again."""
    story = Story()
    story.connect("phone", "alice")
    story.commit()
    story.connect("phone", "mallory", port=8)
    story.commit()
    for _ in range(3):
        assert story.connect("phone", "alice", dup=True) is None
        assert story.number("mallory", "phone")
        story.commit()
        story.restart()


def test_line_is_known_for_as_long_as_the_broker_may_not_have_the_acknowledgement() -> None:
    """A takeover that is counted twice leaves out an end that is true: who has gone would be there for ever."""
    story = Story()

    def come_and_be_taken_over(*, dup: bool) -> None:
        story.connect("phone", "alice", port=7, dup=dup)
        story.connect("phone", "alice", port=8, dup=dup)
        story.end("phone", CLOSED, dup=dup)  # of the one before, late

    come_and_be_taken_over(dup=False)
    for n in range(config.RECEIVE_MAXIMUM - 3):
        story.connect(f"m{n}", "mallory")
    story.commit()
    story.reconnect()
    come_and_be_taken_over(dup=True)
    assert story.end("phone", CLOSED, at=201) is not None


def test_end_of_nobody_known_that_comes_again_still_says_nothing() -> None:
    """Not even when somebody has come by that id meanwhile."""
    story = Story()
    for commits in (True, False):
        assert story.end("phone", at=100) is None
        if commits:
            story.commit()
        story.connect("phone", "alice")
        story.reconnect()
        assert story.end("phone", at=100, dup=True) is None


def test_takeover_from_somebody_who_was_forgotten_is_counted() -> None:
    """The line before the connect line says that there was one, whoever it was."""
    story = Story()
    story.taken("phone")
    story.connect("phone", "alice")
    assert story.end("phone", CLOSED) is None
    assert story.end("phone", CLOSED, at=201) is not None


def test_what_was_heard_of_a_session_that_is_lost_is_kept() -> None:
    """It will not come again; packet ids begin anew, and one like it is another."""
    story = Story()
    taken_back(story)
    story.kept.forget()
    story.witness.connected(FakeLink(), session_present=False, contested=False)
    story.pending.clear()
    story.mids.clear()
    story.connect("tablet", "bob")
    story.commit()
    story.restart()
    assert story.number("alice", "phone")
    assert story.number("bob", "tablet")
    assert story.end("phone", CLOSED) is None


def test_what_the_database_refuses_is_kept_of_its_line() -> None:
    """It is acknowledged and will not come again, so it is not forgotten with what will."""
    story = Story()
    taken_back(story)
    for message, _ in story.pending:
        story.witness.give_up(message)
    story.reconnect()
    assert story.number("alice", "phone")
    story.connect("tablet", "bob")
    story.commit()
    story.restart()
    assert story.number("alice", "phone")
    assert story.end("phone", CLOSED) is None


def test_more_late_lines_than_can_be_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then no such line is believed any more of the client id that waits longest; the others are as before."""
    monkeypatch.setattr(module, "MAX_LATE", 2)
    story = Story()
    for n in range(4):
        story.connect(f"m{n}", "mallory")
        story.connect(f"m{n}", "mallory", port=8)
    story.connect("phone", "alice")
    story.commit()
    assert caplog.text.count("client ids were taken over") == 1
    for _ in range(2):  # also after a restart
        for n in range(2):
            assert [story.end(f"m{n}", CLOSED) for _ in range(3)] == [None, None, None]
        assert story.end(f"m{n}") is not None  # it has no doubt of other words
        story.restart()
    assert len(story.witness._late) == 2
    assert story.end("m3", CLOSED) is None
    assert story.end("m3", CLOSED) is not None
    assert story.end("phone", CLOSED) is not None


def test_nothing_is_late_on_2_1() -> None:
    """Its ends tell which connection is meant: nothing is counted."""
    story = Story("2.1.2")
    taken_back(story)
    story.commit()
    assert story.tx.recall_all("source_late ") == {}


def test_who_has_connected_and_not_logged_in_is_known_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until a record tells of it, or it is gone; and of many the latest."""
    monkeypatch.setattr(module, "MAX_NEW", 2)
    story = Story()
    story.connect("phone", "alice")
    story.commit()
    story.restart()
    assert story.address("alice", "phone") == "192.0.2.1"
    story.login("alice", "phone")
    story.connect("tablet", "bob")
    story.commit()
    story.restart()
    assert story.address("alice", "phone") is None  # that is for its record to tell
    assert story.address("bob", "tablet") == "192.0.2.1"
    story.end("tablet")
    story.commit()
    assert "source_new" not in story.tx.names
    for n in range(3):
        story.connect(f"m{n}", "mallory")
    story.commit()
    story.restart()
    assert [story.address("mallory", f"m{n}") for n in range(3)] == [None, "192.0.2.1", "192.0.2.1"]


def test_what_is_not_committed_is_not_kept() -> None:
    """A batch that fails leaves everything to the next try."""
    story = Story()
    story.connect("phone", "alice")
    lines = [message for message, _ in story.pending]
    story.witness.remember_batch(FakeTransaction(), lines, [])  # type: ignore[arg-type]
    story.commit()
    assert "phone" in story.tx.names["source_new"]


def test_end_of_2_1_must_fit_the_address_and_port() -> None:
    """Somebody who was never let in, and a connection before this one, cannot end it."""
    story = Story("2.1.2")
    story.connect("phone", "alice", port=7)
    assert story.end("phone", "[192.0.2.66:7] disconnected.") is None
    assert story.end("phone", "[192.0.2.1:8] disconnected: connection closed by client.") is None
    gone = story.end("phone", "[192.0.2.1:7] disconnected: connection closed by client.")
    assert said(gone) == (
        "alice", "phone", 100 << 32 | gone.network_id & 0xFFFF_FFFF, Cause.CLOSED, Reason.LOST,
    )  # fmt: skip


def test_client_id_of_2_0_that_looks_like_an_end_of_2_1() -> None:
    """One called "victim [address:port]" is not the victim, even if address and port are right."""
    story = Story()
    story.connect("victim", "alice", port=7)
    story.connect("victim [192.0.2.1:7]", "mallory", port=8)
    gone = story.end("victim [192.0.2.1:7]")
    assert gone is not None
    assert (gone.user_id, gone.client_id) == ("mallory", "victim [192.0.2.1:7]")
    assert story.address("alice", "victim") == "192.0.2.1"


def test_line_older_than_the_connection_is_of_the_one_before() -> None:
    """Should it come late, it ends no connection that came later."""
    story = Story("2.0.11", ("alice", "phone", 300 << 32 | 5, "192.0.2.9"))
    assert story.end("phone", at=299) is None
    assert said(story.end("phone", at=300)) == (
        "alice", "phone", 300 << 32 | 5, Cause.DISCONNECT, Reason.LOGOUT,
    )  # fmt: skip


def test_end_that_was_lost_before_its_commit_is_told_again() -> None:
    """The entry has gone with the first delivery; the second finds it again, and so does what comes before it."""
    story = Story()
    story.connect("phone", "alice")
    story.commit()
    first = story.end("phone")
    assert first is not None
    assert story.address("alice", "phone") is None
    story.reconnect()
    assert story.address("alice", "phone") == "192.0.2.1"
    assert story.end("phone", dup=True) == first


def test_connect_delivered_again_changes_nothing() -> None:
    """The same line is the same connection."""
    story = Story()
    story.connect("phone", "alice")
    number = story.number("alice", "phone")
    assert story.connect("phone", "alice", dup=True) is None
    assert story.number("alice", "phone") == number
    assert story.end("phone", "closed its connection.") is not None  # and no late line is expected


def test_who_was_here_before_a_restart_is_known() -> None:
    """From the open records: their ends are understood, their addresses go on."""
    story = Story(
        "2.0.11", ("alice", "phone", 100 << 32 | 5, "192.0.2.9"), ("bob", "phone", 101 << 32 | 6, None)
    )
    story.witness.connected(FakeLink(), session_present=True, contested=False)
    assert story.address("bob", "phone") is None
    assert story.number("bob", "phone") == 101 << 32 | 6
    assert story.end("phone") is not None


def test_after_a_gap_nobody_has_an_address_until_the_next_connect() -> None:
    """When the broker has lost the session, who was here may be here by another connection; ends still count."""
    story = Story()
    story.connect("phone", "alice")
    story.connect("tablet", "alice", port=8)
    story.commit()
    story.reconnect()
    assert story.address("alice", "phone") == "192.0.2.1"
    story.witness.connected(FakeLink(), session_present=False, contested=False)
    assert story.address("alice", "phone") is None
    assert story.end("phone") is not None
    story.connect("tablet", "alice", port=9)
    assert story.address("alice", "tablet") == "192.0.2.1"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections at a time; those that came and went leave room."""
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(module, "MAX_ENDED", 2)
    story = Story()
    story.connect("phone", "alice")
    for n in range(10):
        story.connect(f"m{n}", "mallory")
        story.end(f"m{n}")
    assert story.address("alice", "phone") == "192.0.2.1"
    for n in range(3):
        story.connect(f"m{n}", "mallory")
    assert story.address("alice", "phone") is None
    assert len(story.witness._here) == 3
    assert len(story.witness._over) <= 2


@contextmanager
def listening(setting: str, before: str | None = None, **how: Any) -> Iterator[FakeLink]:
    tx: Any = FakeTransaction()
    if before is not None:
        tx.names["source"] = before
    witness = BrokerConnections(NO_STORE, setting)
    witness.restore(tx)
    link: Any = FakeLink(**how)
    witness.connected(link, session_present=True, contested=False)
    yield link


def test_what_is_subscribed_to() -> None:
    """By default mosquitto's log, in MQTT 5 alone; a named source always; none: nothing."""
    with listening("auto") as link:
        assert link.filters == [VERSION, NOTICES, ERRORS]
    with listening("auto", is_mqtt5=False) as link:
        assert link.filters == []
    with listening("mosquitto", is_mqtt5=False) as link:
        assert link.filters == [VERSION, NOTICES, ERRORS]
    with listening("none") as link:
        assert link.filters == []
    with listening("emqx") as link:
        assert link.filters == [f"$SYS/brokers/+/clients/+/{what}" for what in ("connected", "disconnected")]
    assert set(SOURCES) == set(get_args(get_args(SourceName)[0]))


def test_another_source_than_before_gives_up_the_subscriptions() -> None:
    """The broker's session would else go on delivering what nobody reads."""
    with listening("none", before="auto") as link:
        assert link.dropped == [VERSION, NOTICES, ERRORS]
    with listening("mosquitto", before="auto") as link:
        assert link.dropped == []


def test_dialect_is_kept() -> None:
    """What has waited for the bridge comes before the broker tells its version again."""
    story = Story("2.1.2")
    assert story.witness.memory.is_news
    store: Any = SimpleNamespace(transaction=lambda: nullcontext(story.tx))
    save_changed(store, story.witness.memory)
    assert not story.witness.memory.is_news
    again = BrokerConnections(NO_STORE)
    again.restore(story.tx)
    assert not again.memory.is_news
    assert again._source is not None
    assert again._source.dialect == "2.1"


def test_emqx_names_the_connection() -> None:
    """An end that comes late, behind the next connect, is not that one's."""
    witness = BrokerConnections(NO_STORE, "emqx")
    fields = '"username":"alice","clientid":"phone","ipaddress":"192.0.2.1","connected_at":{}'

    def hear(what: str, at: int, more: str = "") -> BrokerReport | None:
        body = "{" + fields.format(at) + more + "}"
        topic = f"$SYS/brokers/n1/clients/phone/{what}"
        return witness.hear(Incoming(topic, body.encode(), 0, False, False, 0, 1), NOW)

    assert hear("connected", 5) is None
    assert hear("connected", 9) == NetworkReplaced(
        user_id="alice", client_id="phone", now=NOW, network_id=5, new_network_id=9
    )
    late = hear("disconnected", 5, ',"reason":"tcp_closed"')
    assert said(late) == ("alice", "phone", 5, Cause.CLOSED, Reason.LOST)
    peer = witness.peer("alice", "phone")
    assert peer is not None
    assert peer.number == 9
    witness = BrokerConnections(NO_STORE, "emqx")  # and nothing need be known of it
    assert said(hear("disconnected", 9, ',"reason":"normal"')) == (
        "alice", "phone", 9, Cause.DISCONNECT, Reason.LOGOUT,
    )  # fmt: skip


def test_connect_that_is_older_than_the_connection_changes_nothing() -> None:
    """Should it be delivered again, it does not take the place of who has come since, nor end anybody's record."""
    story = Story("2.0.11", ("alice", "phone", 300 << 32 | 5, "192.0.2.9"))
    assert story.connect("phone", "mallory", at=299, dup=True) is None
    assert story.number("alice", "phone") == 300 << 32 | 5
    assert said(story.connect("phone", "mallory", at=301, dup=True)) == (
        "alice", "phone", 300 << 32 | 5, Cause.TAKEOVER, Reason.LOST,
    )  # fmt: skip
