"""What is made of the broker's word: whose address, whose end; and what is rather not believed."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from mqtt_presence.adapters.brokers.mosquitto import ERRORS, NOTICES, VERSION
from mqtt_presence.adapters.registry import EMBEDDED, SOURCES
from mqtt_presence.bridge import broker_connections as module
from mqtt_presence.bridge import new_connections
from mqtt_presence.bridge.ambiguous_ends import MAX_TAKEN_OVER, AmbiguousEnds
from mqtt_presence.bridge.batch_recorder import Batch
from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.bridge.link import config
from mqtt_presence.bridge.recovery.kept_values import save_changed
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.events import BrokerReport, Login, NetworkClosed, NetworkReplaced
from mqtt_presence.rules.model import Cause, Reason
from mqtt_presence.settings import SourceName
from tests.support.redelivery_journal import RedeliveryJournal

NOW = 1_800_000_000_000
OLD = "closing old connection"


NO_STORE: Any = None
"""Its transaction is given to each call."""
NO_LINK: Any = None


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

    def read_value(self, name: str) -> str | None:
        return self.names.get(name)

    def write_value(self, name: str, value: str | None) -> None:
        self.names[name] = value
        if value is None:
            del self.names[name]

    def read_values(self, prefix: str) -> dict[str, str | None]:
        return {name.removeprefix(prefix): v for name, v in self.names.items() if name.startswith(prefix)}

    def network_connections(self, limit: int) -> list[tuple[str, str, int, str | None]]:
        return self.records[-limit:]


class Reports:
    """A connections of mosquitto's log, and short words for its lines."""

    def __init__(self, version: str = "2.0.11", *records: Any, most_taken_over: int = MAX_TAKEN_OVER) -> None:
        self.most_taken_over = most_taken_over
        self.tx: Any = FakeTransaction(*records)
        self.version = version
        self.mids: dict[str, int] = {}
        self.last_mid = 0
        self.pending: list[tuple[Incoming, Any]] = []
        self.journal = RedeliveryJournal()
        self.restart()

    def read(self, topic: str, line: str, *, dup: bool = False) -> BrokerReport | None:
        if not dup or line not in self.mids:
            self.last_mid += 1
            self.mids[line] = self.last_mid
        message = Incoming(topic, line.encode(), 1, False, dup, self.mids[line], 1)
        assert self.connections.handle(NO_LINK, message)
        self.journal.redeliveries.forget_packet_id(message)
        is_known = self.journal.redeliveries.is_repeated(message)
        event = None if is_known else next(iter(self.connections.read(message, NOW)), None)
        self.pending.append((message, event))
        return self.pending[-1][1]

    def login(self, user: str, client: str) -> None:
        event = Login(user_id=user, client_id=client, now=NOW, network_id=self.network_id(user, client))
        message = Incoming(f"presence/{user}/{client}/login", b"", 1, False, False, 60_000, 1)
        self.pending.append((message, event))

    def batch(self) -> Batch:
        """Return everything that was read and is not committed."""
        batch = Batch([message for message, _ in self.pending])
        for _, event in self.pending:
            if event is not None:
                batch.events.setdefault(event.user_id, []).append(event)
        return batch

    def commit(self) -> None:
        """Commit everything, as the bridge does with a batch."""
        batch = self.batch()
        self.connections.new.save_batch(self.tx, batch)
        self.journal.commit(
            [(message, id(message) in self.connections.uncommitted) for message, _ in self.pending]
        )
        self.connections.new.batch_committed(batch, ())
        self.pending.clear()

    def reconnect(self) -> None:
        """Reconnect with a session: the broker delivers again everything that is not committed."""
        self.pending.clear()
        self.connections.connected(FakeLink(), session_present=True, contested=False)  # type: ignore[arg-type]

    def restart(self) -> None:
        """Begin anew with what is committed; what is not will come again."""
        self.pending.clear()
        self.journal.restart()
        self.connections = BrokerConnections(NO_STORE, ambiguous=AmbiguousEnds(self.most_taken_over))
        self.connections.restore(self.tx)
        self.read(VERSION, f"mosquitto version {self.version}")

    def connect(
        self, client: str, user: str, *, at: int = 100, port: int = 7, dup: bool = False
    ) -> BrokerReport | None:
        line = f"{at}: New client connected from 192.0.2.1:{port} as {client} (p2, c1, k60, u'{user}')."
        return self.read(NOTICES, line, dup=dup)

    def end(
        self, client: str, words: str = "disconnected.", *, at: int = 200, dup: bool = False
    ) -> BrokerReport | None:
        return self.read(ERRORS if OLD in words else NOTICES, f"{at}: Client {client} {words}", dup=dup)

    def taken(self, client: str) -> BrokerReport | None:
        return self.end(client, f"already connected, {OLD}.")

    def address(self, user: str, client: str) -> str | None:
        found = self.connections.connection_of(user, client)
        return None if found is None else found.address

    def network_id(self, user: str, client: str) -> int:
        found = self.connections.connection_of(user, client)
        assert found is not None
        return found.network_id


def ended(gone: BrokerReport | None) -> tuple[Any, ...] | None:
    assert gone is None or isinstance(gone, NetworkClosed)
    return gone and (gone.user_id, gone.client_id, gone.network_id, gone.cause, gone.reason)


def test_address_is_for_the_user_and_client_that_the_broker_named() -> None:
    """Another user with that client id, and another client of that user, get none."""
    reports = Reports()
    assert reports.connect("phone", "alice") is None
    assert reports.address("alice", "phone") == "192.0.2.1"
    assert reports.address("bob", "phone") is None
    assert reports.address("alice", "tablet") is None


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
    reports = Reports()
    reports.connect("phone", "alice")
    number = reports.network_id("alice", "phone")
    assert ended(reports.end("phone", words)) == ("alice", "phone", number, cause, reason)
    assert reports.address("alice", "phone") is None


def test_end_of_nobody_known_says_nothing() -> None:
    """A client whose connect was not heard, or a name that only looks like one."""
    reports = Reports()
    assert reports.end("phone") is None
    assert reports.connect("al9 (p2, c1, k60, u'bob').", "mallory") is None
    assert reports.end("al9 (p2, c1, k60, u'bob').") is None
    assert reports.end("al9") is None


def test_takeover_by_the_same_user_only_notes_the_cause() -> None:
    """The new login will end the old record, and nobody sees a gap."""
    reports = Reports()
    reports.connect("phone", "alice")
    first = reports.network_id("alice", "phone")
    assert ended(reports.taken("phone")) == ("alice", "phone", first, Cause.TAKEOVER, None)
    moved = reports.connect("phone", "alice", port=8)
    second = reports.network_id("alice", "phone")
    assert moved == NetworkReplaced(
        user_id="alice", client_id="phone", now=NOW, network_id=first, new_network_id=second
    )
    assert second != first
    assert reports.address("alice", "phone") == "192.0.2.1"


def test_takeover_by_another_user_ends_the_record() -> None:
    """Nobody will log in for it, so the record ends with the connection; the taker gets nothing of it."""
    reports = Reports()
    reports.connect("phone", "alice")
    first = reports.network_id("alice", "phone")
    reports.taken("phone")
    assert ended(reports.connect("phone", "mallory", port=8)) == (
        "alice", "phone", first, Cause.TAKEOVER, Reason.LOST,
    )  # fmt: skip
    assert reports.address("alice", "phone") is None
    # And when she is gone, it is her connection that is.
    gone = reports.end("phone")
    assert gone is not None
    assert gone.user_id == "mallory"


def test_late_line_of_a_connection_that_was_taken_over_is_not_believed() -> None:
    """In 2.0, mosquitto logs the close of a WebSocket that was taken over after the connect of the new one."""
    reports = Reports()
    reports.connect("phone", "mallory")
    reports.taken("phone")
    reports.connect("phone", "alice", port=8)
    number = reports.network_id("alice", "phone")
    assert reports.end("phone", "closed its connection.") is None
    assert reports.address("alice", "phone") == "192.0.2.1"
    assert ended(reports.end("phone", "disconnected."))[:3] == ("alice", "phone", number)


def test_closed_line_is_ignored_for_a_client_id_that_was_ever_taken_over() -> None:
    """Any number of old WebSockets may close at any later time; the other lines stay unambiguous."""
    reports = Reports()
    for port, user in ((1, "mallory"), (2, "alice"), (3, "mallory")):
        reports.connect("phone", user, port=port)
        reports.taken("phone")
    reports.connect("phone", "alice", port=4)
    assert [reports.end("phone", CLOSED, at=at) for at in range(200, 206)] == [None] * 6
    assert reports.end("phone", "disconnected.") is not None
    reports.connect("phone", "alice", port=5)
    assert reports.end("phone", CLOSED) is None
    assert reports.end("phone", "has exceeded timeout, disconnecting.") is not None
    reports.connect("tablet", "alice", port=6)
    assert reports.end("tablet", CLOSED) is not None


CLOSED = "closed its connection."


def taken_back(reports: Reports) -> None:
    """Another user had alice's client id by WebSocket, and still has the socket."""
    reports.connect("phone", "mallory")
    reports.taken("phone")
    reports.connect("phone", "alice", port=8)


def test_taken_over_client_id_is_known_after_a_restart() -> None:
    """The client id is stored with the batch, also when no open record names the client any more."""
    reports = Reports()
    taken_back(reports)
    reports.login("alice", "phone")
    reports.commit()
    reports.restart()
    reports.connect("phone", "alice", port=9)
    assert reports.end("phone", CLOSED) is None
    assert reports.end("phone", "disconnected.") is not None


def test_counts_of_an_older_version_are_read_and_removed() -> None:
    """A count of lines, for a client id or for a checksum of many, becomes a client id that was taken over."""
    reports = Reports()
    reports.tx.names |= {"source_late phone": "2 1", "source_late #a1b2": "1 0"}
    for _ in range(2):
        reports.restart()
        reports.connect("phone", "alice")
        assert reports.end("phone", CLOSED) is None
        assert reports.tx.read_values("source_late ") == {}


def test_takeover_that_comes_again_ends_the_record_again() -> None:
    """Also when the new connection has ended meanwhile."""
    reports = Reports()
    reports.connect("phone", "alice")
    reports.commit()
    gone = reports.connect("phone", "mallory", port=8)
    assert gone is not None
    end = reports.end("phone")
    reports.reconnect()
    assert reports.connect("phone", "mallory", port=8, dup=True) == gone
    assert reports.end("phone", dup=True) == end


def test_line_that_is_committed_is_not_heard_again() -> None:
    """Neither before a restart nor after it, as long as the broker may deliver it again."""
    reports = Reports()
    reports.connect("phone", "alice")
    reports.commit()
    reports.connect("phone", "mallory", port=8)
    reports.commit()
    for _ in range(3):
        assert reports.connect("phone", "alice", dup=True) is None
        assert reports.network_id("mallory", "phone")
        reports.commit()
        reports.restart()


def test_line_is_known_for_as_long_as_the_broker_may_not_have_the_acknowledgement() -> None:
    """A connect line of the past that counted again would end the connection of today."""
    reports = Reports()
    reports.connect("phone", "alice", port=7)
    reports.connect("phone", "mallory", port=8)
    for n in range(config.RECEIVE_MAXIMUM - 2):
        reports.connect(f"m{n}", "mallory")
    reports.commit()
    reports.reconnect()
    assert reports.connect("phone", "alice", port=7, dup=True) is None
    assert reports.connect("phone", "mallory", port=8, dup=True) is None
    assert reports.network_id("mallory", "phone")


def test_end_of_nobody_known_that_comes_again_still_says_nothing() -> None:
    """Not even when somebody has come by that id meanwhile."""
    reports = Reports()
    for commits in (True, False):
        assert reports.end("phone", at=100) is None
        if commits:
            reports.commit()
        reports.connect("phone", "alice")
        reports.reconnect()
        assert reports.end("phone", at=100, dup=True) is None


def test_takeover_of_an_unknown_connection_is_recorded() -> None:
    """The line before the connect line reports the takeover."""
    reports = Reports()
    reports.taken("phone")
    reports.connect("phone", "alice")
    assert reports.end("phone", CLOSED) is None


def test_reports_of_a_lost_session_are_committed() -> None:
    """The bridge still holds their messages; packet ids begin anew, and an equal one is another message."""
    reports = Reports()
    taken_back(reports)
    reports.journal.lose_session()
    reports.connections.connected(FakeLink(), session_present=False, contested=False)
    reports.mids.clear()
    reports.connect("tablet", "bob")
    reports.commit()
    reports.restart()
    assert reports.network_id("alice", "phone")
    assert reports.network_id("bob", "tablet")
    assert reports.end("phone", CLOSED) is None


def test_report_that_the_database_refuses_still_counts() -> None:
    """The report is acknowledged and will not arrive again, so a reconnect does not undo it."""
    reports = Reports()
    taken_back(reports)
    for message, _ in reports.pending:
        reports.connections.new.batch_given_up(message)
    reports.reconnect()
    assert reports.network_id("alice", "phone")
    reports.connect("tablet", "bob")
    reports.commit()
    reports.restart()
    reports.connect("phone", "alice", port=9)
    assert reports.end("phone", CLOSED) is None


def test_more_takeovers_than_are_stored(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the limit the line is ignored for every client id, also after a restart; other lines still count."""
    reports = Reports(most_taken_over=2)
    for n in range(2):
        reports.connect(f"m{n}", "mallory")
        reports.connect(f"m{n}", "mallory", port=8)
    reports.connect("m3", "mallory")
    reports.connect("m3", "mallory", port=8)
    reports.connect("phone", "alice")
    reports.commit()
    assert caplog.text.count("client ids were taken over") == 1
    assert len(reports.tx.read_values("taken_over ")) == 2
    for _ in range(2):
        assert [reports.end(client, CLOSED) for client in ("m0", "m3", "phone")] == [None, None, None]
        reports.restart()
    assert reports.end("phone") is not None


def test_no_takeover_is_recorded_on_2_1() -> None:
    """Mosquitto 2.1 reports which connection has ended."""
    reports = Reports("2.1.2")
    taken_back(reports)
    reports.commit()
    assert reports.tx.read_values("taken_over ") == {}


def test_who_has_connected_and_not_logged_in_is_known_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until a record tells of it, or it is gone; and of many the latest."""
    monkeypatch.setattr(new_connections, "MAX_NEW", 2)
    reports = Reports()
    reports.connect("phone", "alice")
    reports.commit()
    reports.restart()
    assert reports.address("alice", "phone") == "192.0.2.1"
    reports.login("alice", "phone")
    reports.connect("tablet", "bob")
    reports.commit()
    reports.restart()
    assert reports.address("alice", "phone") is None  # that is for its record to tell
    assert reports.address("bob", "tablet") == "192.0.2.1"
    reports.end("tablet")
    reports.commit()
    assert "source_new" not in reports.tx.names
    for n in range(3):
        reports.connect(f"m{n}", "mallory")
    reports.commit()
    reports.restart()
    assert [reports.address("mallory", f"m{n}") for n in range(3)] == [None, "192.0.2.1", "192.0.2.1"]


def test_what_is_not_committed_is_not_kept() -> None:
    """A batch that fails leaves everything to the next try."""
    reports = Reports()
    reports.connect("phone", "alice")
    reports.connections.new.save_batch(FakeTransaction(), reports.batch())  # type: ignore[arg-type]
    reports.commit()
    assert "phone" in reports.tx.names["source_new"]


def test_end_of_2_1_must_fit_the_address_and_port() -> None:
    """Somebody who was never let in, and a connection before this one, cannot end it."""
    reports = Reports("2.1.2")
    reports.connect("phone", "alice", port=7)
    assert reports.end("phone", "[192.0.2.66:7] disconnected.") is None
    assert reports.end("phone", "[192.0.2.1:8] disconnected: connection closed by client.") is None
    gone = reports.end("phone", "[192.0.2.1:7] disconnected: connection closed by client.")
    assert ended(gone) == (
        "alice", "phone", 100 << 32 | gone.network_id & 0xFFFF_FFFF, Cause.CLOSED, Reason.LOST,
    )  # fmt: skip


def test_client_id_of_2_0_that_looks_like_an_end_of_2_1() -> None:
    """One called "victim [address:port]" is not the victim, even if address and port are right."""
    reports = Reports()
    reports.connect("victim", "alice", port=7)
    reports.connect("victim [192.0.2.1:7]", "mallory", port=8)
    gone = reports.end("victim [192.0.2.1:7]")
    assert gone is not None
    assert (gone.user_id, gone.client_id) == ("mallory", "victim [192.0.2.1:7]")
    assert reports.address("alice", "victim") == "192.0.2.1"


def test_line_older_than_the_connection_is_of_the_one_before() -> None:
    """Should it come late, it ends no connection that came later."""
    reports = Reports("2.0.11", ("alice", "phone", 300 << 32 | 5, "192.0.2.9"))
    assert reports.end("phone", at=299) is None
    assert ended(reports.end("phone", at=300)) == (
        "alice", "phone", 300 << 32 | 5, Cause.DISCONNECT, Reason.LOGOUT,
    )  # fmt: skip


def test_end_that_was_lost_before_its_commit_is_told_again() -> None:
    """The entry has gone with the first delivery; the second finds it again, and so does what comes before it."""
    reports = Reports()
    reports.connect("phone", "alice")
    reports.commit()
    first = reports.end("phone")
    assert first is not None
    assert reports.address("alice", "phone") is None
    reports.reconnect()
    assert reports.address("alice", "phone") == "192.0.2.1"
    assert reports.end("phone", dup=True) == first


def test_connect_delivered_again_changes_nothing() -> None:
    """The same line is the same connection."""
    reports = Reports()
    reports.connect("phone", "alice")
    number = reports.network_id("alice", "phone")
    assert reports.connect("phone", "alice", dup=True) is None
    assert reports.network_id("alice", "phone") == number
    assert reports.end("phone", "closed its connection.") is not None  # the client id was not taken over


def test_who_was_here_before_a_restart_is_known() -> None:
    """From the open records: their ends are understood, their addresses go on."""
    reports = Reports(
        "2.0.11", ("alice", "phone", 100 << 32 | 5, "192.0.2.9"), ("bob", "phone", 101 << 32 | 6, None)
    )
    reports.connections.connected(FakeLink(), session_present=True, contested=False)
    assert reports.address("bob", "phone") is None
    assert reports.network_id("bob", "phone") == 101 << 32 | 6
    assert reports.end("phone") is not None


def test_after_a_gap_nobody_has_an_address_until_the_next_connect() -> None:
    """When the broker has lost the session, who was here may be here by another connection; ends still count."""
    reports = Reports()
    reports.connect("phone", "alice")
    reports.connect("tablet", "alice", port=8)
    reports.commit()
    reports.reconnect()
    assert reports.address("alice", "phone") == "192.0.2.1"
    reports.connections.connected(FakeLink(), session_present=False, contested=False)
    assert reports.address("alice", "phone") is None
    assert reports.end("phone") is not None
    reports.connect("tablet", "alice", port=9)
    assert reports.address("alice", "tablet") == "192.0.2.1"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections at a time; those that came and went leave room."""
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(module, "MAX_ENDED", 2)
    reports = Reports()
    reports.connect("phone", "alice")
    for n in range(10):
        reports.connect(f"m{n}", "mallory")
        reports.end(f"m{n}")
    assert reports.address("alice", "phone") == "192.0.2.1"
    for n in range(3):
        reports.connect(f"m{n}", "mallory")
    assert reports.address("alice", "phone") is None
    assert len(reports.connections._table.current) == 3
    assert len(reports.connections._table.previous) <= 2


@contextmanager
def listening(setting: str, before: str | None = None, **how: Any) -> Iterator[FakeLink]:
    tx: Any = FakeTransaction()
    if before is not None:
        tx.names["source"] = before
    connections = BrokerConnections(NO_STORE, setting)
    connections.restore(tx)
    link: Any = FakeLink(**how)
    connections.connected(link, session_present=True, contested=False)
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
    assert set(SOURCES) - {EMBEDDED} == set(get_args(get_args(SourceName)[0]))


def test_another_source_than_before_gives_up_the_subscriptions() -> None:
    """The broker's session would else go on delivering what nobody reads."""
    with listening("none", before="auto") as link:
        assert link.dropped == [VERSION, NOTICES, ERRORS]
    with listening("mosquitto", before="auto") as link:
        assert link.dropped == []


def test_dialect_is_kept() -> None:
    """What has waited for the bridge comes before the broker tells its version again."""
    reports = Reports("2.1.2")
    assert reports.connections.dialect.has_changed
    store: Any = SimpleNamespace(transaction=lambda: nullcontext(reports.tx))
    save_changed(store, reports.connections.dialect)
    assert not reports.connections.dialect.has_changed
    again = BrokerConnections(NO_STORE)
    again.restore(reports.tx)
    assert not again.dialect.has_changed
    assert again._source is not None
    assert again._source.dialect == "2.1"


def test_emqx_names_the_connection() -> None:
    """An end that comes late, behind the next connect, is not that one's."""
    connections = BrokerConnections(NO_STORE, "emqx")
    fields = '"username":"alice","clientid":"phone","ipaddress":"192.0.2.1","connected_at":{}'

    def read(what: str, at: int, more: str = "") -> BrokerReport | None:
        body = "{" + fields.format(at) + more + "}"
        topic = f"$SYS/brokers/n1/clients/phone/{what}"
        message = Incoming(topic, body.encode(), 0, False, False, 0, 1)
        return next(iter(connections.read(message, NOW)), None)

    assert read("connected", 5) is None
    assert read("connected", 9) == NetworkReplaced(
        user_id="alice", client_id="phone", now=NOW, network_id=5, new_network_id=9
    )
    late = read("disconnected", 5, ',"reason":"tcp_closed"')
    assert ended(late) == ("alice", "phone", 5, Cause.CLOSED, Reason.LOST)
    found = connections.connection_of("alice", "phone")
    assert found is not None
    assert found.network_id == 9
    connections = BrokerConnections(NO_STORE, "emqx")  # and nothing need be known of it
    assert ended(read("disconnected", 9, ',"reason":"normal"')) == (
        "alice", "phone", 9, Cause.DISCONNECT, Reason.LOGOUT,
    )  # fmt: skip


def test_connect_that_is_older_than_the_connection_changes_nothing() -> None:
    """Should it be delivered again, it does not take the place of who has come since, nor end anybody's record."""
    reports = Reports("2.0.11", ("alice", "phone", 300 << 32 | 5, "192.0.2.9"))
    assert reports.connect("phone", "mallory", at=299, dup=True) is None
    assert reports.network_id("alice", "phone") == 300 << 32 | 5
    assert ended(reports.connect("phone", "mallory", at=301, dup=True)) == (
        "alice", "phone", 300 << 32 | 5, Cause.TAKEOVER, Reason.LOST,
    )  # fmt: skip
