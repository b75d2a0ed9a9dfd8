"""Guessing passwords: one account of it, whichever door is tried, and whoever is in between."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mqtt_presence.access import password_attempts
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig, add_user
from mqtt_presence.store import Store
from mqtt_presence.web import WebConfig, WebServer
from tests.embedded.wire import Wire
from tests.support.web import basic, get, mqtt_connect, websocket

OPERATORS = frozenset({"alice", "bob", "carol"})


@contextmanager
def house(directory: Path, *, proxy: bool = False) -> Iterator[tuple[EmbeddedBroker, WebServer]]:
    """Run broker and page, with passwords that are all the same."""
    passwords = directory / "passwords"
    for user in OPERATORS:
        add_user(passwords, user, "right")
    database = f"sqlite:///{directory / 'presence.db'}"
    store = Store(database)
    store.open()
    store.close()
    config = EmbeddedConfig(port=0, open=False, password_file=passwords, operators=OPERATORS)
    with (
        EmbeddedBroker(config) as broker,
        WebServer(WebConfig(database, port=0, open=False, operators=OPERATORS, proxy=proxy), broker) as page,
    ):
        yield broker, page


def test_wrong_passwords_at_the_page_count_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After some wrong ones the right one is not looked at either, there and at the broker; others get in."""
    monkeypatch.setattr(password_attempts, "WRONG_FOR_ONE", (3, 0.001))
    with house(tmp_path) as (broker, page):

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


def test_wrong_passwords_at_the_page_do_not_fill_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line for each kind, names cut; that a password was wrong is said only if it was looked at."""
    monkeypatch.setattr(password_attempts, "WRONG_FOR_ONE", (2, 0.001))
    with house(tmp_path) as (_, page), caplog.at_level(logging.INFO):
        for _ in range(6):
            for user in ("alice", "n" * 700):
                assert get(page.port, "/api/users", **basic(user, "guess")).status == 401
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("refused")]
    assert said == [
        "refused at the page address=127.0.0.1 user='alice': wrong password",
        f"refused at the page address=127.0.0.1 user='{'n' * 300}'…: nobody of that name can be let in",
        "refused at the page address=127.0.0.1 user='alice': not looked at, too many wrong passwords from there",
    ]


def test_a_stranger_behind_the_proxy_shuts_out_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `web_proxy` each is counted by the own address, at the page and over its WebSocket."""
    monkeypatch.setattr(password_attempts, "WRONG_IN_ALL", (3, 0.001))
    with house(tmp_path, proxy=True) as (broker, page):

        def asks(password: str, forwarded: str) -> int:
            headers = basic("alice", password) | {"x-forwarded-for": forwarded}
            return get(page.port, "/api/users", **headers).status

        # What the stranger writes itself stands before what the proxy adds.
        assert [asks("guess", f"198.51.100.{n}, 203.0.113.7") for n in range(3)] == [401] * 3
        assert asks("right", "198.51.100.9, 203.0.113.7") == 401, "it is not looked at"
        with websocket(page.port, forwarded="203.0.113.7") as stranger:
            stranger.send(mqtt_connect("tv", "bob", "right"))
            assert stranger.recv() == b"\x20\x02\0\3"
        with websocket(page.port, forwarded="203.0.113.8") as bob:
            bob.send(mqtt_connect("tv", "bob", "right"))
            assert bob.recv() == b"\x20\x02\0\0"
            assert broker.client_address("bob", "tv") == "203.0.113.8"
        assert asks("right", "203.0.113.8") == 200
        assert Wire(broker.port).connect("carol", "phone", password="right") == 0
