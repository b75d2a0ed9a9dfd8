"""The user's data directory: the default location of the database and of the embedded broker's passwords."""

import os
import secrets
from pathlib import Path

from platformdirs import user_data_path

from mqtt_presence.errors import ConfigError

_TOKEN_BYTES = 16


def data_directory() -> Path:
    """Return the path of the data directory, which may not exist yet.

    Raises:
        ConfigError: the user has no home directory.

    """
    try:
        return user_data_path("mqtt-presence")
    except RuntimeError:
        raise ConfigError(
            "there is no home directory for the data directory: set HOME or XDG_DATA_HOME, "
            "or give the paths of all files"
        ) from None


def make_data_directory() -> None:
    """Create the data directory, accessible to its owner only.

    Raises:
        ConfigError: the user has no home directory.
        OSError: the directory cannot be created.

    """
    data_directory().mkdir(mode=0o700, parents=True, exist_ok=True)


def web_token_file() -> Path:
    """Return the path of the token that `up` makes for the operators of its page.

    Raises:
        ConfigError: the user has no home directory.

    """
    return data_directory() / "web-token"


def kept_web_token() -> tuple[str, bool]:
    """Return the token in the data directory, and whether it was made just now.

    Raises:
        ConfigError: the file cannot be made or read, or has no token.

    """
    path = web_token_file()
    try:
        make_data_directory()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                token = secrets.token_urlsafe(_TOKEN_BYTES)
                file.write(f"{token}\n")
                return token, True
        except FileExistsError:
            token = path.read_text("ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"the token of the page cannot be kept in {path}: {error}; set web_token"
        ) from error
    if len(token) < _TOKEN_BYTES:
        raise ConfigError(f"{path} has no token: remove the file, or set web_token")
    return token, False


def default_database() -> str:
    """Return the URL of the default database; empty without a home directory."""
    try:
        return f"sqlite:///{data_directory() / 'presence.db'}"
    except ConfigError:
        return ""
