"""``mqtt-presence forget``: delete all that is known of a user, in the database and on the broker."""

import time
from typing import Annotated

import typer

from mqtt_presence.bridge import wall_clock
from mqtt_presence.cli import logs
from mqtt_presence.cli.options import TLS, with_settings
from mqtt_presence.cli.output import complain, plain, say
from mqtt_presence.cli.tombstone import BridgeIsThereError, clear_status
from mqtt_presence.errors import BrokerError, StoreError
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
    user: Annotated[str, typer.Argument(help="Whom to forget.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget a user: delete the records, and clear the retained status.

    The bridge clears it if it runs; else this command goes to the broker itself, as the user in --broker. Who
    is connected comes back with the next sign of life. Exit codes: 0 forgotten; 1 there is no such user, the
    answer was no, or the database cannot be used; 2 a setting is wrong; 3 the records are deleted, and the
    bridge will clear the status when it next runs.
    """
    logs.quiet()
    user_id = UserId(require_name("user", user))
    with Reader(settings.database) as reader:
        known = reader.knows(user_id)
        pending = reader.has_tombstone(user_id)
    if not known and not pending:
        complain(f"there is no user {user}")
        raise typer.Exit(1)
    if known and not yes:
        typer.confirm(f"Delete all records of {plain(user)}, for ever?", abort=True, err=True)
    store = Store(settings.database)
    try:
        if known:
            _delete(store, user_id)
        _clear(store, settings, user_id)
    finally:
        store.close()


def _delete(store: Store, user_id: UserId) -> None:
    try:
        records = _delete_once(store, user_id)
    except StoreError as error:
        if not error.transient:
            raise
        # A bridge that hears of this very user may be in the way, and PostgreSQL has one of the two give way.
        records = _delete_once(store, user_id)
    say(f"{user_id}: {records or 0} records deleted.")


def _delete_once(store: Store, user_id: UserId) -> int | None:
    with store.transaction() as tx:
        return tx.forget(user_id)


def _clear(store: Store, settings: Settings, user_id: UserId) -> None:
    if _bridge_clears(settings.database, user_id):
        say(f"{user_id}: the bridge has cleared the status.")
        return
    try:
        clear_status(settings, user_id)
    except BridgeIsThereError as error:
        later = f"{error} and has not come to it yet: it will"
    except BrokerError as error:
        later = f"{error}. The bridge will do it when it next runs"
    else:
        with store.transaction() as tx:
            tx.bury(user_id, wall_clock())
        say(f"{user_id}: the status is cleared.")
        return
    complain(f"the status of {user_id} is not cleared yet: {later}.")
    raise typer.Exit(STATUS_REMAINS)


def _bridge_clears(database: str, user_id: UserId) -> bool:
    """Give a bridge the time to see the tombstone, to publish, and to hear that the broker has it."""
    deadline = time.monotonic() + _BRIDGE_S
    with Reader(database) as reader:
        while reader.has_tombstone(user_id):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_EVERY_S)
    return True
