"""Playing the cases of tests/cases.py through a real bridge, all at once, every case with users of its own."""

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

from mqtt_presence.protocol.times import to_iso
from tests.cases import MADE_UP, At, Case, Received, body
from tests.support.bridges import BridgeProcess
from tests.support.brokers import _Broker
from tests.support.postgres import query
from tests.support.recorder import Recorder
from tests.support.waiting import now_ms, until

_marks = itertools.count(1)


def is_of_the_test(user_id: str) -> bool:
    """Tell whether it is one of those by whom `settle` and `hello` find out something."""
    return user_id.startswith(("mark", "hello"))


def settle(broker: _Broker, recorder: Recorder, tag: str = "") -> None:
    """Wait until all that was said before is decided and told: the input has one order."""
    user = f"mark{tag}{next(_marks)}"
    broker.say(user, f"{user}-client", "login")
    recorder.wait_for_event(user, "userOnline")  # the last of what it causes


def hello(broker: _Broker) -> None:
    """Wait until the bridge hears the clients: before its first subscription the broker keeps nothing for it."""
    recorder = broker.recorder("status/+")
    user = f"hello{next(_marks)}"

    def heard() -> bool:
        broker.say(user, f"{user}-client", "login")
        return recorder.status(user) is not None

    until(heard, "the bridge hears", every_s=0.05)


def wait_until_asked(broker: _Broker, bridge: BridgeProcess) -> None:
    """Wait until the bridge has noticed a loss and asked the clients: who logs in now does so after that.

    Its announcement alone tells nothing: a bridge that is restarted may repeat the one before.
    """
    bridge.wait_for_log("the broker has lost messages: asking all clients")
    hello(broker)  # while its queue is full, the broker drops what is said
    settle(broker, broker.recorder())


@dataclass
class Played:
    """A case that was played: who played it, and when what was said."""

    case: Case
    number: int
    base: int
    said_at: dict[int, int] = field(default_factory=dict)
    """When the step of that offset was published, epoch milliseconds."""
    done_at: int = 0

    def user(self, name: str) -> str:
        return f"{name}-{self.number}"

    def own_name(self, user: str) -> str:
        return user.rpartition("-")[0]


class Stage:
    """Plays cases.

    Args:
        broker: where.
        recorder: hears what the bridge tells.
        database: where the bridge keeps its records.

    """

    def __init__(self, broker: _Broker, recorder: Recorder, database: str) -> None:
        self._broker = broker
        self.recorder = recorder
        self.played: dict[str, Played] = {}
        self._database = database
        self.records: list[dict[str, Any]] = []

    def client(self, number: int, user: str, client: str) -> str:
        """Name a client of a case; where client ids are one user's each, two users cannot share one."""
        return f"{client}-{number}-{user}" if self._broker.one_owner_of_a_client_id else f"{client}-{number}"

    def play(self, cases: list[Case]) -> None:
        """Play all, wait for the end, read the records."""
        for number, case in enumerate(cases):
            played = self.played[case.name] = Played(case, number, now_ms())
            for step in case.steps:
                user, client, verb, payload, at = step
                played.said_at.setdefault(at, now_ms())
                self._broker.say(
                    played.user(user), self.client(number, user, client), verb, body(payload, played.base)
                )
        settle(self._broker, self.recorder)
        for played in self.played.values():
            played.done_at = now_ms()
        self.records = query(self._database, "SELECT * FROM connections")

    # What came of a case, in its own words.

    def assert_as_told(self, case: Case) -> None:
        """Compare records, statuses and events with what the case says."""
        played = self.played[case.name]
        self._assert_records(played)
        for user, expected in case.status.items():
            self._assert_status(played, user, expected)
        assert self._events(played) == _by_user(case.events)

    def _assert_records(self, played: Played) -> None:
        users = {played.user(s[0]) for s in played.case.steps}
        got = [r for r in self.records if r["user_id"] in users]
        assert len(got) == len(played.case.records), got
        for record in played.case.records:
            client = self.client(played.number, record.user, record.client)
            found = [
                r
                for r in got
                if r["user_id"] == played.user(record.user)
                and r["client_id"] == client
                and (r["connection_id"] == record.id if record.id != MADE_UP else not r["named"])
                and r["reason"] == record.reason
            ]
            assert len(found) == 1, (record, got)
            row = found[0]
            assert (row["logout_time"] is None) == (record.reason is None), row
            assert (None if row["idle"] is None else bool(row["idle"])) == record.idle, row
            _assert_time(played, row["last_activity"], record.last)

    def _assert_status(self, played: Played, user: str, expected: Any) -> None:
        got = self.recorder.status(played.user(user))
        if expected is None:
            assert got is None
            return
        assert got is not None, f"{user} has no status"
        assert got.pop("userId") == played.user(user)
        assert got.pop("since")
        assert got.pop("lastSeen")
        assert got.pop("version") >= 1
        login = got.pop("lastLogin", None)
        if "lastLogin" in expected:
            assert login["userAgent"] == expected["lastLogin"]["userAgent"]
        _assert_time(played, _millis(got.pop("lastActivity", None)), expected.get("lastActivity"))
        assert got == {k: v for k, v in expected.items() if k not in {"lastLogin", "lastActivity"}}

    def _events(self, played: Played) -> dict[str, list[str]]:
        named = {r["connection_id"]: r["named"] for r in self.records}
        told: dict[str, list[str]] = {}
        for user in {s[0] for s in played.case.steps}:
            for name, event in self.recorder.events(played.user(user)):
                assert event["userId"] == played.user(user)
                words = name
                if "connectionId" in event:
                    client = event["clientId"].split("-")[0]
                    shown = event["connectionId"] if named[event["connectionId"]] else MADE_UP
                    words += f" {client}/{shown}"
                told.setdefault(user, []).append(words)
        return told


def _by_user(events: tuple[str, ...]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for event in events:
        user, _, rest = event.partition(" ")
        told.setdefault(user, []).append(rest)
    return told


def _assert_time(played: Played, got: int | None, expected: Any) -> None:
    match expected:
        case None:
            assert got is None
        case At():
            assert got == played.base + expected.ms
        case Received():
            assert got is not None
            assert played.said_at[expected.ms] <= got <= played.done_at


_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def _millis(text: str | None) -> int | None:
    """Read a time as the contract writes it, and no other way."""
    if text is None:
        return None
    assert _ISO.fullmatch(text), text
    from datetime import datetime

    millis = round(datetime.fromisoformat(text).timestamp() * 1000)
    assert to_iso(millis) == text
    return millis
