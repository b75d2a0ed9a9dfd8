"""``mqtt-presence history``: the connections of a user or of everybody, from the database."""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import typer

from mqtt_presence.cli.output import (
    STYLES,
    Cell,
    format_duration,
    format_short_time,
    print_csv,
    print_error,
    print_json,
    print_line,
    print_table,
)
from mqtt_presence.cli.setting_options import with_settings
from mqtt_presence.protocol.outgoing import ConnectionOut, connection_out, encode_connection
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.rules.model import Connection, State
from mqtt_presence.settings import Settings, parse_duration
from mqtt_presence.store.reader import Reader

_COLUMNS = ("CLIENT", "LOGIN", "LOGOUT", "DURATION", "REASON", "IDLE")
_PRIVATE = ("ADDRESS", "USER AGENT")
_IDLE = {None: "-", False: "no", True: "yes"}


@with_settings("database")
def command(
    settings: Settings,
    user: Annotated[
        str | None,
        typer.Argument(help="The user whose connections to show; default: all users.", show_default=False),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", help="The maximum number of connections to show.", min=1, max=1_000_000)
    ] = 50,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Only connections that were open within this time before now, e.g. 24h.",
            metavar="DURATION",
            show_default=False,
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Show addresses and user agents; with --json also meta.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV with the fields of --json, for spreadsheets.")
    ] = False,
) -> None:
    """Show the connections of a user, or of everybody.

    A user's newest connection comes first. Of all users, the open connections come first, by user, and then
    the ended ones, the last end first. --json and --csv have the connection ids, too. The data come from the
    database, so the bridge need not run.

    Exit codes: 0 shown; 1 the user is unknown, or the database cannot be read; 2 a setting is wrong.
    """
    now = wall_clock()
    earliest = None if since is None else now - round(parse_duration("since", since) * 1000)
    with Reader(settings.database) as reader:
        if user is None:
            records = reader.latest(limit=limit, since=earliest)
        elif reader.has_user(user):
            records = reader.history(user, limit=limit, since=earliest)
        else:
            print_error(f"there is no user {user}")
            raise typer.Exit(1)
        first = next(records, None)
        found = records if first is None else chain([first], records)
        if as_json:
            for record in found:
                print_json(encode_connection(record, private=private))
        elif as_csv:
            print_csv(ConnectionOut, (connection_out(record, private=private) for record in found))
        elif first is not None:
            columns = (*(("USER",) if user is None else ()), *_COLUMNS, *(_PRIVATE if private else ()))
            print_table(columns, (tuple(_row(record, now, private, user)) for record in found))
        else:
            of = "" if user is None else f" of {user}"
            print_line(f"There are no connections{of}" + (" in that time." if since else "."))


def _reason(record: Connection) -> str:
    """Return the reason of the end, and the cause that the broker reported."""
    if record.cause is None:
        return record.reason or "-"
    return f"{record.reason or '-'} ({record.cause})"


def _row(record: Connection, now: int, private: bool, user: str | None) -> Iterator[Cell]:
    state = State.OFFLINE if not record.is_open else State.IDLE if record.idle else State.ONLINE
    until = now if record.logout_time is None else record.logout_time
    if user is None:
        yield Cell(record.user_id)
    yield Cell(record.client_id)
    yield Cell(format_short_time(record.login_time))
    yield Cell("open" if record.is_open else format_short_time(record.logout_time), STYLES[state])
    yield Cell("-" if record.login_time is None else format_duration(until - record.login_time))
    yield Cell(_reason(record))
    yield Cell(_IDLE[record.idle])
    if private:
        yield Cell(record.ip_addr or "-")
        yield Cell(record.user_agent or "-")
