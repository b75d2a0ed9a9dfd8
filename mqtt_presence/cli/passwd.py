"""``mqtt-presence passwd``: set or remove a password of the embedded broker."""

import sys
from typing import Annotated

import typer

from mqtt_presence.access.passwords import add_user, remove_user
from mqtt_presence.access.rights import BRIDGE_USER
from mqtt_presence.cli.output import plain, print_error, print_line
from mqtt_presence.cli.setting_options import with_settings
from mqtt_presence.errors import ConfigError
from mqtt_presence.settings import Settings
from mqtt_presence.settings.data_directory import make_data_directory


@with_settings("password_file")
def command(
    settings: Settings,
    user: Annotated[str, typer.Argument(help="The user whose password to set.", show_default=False)],
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the password from the first line of standard input.")
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove the user instead of setting a password.")
    ] = False,
) -> None:
    """Set a password of the embedded broker.

    Used by mqtt-presence up --no-open. A running broker reads the change at the next connection.

    Exit codes: 0 done; 1 with --delete: the user is unknown; 2 the name, password or file cannot be used.
    """
    path = settings.passwords
    if delete:
        if not remove_user(path, user):
            print_error(f"{user} is not in {path}")
            raise typer.Exit(1)
        print_line(f"{user} was removed from {path}.")
        return
    if user == BRIDGE_USER:
        raise ConfigError(f"user={user} is reserved for the bridge: choose another name")
    password = _read_line() if stdin else _ask(user)
    if settings.password_file is None:
        _create_data_directory()
    add_user(path, user, password)
    print_line(f"The password of {user} was set in {path}.")


def _create_data_directory() -> None:
    try:
        make_data_directory()
    except OSError as error:
        raise ConfigError(
            f"password_file is not set, and the data directory cannot be created: {error}"
        ) from error


def _read_line() -> str:
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError:
        raise ConfigError("--stdin: the password is not UTF-8") from None
    if not line:
        raise ConfigError("--stdin: there is no password on standard input")
    return line.rstrip("\r\n")


def _ask(user: str) -> str:
    password: str = typer.prompt(
        f"Password of {plain(user)}", hide_input=True, confirmation_prompt=True, err=True
    )
    return password
