"""``mqtt-presence seats``: which process holds which seat, and which processes wait for one."""

from typing import Annotated

import typer
from msgspec.json import encode

from mqtt_presence.cli.output import Cell, format_short_time, print_json, print_table
from mqtt_presence.cli.setting_options import with_settings
from mqtt_presence.settings import Settings
from mqtt_presence.store.seat_reader import SeatReader, SeatState

_COLUMNS = ("SEAT", "NODE", "RELEASE", "SINCE", "BEHIND")


@with_settings("database")
def command(
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show the seats of the database, and the processes that wait for one.

    BEHIND is the age of the last moment up to which the messages of the seat are processed. It grows while a
    seat is vacant. Of SQLite only the holder is known.

    Exit codes: 0 shown; 1 the database cannot be read; 2 a setting is wrong.
    """
    with SeatReader(settings.database) as reader:
        seats = reader.seats()
    if as_json:
        for seat in seats:
            print_json(encode(seat))
    else:
        print_table(_COLUMNS, [_row(seat) for seat in seats])


def _row(seat: SeatState) -> list[Cell]:
    name = "waiting" if seat.seat is None else str(seat.seat)
    return [
        Cell(f"{name} (leaving)" if seat.leaving else name),
        Cell("vacant", "red") if seat.node is None else Cell(seat.node),
        Cell(seat.release or "-"),
        Cell(format_short_time(seat.since)),
        Cell("-" if seat.behind_ms is None else f"{seat.behind_ms / 1000:.1f} s"),
    ]
