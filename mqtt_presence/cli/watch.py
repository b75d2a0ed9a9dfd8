"""``mqtt-presence watch``: show all users' states live, from the broker."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Protocol

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mqtt_presence.cli import logs
from mqtt_presence.cli.output import (
    STYLES,
    cell,
    console,
    counted,
    format_duration,
    format_last_seen,
    format_time,
    on_terminal,
    print_error,
    print_json,
    print_line,
    table,
)
from mqtt_presence.cli.setting_options import TLS, with_settings
from mqtt_presence.cli.signals import Interrupts, until_interrupted
from mqtt_presence.cli.status_json import encode, millis
from mqtt_presence.client import Change, StatusWatcher
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.client_messages import UserStatus
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.rules.model import State
from mqtt_presence.settings import Settings, path_text

_COLUMNS = ("USER", "STATE", "SINCE", "FOR", "LAST SEEN", "CONNECTIONS")
_PRIVATE = ("ADDRESS", "USER AGENT")
_ORDER = {State.ONLINE: 0, State.IDLE: 1, State.OFFLINE: 2}
_CHECK_EVERY_S = 0.2
_DRAW_EVERY_S = 1.0
_ROWS_BESIDE = 4


@with_settings("broker", "prefix", *TLS)
def command(
    settings: Settings,
    private: Annotated[
        bool, typer.Option("--private", help="Show addresses and user agents, if the bridge publishes them.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object a line for each change, as in status/<user>."),
    ] = False,
) -> None:
    """Show who is online, live.

    Prints a table on a terminal, elsewhere a line for each change. With --json, the line of a forgotten user
    has only userId and version. The data come from the broker.

    Exit codes: 0 ended by a signal; 1 the broker cannot be reached or refuses the user; 2 a setting is wrong.
    """
    logs.errors_only()
    watcher = StatusWatcher(
        settings.broker,
        prefix=settings.prefix,
        keep_alive=settings.keep_alive,
        ca_file=path_text(settings.ca_file),
        cert_file=path_text(settings.cert_file),
        key_file=path_text(settings.key_file),
    )
    url = BrokerUrl.parse(settings.broker)
    with until_interrupted() as interrupts, _suggest_name(url):
        if as_json:
            _follow(watcher, _JsonLines(private))
        elif on_terminal():
            _draw(watcher, url, private, interrupts)
        else:
            _follow(watcher, _PlainLines(private))


@contextmanager
def _suggest_name(url: BrokerUrl) -> Iterator[None]:
    """Add advice to the error of a broker that requires a user name, as `up` does even when open."""
    try:
        yield
    except BrokerError as error:
        if url.username is None and "refuses" in str(error):
            raise BrokerError(f"{error}; try --broker {url.scheme}://NAME@{url.host}:{url.port}") from error
        raise


# Output as lines


class _Lines(Protocol):
    def change(self, change: Change) -> None: ...

    def bridge_change(self, text: str) -> None: ...


def _follow(watcher: StatusWatcher, lines: _Lines) -> None:
    changes = watcher.changes(timeout=_CHECK_EVERY_S)  # before connecting, so that no change is missed
    shown = ""
    with watcher:
        while True:
            for change in changes:
                lines.change(change)
                if _bridge_text(watcher) != shown:
                    break
            text = _bridge_text(watcher)
            if text != shown:
                shown = text
                lines.bridge_change(text)


class _JsonLines:
    def __init__(self, private: bool) -> None:
        self._private = private

    def change(self, change: Change) -> None:
        print_json(encode(change, private=self._private))

    def bridge_change(self, text: str) -> None:
        print_error(text)


class _PlainLines:
    def __init__(self, private: bool) -> None:
        self._private = private

    def change(self, change: Change) -> None:
        new = change.new
        if new is None:
            print_line(f"{format_time(wall_clock())}  {change.user_id}  forgotten")
            return
        parts = [format_time(millis(new.since)), new.user_id, new.state.value, _connections(new)]
        if new.last_activity is not None:
            parts.append(f"last activity {format_time(millis(new.last_activity))}")
        if self._private and new.last_login is not None:
            parts += [part for part in (new.last_login.ip_addr, new.last_login.user_agent) if part]
        print_line("  ".join(parts))

    def bridge_change(self, text: str) -> None:
        print_line(f"{format_time(wall_clock())}  {text}")


def _connections(status: UserStatus) -> str:
    return counted(status.connections, "connection")


def _bridge_text(watcher: StatusWatcher) -> str:
    if not watcher.connected:
        return "the connection to the broker is lost; the states shown may be outdated"
    return "the bridge is online" if watcher.bridge_connected else "the bridge is offline"


# Output as a table


def _draw(watcher: StatusWatcher, url: BrokerUrl, private: bool, interrupts: Interrupts) -> None:
    out = console()
    changed = threading.Event()
    with (
        watcher,
        watcher.observe(
            added=lambda _: changed.set(), changed=lambda *_: changed.set(), removed=lambda _: changed.set()
        ),
        Live(console=out, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        while True:
            with interrupts.deferred():  # shares locks with the watcher's thread
                changed.clear()
                users = watcher.snapshot()
            shown = sorted(users.values(), key=lambda user: (_ORDER[user.state], user.user_id))
            header = _header(url, watcher, Counter(user.state for user in shown))
            live.update(Group(header, *_body(shown, out.height - _ROWS_BESIDE, private)), refresh=True)
            draw_at = time.monotonic() + _DRAW_EVERY_S
            with interrupts.deferred():
                while (
                    not (interrupts.received or changed.wait(_CHECK_EVERY_S)) and time.monotonic() < draw_at
                ):
                    pass
            time.sleep(_CHECK_EVERY_S / 4)  # collects changes, to draw them together


def _header(url: BrokerUrl, watcher: StatusWatcher, counts: Counter[State]) -> Text:
    header = cell(url, "bold")
    if not watcher.connected:
        header.append("  connection lost, states may be outdated", "bold red")
    elif not watcher.bridge_connected:
        header.append("  bridge offline, states may be outdated", "bold red")
    elif watcher.stale:
        header.append("  catching up", "yellow")
    else:
        header.append("  bridge online", "green")
    for state in State:
        header.append(f"  {counts[state]} {state}", STYLES[state])
    return header


def _body(shown: list[UserStatus], max_rows: int, private: bool) -> list[Table | Text]:
    if not shown:
        return [cell("There are no users yet.")]
    now = wall_clock()
    out = console()
    drawn = table(out, *_COLUMNS, *(_PRIVATE if private else ()))
    for user in shown[: max(1, max_rows)]:
        since = millis(user.since)
        row = [
            cell(user.user_id, STYLES[user.state]),
            cell(user.state, STYLES[user.state]),
            cell(format_time(since)),
            cell("-" if since is None else format_duration(now - since)),
            cell(format_last_seen(user.state, millis(user.last_seen), millis(user.last_activity))),
            cell(user.connections),
        ]
        if private:
            row.append(cell((user.last_login and user.last_login.ip_addr) or "-"))
            row.append(cell((user.last_login and user.last_login.user_agent) or "-"))
        drawn.add_row(*row)
    hidden = len(shown) - max(1, max_rows)
    return [drawn, cell(f"and {hidden} more")] if hidden > 0 else [drawn]
