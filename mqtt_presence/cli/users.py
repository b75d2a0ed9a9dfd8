"""``mqtt-presence users``: all users and their states, from the database."""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import typer
from msgspec.json import encode

from mqtt_presence.cli.output import (
    STYLES,
    Cell,
    format_last_seen,
    format_short_time,
    print_csv,
    print_json,
    print_line,
    print_table,
)
from mqtt_presence.cli.setting_options import with_settings
from mqtt_presence.protocol.outgoing import StatusOut, status_out
from mqtt_presence.rules.model import State, UserPresence
from mqtt_presence.settings import Settings
from mqtt_presence.store.reader import Reader

_COLUMNS = ("USER", "STATE", "SINCE", "LAST LOGIN", "LAST SEEN", "CONNECTIONS")
_PRIVATE = ("ADDRESS", "USER AGENT")


@with_settings("database")
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
        bool, typer.Option("--private", help="Show addresses and user agents of the last logins.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, as in status/<user>.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV with the fields of --json, for spreadsheets.")
    ] = False,
) -> None:
    """Show all users and their states.

    Users who are online come first. A question mark after the state means that reports of the broker were
    lost: the connections may have ended. The data come from the database, so the bridge need not run.

    Exit codes: 0 shown, even without users; 1 the database cannot be read; 2 a setting is wrong.
    """
    with Reader(settings.database) as reader:
        users = reader.users(state, matching=match)
        first = next(users, None)
        found = users if first is None else chain([first], users)
        if as_json:
            for user in found:
                print_json(encode(_status(user, private)))
        elif as_csv:
            print_csv(StatusOut, (_status(user, private) for user in found))
        elif first is not None:
            columns = (*_COLUMNS, *(_PRIVATE if private else ()))
            doubtful = reader.unconfirmed_users()
            rows = (tuple(_row(user, private, is_certain=user.user_id not in doubtful)) for user in found)
            print_table(columns, rows)
        else:
            print_line(_nobody(state, match))


def _nobody(state: State | None, match: str | None) -> str:
    if match is not None:
        return f"No user matches {match}" + ("." if state is None else f" and is {state}.")
    return "There are no users." if state is None else f"No user is {state}."


def _status(user: UserPresence, private: bool) -> StatusOut:
    assert user.status is not None
    return status_out(
        user.user_id, user.status, version=user.version, last_seen=user.last_seen, private=private
    )


def _row(user: UserPresence, private: bool, *, is_certain: bool) -> Iterator[Cell]:
    status = user.status
    assert status is not None
    login = status.last_login
    yield Cell(user.user_id, "" if status.online else STYLES[State.OFFLINE])
    yield Cell(status.state if is_certain else f"{status.state} ?", STYLES[status.state])
    yield Cell(format_short_time(status.since))
    yield Cell(format_short_time(None if login is None else login.date))
    yield Cell(format_last_seen(status.state, user.last_seen, status.last_activity))
    yield Cell(status.connections)
    if private:
        yield Cell((login and login.ip_addr) or "-")
        yield Cell((login and login.user_agent) or "-")
