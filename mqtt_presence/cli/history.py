"""``mqtt-presence history``: a user's connections, from the database."""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import typer

from mqtt_presence.cli.output import STYLES, Cell, complain, duration, moment, print_table, say, say_json
from mqtt_presence.cli.setting_options import with_settings
from mqtt_presence.protocol.outgoing import encode_connection
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.rules.model import Connection, State
from mqtt_presence.settings import Settings
from mqtt_presence.settings import duration as read_duration
from mqtt_presence.store.reader import Reader

_COLUMNS = ("CLIENT", "CONNECTION", "LOGIN", "LOGOUT", "DURATION", "REASON", "IDLE")
_PRIVATE = ("ADDRESS", "USER AGENT")
_IDLE = {None: "-", False: "no", True: "yes"}


@with_settings("database")
def command(
    settings: Settings,
    user: Annotated[str, typer.Argument(help="Whose connections.", show_default=False)],
    limit: Annotated[int, typer.Option("--limit", help="How many at most.", min=1, max=1_000_000)] = 50,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Only those that were there in so long a time until now, e.g. 24h.",
            metavar="DURATION",
            show_default=False,
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Show addresses and user agents; with --json meta, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the connections of a user.

    The newest first; from the database, whether or not the bridge runs.

    Exit codes: 0 shown; 1 there is no such user, or the database cannot be read; 2 a setting is wrong.
    """
    now = wall_clock()
    earliest = None if since is None else now - round(read_duration("since", since) * 1000)
    with Reader(settings.database) as reader:
        if not reader.has_user(user):
            complain(f"there is no user {user}")
            raise typer.Exit(1)
        records = reader.history(user, limit=limit, since=earliest)
        first = next(records, None)
        found = records if first is None else chain([first], records)
        if as_json:
            for record in found:
                say_json(encode_connection(record, private=private))
        elif first is not None:
            columns = (*_COLUMNS, *(_PRIVATE if private else ()))
            print_table(columns, (tuple(_row(record, now, private)) for record in found))
        else:
            say(f"There are no connections of {user}" + (" in that time." if since else "."))


def _why(record: Connection) -> str:
    """Say the reason, and what the broker saw."""
    if record.cause is None:
        return record.reason or "-"
    return f"{record.reason or '-'} ({record.cause})"


def _row(record: Connection, now: int, private: bool) -> Iterator[Cell]:
    state = State.OFFLINE if not record.is_open else State.IDLE if record.idle else State.ONLINE
    until = now if record.logout_time is None else record.logout_time
    yield Cell(record.client_id)
    yield Cell(record.connection_id)
    yield Cell(moment(record.login_time))
    yield Cell("open" if record.is_open else moment(record.logout_time), STYLES[state])
    yield Cell("-" if record.login_time is None else duration(until - record.login_time))
    yield Cell(_why(record))
    yield Cell(_IDLE[record.idle])
    if private:
        yield Cell(record.ip_addr or "-")
        yield Cell(record.user_agent or "-")
