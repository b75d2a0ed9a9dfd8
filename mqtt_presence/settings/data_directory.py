"""The user's data directory: the default location of the database and of the embedded broker's passwords."""

from pathlib import Path

from platformdirs import user_data_path

from mqtt_presence.errors import ConfigError


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


def default_database() -> str:
    """Return the URL of the default database; empty without a home directory."""
    try:
        return f"sqlite:///{data_directory() / 'presence.db'}"
    except ConfigError:
        return ""
