"""Guessing passwords: one account of it, whichever door is tried."""

from pathlib import Path

import pytest

from mqtt_presence import gate
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig, add_user
from mqtt_presence.store import Store
from mqtt_presence.web import WebConfig, WebServer
from tests.embedded.wire import Wire
from tests.support.web import basic, get


def test_wrong_passwords_at_the_page_count_too(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After some wrong ones the right one is not looked at either, there and at the broker; others get in."""
    monkeypatch.setattr(gate, "WRONG_FOR_ONE", (3, 0.001))
    passwords = tmp_path / "passwords"
    for user in ("alice", "bob", "carol"):
        add_user(passwords, user, "right")
    operators = frozenset({"alice", "bob", "carol"})
    config = EmbeddedConfig(port=0, open=False, password_file=passwords, operators=operators)
    store = Store(sqlite_url)
    store.open()
    store.close()
    with (
        EmbeddedBroker(config) as broker,
        WebServer(WebConfig(sqlite_url, port=0, open=False, operators=operators), broker) as page,
    ):

        def asks(user: str, password: str) -> int:
            return get(page.port, "/api/users", **basic(user, password)).status

        assert asks("carol", "right") == 200
        for user in ("alice", "carol"):
            assert [asks(user, f"guess{n}") for n in range(4)] == [401] * 4
        assert asks("alice", "right") == 401
        assert Wire(broker.port).connect("alice", "phone", password="right") == 3
        assert asks("bob", "right") == 200
        assert asks("carol", "right") == 200, "she was let in before"
    assert "too many wrong passwords from address=127.0.0.1" in caplog.text
    assert "guess" not in caplog.text
