"""``mqtt-presence forget``: delete all that is known of a user, in the database and on the broker."""

import time
from typing import Annotated

import typer

from mqtt_presence.bridge import wall_clock
from mqtt_presence.cli import logs
from mqtt_presence.cli.options import TLS, with_settings
from mqtt_presence.cli.output import complain, plain, say
from mqtt_presence.cli.tombstone import BridgeIsThereError, clear_status
from mqtt_presence.errors import BrokerError
from mqtt_presence.model import UserId
from mqtt_presence.settings import Settings
from mqtt_presence.store import Store
from mqtt_presence.store.queries import Reader
from mqtt_presence.topics import require_name

STATUS_REMAINS = 3
_BRIDGE_S = 5.0
_LOOK_EVERY_S = 0.1


@with_settings("broker", "database", "prefix", *TLS)
def command(
    settings: Settings,
    users: Annotated[
        list[str], typer.Argument(help="Whom to forget, one or many.", metavar="USER", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget users: delete the records, and clear the retained status.

    The bridge clears it if it runs; else this command goes to the broker itself, as the user in --broker. Who
    is connected comes back with the next sign of life. Exit codes: 0 forgotten; 1 one of them is unknown or
    the answer was no, and all are kept, or the database cannot be used; 2 a setting is wrong; 3 the records
    are deleted, and the bridge will clear the status when it next runs.
    """
    logs.quiet()
    user_ids = list(dict.fromkeys(UserId(require_name("user", user)) for user in users))
    with Reader(settings.database) as reader:
        known = [user_id for user_id in user_ids if reader.knows(user_id)]
        strangers = [u for u in user_ids if not reader.knows(u) and not reader.has_tombstone(u)]
    for user_id in strangers:
        complain(f"there is no user {user_id}")
    if strangers:
        raise typer.Exit(1)
    if known and not yes:
        typer.confirm(f"Delete all records of {plain(', '.join(known))}, for ever?", abort=True, err=True)
    store = Store(settings.database)
    try:
        for user_id in known:
            say(f"{user_id}: {store.forget(user_id) or 0} records deleted.")
        _clear(store, settings, user_ids)
    finally:
        store.close()


def _clear(store: Store, settings: Settings, user_ids: list[UserId]) -> None:
    left = _left_by_bridge(settings.database, user_ids)
    for user_id in user_ids:
        if user_id not in left:
            say(f"{user_id}: the bridge has cleared the status.")
    while left:
        try:
            clear_status(settings, left[0])
        except BridgeIsThereError as error:
            later = f"{error} and has not come to it yet: it will"
        except BrokerError as error:
            later = f"{error}. The bridge will do it when it next runs"
        else:
            with store.transaction() as tx:
                tx.bury(left[0], wall_clock())
            say(f"{left.pop(0)}: the status is cleared.")
            continue
        complain(f"the status of {', '.join(left)} is not cleared yet: {later}.")
        raise typer.Exit(STATUS_REMAINS)


def _left_by_bridge(database: str, user_ids: list[UserId]) -> list[UserId]:
    """Give a bridge the time to see the tombstones, to publish, and to hear that the broker has it."""
    deadline, left = time.monotonic() + _BRIDGE_S, user_ids
    with Reader(database) as reader:
        while left := [user_id for user_id in left if reader.has_tombstone(user_id)]:
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_EVERY_S)
    return left
