"""``mqtt-presence watch``: show all users' states live, from the broker."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from mqtt_presence.cli import logs
from mqtt_presence.cli.broker_endpoint import broker_url
from mqtt_presence.cli.output import counted, format_time, on_terminal, print_error, print_json, print_line
from mqtt_presence.cli.setting_options import TLS, with_settings
from mqtt_presence.cli.signals import on_end_signals, until_interrupted
from mqtt_presence.cli.status_json import encode, millis
from mqtt_presence.cli.user_filter import UserFilter
from mqtt_presence.client import Change, StatusWatcher
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.client_messages import UserStatus
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.rules.model import State
from mqtt_presence.settings import Settings, path_text

if TYPE_CHECKING:
    from mqtt_presence.cli.watch_screen import WatchScreen

_CHECK_EVERY_S = 0.2
_STANDARD_OUTPUT = 1


@with_settings("broker", "prefix", *TLS)
def command(
    settings: Settings,
    state: Annotated[
        State | None, typer.Option("--state", help="Only users in this state.", show_default=False)
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            "--match",
            help="Only users whose names match, e.g. 'pump-*'.",
            metavar="PATTERN",
            show_default=False,
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Show addresses and user agents, if the bridge publishes them.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object a line for each change, as in status/<user>."),
    ] = False,
) -> None:
    """Show who is online, live.

    Shows a table on a terminal, with its keys in the last line; elsewhere prints a line for each change. With
    --state, a user's change to another state is printed, too. With --json, the line of a forgotten user has
    only userId and version. The data come from the broker.

    Exit codes: 0 ended by a signal; 1 the broker cannot be reached or refuses the user; 2 a setting is wrong.
    """
    logs.errors_only()
    chosen = UserFilter(state, match)
    url = broker_url(settings)
    watcher = StatusWatcher(
        url,
        prefix=settings.prefix,
        keep_alive=settings.keep_alive,
        ca_file=path_text(settings.ca_file),
        cert_file=path_text(settings.cert_file),
        key_file=path_text(settings.key_file),
    )
    with until_interrupted(), _suggest_name(url):
        if as_json:
            _follow(watcher, _JsonLines(private), chosen)
        elif on_terminal():
            from mqtt_presence.cli.watch_screen import WatchScreen  # noqa: PLC0415, slow to import

            _show(watcher, WatchScreen(watcher, url, chosen, private=private))
        else:
            _follow(watcher, _PlainLines(private), chosen)


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


def _follow(watcher: StatusWatcher, lines: _Lines, chosen: UserFilter) -> None:
    changes = watcher.changes(timeout=_CHECK_EVERY_S)  # before connecting, so that no change is missed
    shown = ""
    with watcher:
        while True:
            for change in changes:
                if any(user is not None and chosen.takes(user.user_id, user.state) for user in change):
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


# Output on a screen


def _show(watcher: StatusWatcher, screen: "WatchScreen") -> None:
    def end() -> None:
        if os.isatty(_STANDARD_OUTPUT):
            screen.stop()
        else:
            os._exit(0)  # The terminal was closed: the screen would wait for ever to write its end.

    with watcher, watcher.waking(screen.changed), on_end_signals(end):
        screen.run()
