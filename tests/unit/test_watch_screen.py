"""The screen of ``watch``: rows, filter, state, order and keys, on a screen without a terminal."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from textual.pilot import Pilot

from mqtt_presence.cli.user_filter import UserFilter
from mqtt_presence.cli.watch_screen import Order, WatchScreen, sorted_users
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.client_messages import UserStatus
from mqtt_presence.rules.model import State

ALL = UserFilter()
NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def status(user: str, state: State, minutes: int, version: int = 1) -> UserStatus:
    since = NOON + timedelta(minutes=minutes)
    online = state is not State.OFFLINE
    return UserStatus(
        user_id=user,
        state=state,
        online=online,
        idle=None if not online else state is State.IDLE,
        since=since,
        last_seen=since,
        connections=int(online),
        version=version,
    )


class Watched:
    connected = bridge_connected = True
    stale = False

    def __init__(self, *users: UserStatus) -> None:
        self.users = {user.user_id: user for user in users}

    def snapshot(self) -> dict[str, UserStatus]:
        return dict(self.users)


def three() -> Watched:
    return Watched(
        status("amy", State.ONLINE, 1), status("bob", State.OFFLINE, 3), status("Zoe", State.IDLE, 2)
    )


def play(
    watched: Watched,
    scene: Callable[[WatchScreen, Pilot[None]], Awaitable[None]],
    chosen: UserFilter = ALL,
    size: tuple[int, int] = (80, 24),
) -> None:
    async def run() -> None:
        screen = WatchScreen(watched, BrokerUrl.parse("mqtt://me:secret@localhost"), chosen, private=False)
        async with screen.run_test(size=size) as pilot:
            await pilot.pause()
            await scene(screen, pilot)

    asyncio.run(run())


def names(screen: WatchScreen) -> list[str]:
    return [screen.table.get_row_at(at)[0].plain for at in range(screen.table.row_count)]


def text(screen: WatchScreen, part: str) -> str:
    return str(screen.query_one(f"#{part}").render())


def test_newest_change_is_first_and_the_keys_change_order_and_state() -> None:
    """`o` goes through the orders, `s` through the states, Escape back to all."""

    async def scene(screen: WatchScreen, pilot: Pilot[None]) -> None:
        assert names(screen) == ["bob", "Zoe", "amy"]
        await pilot.press("o")
        assert names(screen) == ["Zoe", "amy", "bob"]
        await pilot.press("o")
        assert names(screen) == ["amy", "Zoe", "bob"]
        assert "by state" in text(screen, "count")
        await pilot.press("s")
        assert names(screen) == ["amy"]
        assert "1 of 3 users, online only" in text(screen, "count")
        await pilot.press("s")
        assert names(screen) == ["Zoe"]
        await pilot.press("escape")
        assert len(names(screen)) == 3

    play(three(), scene)


def test_filter_finds_parts_of_names_and_patterns() -> None:
    """A part in any case, or a pattern; keys belong to the text while it is written; Enter keeps the filter."""

    async def scene(screen: WatchScreen, pilot: Pilot[None]) -> None:
        await pilot.press("slash", "z", "O")
        assert names(screen) == ["Zoe"]
        await pilot.press("enter", "s")
        assert names(screen) == []
        await pilot.press("escape", "slash", "*", "b")
        assert names(screen) == ["bob"]
        await pilot.press("escape")
        assert len(names(screen)) == 3

    play(three(), scene)


def test_changes_are_drawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed, a new and a forgotten user; the selected row stays selected."""
    watched = three()

    async def scene(screen: WatchScreen, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down")
        assert screen.table.cursor_row == 2
        watched.users["amy"] = status("amy", State.OFFLINE, 9, version=2)
        watched.users["new"] = status("new", State.ONLINE, 8)
        del watched.users["bob"]
        screen.changed()
        await pilot.pause(0.5)
        assert names(screen) == ["amy", "new", "Zoe"]
        assert screen.table.get_row_at(0)[1].plain == "offline"
        assert screen.table.cursor_row == 2
        watched.connected = False
        screen.changed()
        await pilot.pause(0.5)
        assert "connection lost" in text(screen, "state")
        assert "secret" not in text(screen, "state")
        watched.users.clear()
        screen.changed()
        await pilot.pause(0.5)
        assert (names(screen), text(screen, "count")) == ([], "There are no users yet.")

    play(watched, scene)


def test_names_are_shown_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """No markup, and no characters that a terminal obeys."""
    evil = "e\u202e[red]x"

    async def scene(screen: WatchScreen, _pilot: Pilot[None]) -> None:
        assert names(screen) == ["e\\u202e[red]x"]

    play(Watched(status(evil, State.ONLINE, 1)), scene)


def test_very_many_users_are_found_by_the_filter() -> None:
    """The table has the first thousand, and says so; the filter looks at all."""
    watched = Watched(*(status(f"user{n:05}", State.ONLINE, 1) for n in range(3000)))

    async def scene(screen: WatchScreen, pilot: Pilot[None]) -> None:
        assert screen.table.row_count == 1000
        assert "the first 1000: press / to find others" in text(screen, "count")
        await pilot.press("slash", *"02999")
        assert names(screen) == ["user02999"]

    play(watched, scene)


def test_table_fits_80_columns() -> None:
    """With names of usual length nothing must be scrolled sideways."""

    async def scene(screen: WatchScreen, _pilot: Pilot[None]) -> None:
        assert screen.table.virtual_size.width <= 80

    play(Watched(*(status(f"pump-{n:02}-hall", state, n) for n, state in enumerate(State))), scene)


def test_screen_ends_by_key_and_by_stop() -> None:
    """`q`, Ctrl-C, and the flag that a signal sets."""
    for key in ("q", "ctrl+c", None):

        async def scene(screen: WatchScreen, pilot: Pilot[None], key: str | None = key) -> None:
            if key is None:
                screen.stop()
                await pilot.pause(0.5)
            else:
                await pilot.press(key)
            assert not screen.is_running or screen._exit

        play(three(), scene)


def test_options_choose_the_users_at_first() -> None:
    async def scene(screen: WatchScreen, pilot: Pilot[None]) -> None:
        assert names(screen) == ["amy"]
        await pilot.press("slash", "b", "escape")
        assert names(screen) == ["amy"]

    play(three(), scene, UserFilter(State.ONLINE, "a*"))


def test_orders_are_stable() -> None:
    users = {name: status(name, State.ONLINE, 1) for name in ("b", "a", "c")}
    for order in Order:
        assert [user.user_id for user in sorted_users(users, order)] == ["a", "b", "c"]
