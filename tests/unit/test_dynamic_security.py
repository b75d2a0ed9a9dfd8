"""Answers of mosquitto's dynamic-security plugin, in the form of the sources of 2.0 and 2.1."""

import json
from typing import Any

import pytest

from mqtt_presence.adapters.brokers.dynamic_security import UserSessions, answer, question
from mqtt_presence.errors import BrokerError

TOKEN = "0123456789abcdef"


def client(user: str, *addresses: str | None, **fields: Any) -> dict[str, Any]:
    """One response of 2.1 to `getClient`."""
    sessions = [{} if address is None else {"address": address} for address in addresses]
    found = {"username": user, "roles": [{"rolename": "device"}], "groups": [], "connections": sessions}
    return {"command": "getClient", "data": {"client": found | fields}, "correlationData": TOKEN}


def unknown(_user: str) -> dict[str, Any]:
    return {"command": "getClient", "error": "Client not found", "correlationData": TOKEN}


def encoded(*responses: dict[str, Any]) -> bytes:
    return json.dumps({"responses": responses}).encode()


def test_question_names_each_user() -> None:
    """One command for each user; names are escaped, and the token comes back with each response."""
    asked = json.loads(question(['a"b', "ü"], TOKEN))
    assert asked == {
        "commands": [
            {"command": "getClient", "username": 'a"b', "correlationData": TOKEN},
            {"command": "getClient", "username": "ü", "correlationData": TOKEN},
        ]
    }


def test_recorded_answer_is_read() -> None:
    """Addresses in their usual form; a user that the plugin does not know is missing; others' responses are skipped."""
    theirs = client("mallory") | {"correlationData": "another"}
    payload = encoded(
        client("alice", "192.0.2.1", "::ffff:192.0.2.2"),
        unknown("bob"),
        client("carol", clientid="c1"),
        client("dora", None, "(null)"),
        theirs,
    )
    assert answer(payload, TOKEN) == {
        "alice": UserSessions(frozenset({"192.0.2.1", "192.0.2.2"})),
        "carol": UserSessions(frozenset(), "c1"),
        "dora": UserSessions(frozenset({None})),
    }
    assert answer(encoded(theirs), TOKEN) is None
    assert answer(encoded(unknown("bob")), TOKEN) == {}


def test_answers_that_decide_nothing_are_errors() -> None:
    """Mosquitto 2.0 lists no connections; a broker of 2.1 without the plugin; junk."""
    old = client("alice")
    del old["data"]["client"]["connections"]
    for payload, words in (
        (encoded(old), "from 2.1 on"),
        (encoded(client("bob"), old), "from 2.1 on"),
        (b'{"error": "endpoint not available"}', "endpoint not available"),
        (b"<html>", "cannot be read"),
        (b'{"responses": 7}', "cannot be read"),
    ):
        with pytest.raises(BrokerError, match=words):
            answer(payload, TOKEN)


@pytest.mark.parametrize(
    ("sessions", "is_proof"),
    [
        (UserSessions(frozenset()), True),
        (UserSessions(frozenset({"192.0.2.1"})), False),
        (UserSessions(frozenset({"192.0.2.9"})), True),
        (UserSessions(frozenset({"192.0.2.9", None})), False),
        (UserSessions(frozenset(), "a1"), True),
        (UserSessions(frozenset(), "a2"), False),
    ],
)
def test_only_certain_ends_are_proved(sessions: UserSessions, *, is_proof: bool) -> None:
    """No session at all, or none from the address; a user bound to another client id proves nothing."""
    assert sessions.proves_end("a1", "192.0.2.1") is is_proof
    assert sessions.proves_end("a1", None) is (is_proof and not sessions.addresses)
