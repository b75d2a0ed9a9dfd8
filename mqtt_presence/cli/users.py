"""``mqtt-presence users``: who is here and who was, from the database."""

from typing import Annotated

import typer

from mqtt_presence.cli.options import with_settings
from mqtt_presence.cli.output import STYLES, cell, console, moment, say, say_json, table
from mqtt_presence.model import State, UserPresence
from mqtt_presence.payloads import encode_status
from mqtt_presence.settings import Settings
from mqtt_presence.store.queries import Reader

_COLUMNS = ("USER", "STATE", "SINCE", "LAST LOGIN", "LAST ACTIVITY", "CONNECTIONS")
_PRIVATE = ("ADDRESS", "USER AGENT")


@with_settings("database")
def command(
    settings: Settings,
    state: Annotated[
        State | None, typer.Option("--state", help="Only users in this state.", show_default=False)
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Show addresses and user agents of the last logins.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, as in status/<user>.")
    ] = False,
) -> None:
    """Show who is here and who was.

    All users, whoever is here first; from the database, whether or not the bridge runs.

    Exit codes: 0 shown, also when there are none; 1 the database cannot be read; 2 a setting is wrong.
    """
    with Reader(settings.database) as reader:
        found = reader.users(state)
    if as_json:
        for user in found:
            say_json(_encode(user, private))
    elif found:
        _show(found, private)
    else:
        say("There are no users." if state is None else f"Nobody is {state}.")


def _encode(user: UserPresence, private: bool) -> bytes:
    assert user.status is not None
    return encode_status(
        user.user_id, user.status, version=user.version, last_seen=user.last_seen, private=private
    )


def _show(found: list[UserPresence], private: bool) -> None:
    out = console()
    shown = table(out, *_COLUMNS, *(_PRIVATE if private else ()))
    for user in found:
        status = user.status
        assert status is not None
        login = status.last_login
        row = [
            cell(user.user_id, "" if status.online else STYLES[State.OFFLINE]),
            cell(status.state, STYLES[status.state]),
            cell(moment(status.since)),
            cell(moment(None if login is None else login.date)),
            cell(moment(status.last_activity)),
            cell(status.connections),
        ]
        if private:
            row.append(cell((login and login.ip_addr) or "-"))
            row.append(cell((login and login.user_agent) or "-"))
        shown.add_row(*row)
    out.print(shown)
