"""``mqtt-presence forget``: delete users from the database and their statuses from the broker."""

import time
from typing import Annotated

import typer

from mqtt_presence.bridge.recovery.discovery_settings import DISCOVERY, known_discovery
from mqtt_presence.cli import logs
from mqtt_presence.cli.broker_endpoint import endpoint_of
from mqtt_presence.cli.output import plain, print_error, print_line
from mqtt_presence.cli.setting_options import TLS, with_settings
from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.protocol.topics import Topics, is_name, require_stored_name
from mqtt_presence.protocol.watchers import fresh_watcher_id
from mqtt_presence.rules.model import UserId
from mqtt_presence.settings import Settings
from mqtt_presence.store import Store
from mqtt_presence.store.reader import Reader
from mqtt_presence.tools.status_removal import BridgeIsThereError, clear_retained

STATUS_REMAINS = 3
_NAMED = 10
_BRIDGE_S = 5.0
_LOOK_EVERY_S = 0.1


@with_settings("broker", "database", "prefix", *TLS)
def command(
    settings: Settings,
    users: Annotated[
        list[str] | None,
        typer.Argument(help="The users to forget.", metavar="USER", show_default=False),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            "--match",
            help="Also forget all users whose names match, e.g. 'sim-*'.",
            metavar="PATTERN",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete users with their records and statuses.

    A running bridge clears the statuses; otherwise, this command connects to the broker as the user in
    --broker. A user who is still connected comes back with the next sign of life. Many records are deleted in
    portions, so that the bridge can work in between. If interrupted, run the command again.

    Exit codes: 0 forgotten; 1 nothing deleted (a user is unknown, no user matches, or the answer was no), or
    the database cannot be used; 2 a setting is wrong; 3 the records are deleted, and the bridge will clear
    the statuses when it next runs.
    """
    logs.errors_only()
    if not users and match is None:
        raise ConfigError("name a user or give --match")
    user_ids = list(dict.fromkeys(UserId(require_stored_name("user", user)) for user in users or ()))
    with Reader(settings.database) as reader:
        found = [] if match is None else list(reader.matching_names(match))
        if match is not None and not found:
            print_error(f"there is no user like {match}")
        user_ids = list(dict.fromkeys([*user_ids, *found]))
        stored = reader.known_users(user_ids)
        known = [user_id for user_id in user_ids if user_id in stored]
        unknown = [u for u in user_ids if u not in stored and not reader.has_tombstone(u)]
    for user_id in unknown:
        print_error(f"there is no user {user_id}")
    if unknown or not user_ids:
        raise typer.Exit(1)
    if known and not yes:
        typer.confirm(f"Delete all records of {_listed(known)} permanently?", abort=True, err=True)
    store = Store(settings.database)
    try:
        for user_id in known:
            print_line(f"{user_id}: {store.forget(user_id) or 0} records deleted.")
        _clear(store, settings, user_ids)
    finally:
        store.close()


def _listed(user_ids: list[UserId]) -> str:
    more = len(user_ids) - _NAMED
    return plain(", ".join(user_ids[:_NAMED])) + (f" and {more} more users" if more > 0 else "")


def _clear(store: Store, settings: Settings, user_ids: list[UserId]) -> None:
    left = _await_bridge(settings.database, user_ids)
    for user_id in user_ids:
        if user_id not in left:
            print_line(f"{user_id}: the bridge has cleared the status.")
    while left:
        try:
            if is_name(left[0]):  # bridges publish no status for other names
                topics = Topics(settings.prefix)
                with store.transaction() as tx:
                    discovery = known_discovery(tx.read_value(DISCOVERY))
                cleared = [*discovery.topics(left[0]), topics.status(left[0])]
                clear_retained(endpoint_of(settings, fresh_watcher_id()), topics, cleared)
        except BridgeIsThereError as error:
            explanation = f"{error} and will clear it later"
        except BrokerError as error:
            explanation = f"{error}. The bridge will clear it when it next runs"
        else:
            with store.transaction() as tx:
                tx.mark_cleared(left[0], wall_clock())
            print_line(f"{left.pop(0)}: the status is cleared.")
            continue
        print_error(f"the status of {', '.join(left)} is not cleared yet: {explanation}.")
        raise typer.Exit(STATUS_REMAINS)


def _await_bridge(database: str, user_ids: list[UserId]) -> list[UserId]:
    """Wait for a running bridge to clear the statuses; return the users with uncleared ones."""
    deadline, left = time.monotonic() + _BRIDGE_S, user_ids
    with Reader(database) as reader:
        while uncleared := reader.uncleared(left):
            left = [user_id for user_id in left if user_id in uncleared]
            if time.monotonic() > deadline:
                return left
            time.sleep(_LOOK_EVERY_S)
    return []
