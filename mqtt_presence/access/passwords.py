"""The password file of the embedded broker: one ``user:argon2-hash`` a line, in amqtt's own format."""

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from mqtt_presence.errors import ConfigError
from mqtt_presence.protocol.topics import require_name

_HASHER = PasswordHash((Argon2Hasher(),))


def add_user(path: Path, user: str, password: str) -> None:
    """Add a user to the password file, or give the user a new password.

    Args:
        path: the file, which is replaced as a whole and readable by its owner only.
        user: a name that fits into a topic (docs/protocol.md, "Topics").
        password: for the user's logins.

    Raises:
        ConfigError: the name or the password is not allowed, or the file cannot be read or written.

    """
    require_name("user", user)
    if ":" in user or user.startswith("#") or user != user.strip():
        raise ConfigError(f"user={user!r} must not contain :, begin with # or have blanks at its ends")
    if not password:
        raise ConfigError(f"the password of user={user!r} must not be empty")
    _write(path, _read_existing(path) | {user: _HASHER.hash(password)})


def remove_user(path: Path, user: str) -> bool:
    """Remove a user from the password file; return whether the user was in it.

    Raises:
        ConfigError: the file cannot be read or written.

    """
    users = _read_existing(path)
    is_in_file = users.pop(user, None) is not None
    if is_in_file:
        _write(path, users)
    return is_in_file


def read_users(path: Path) -> dict[str, str]:
    """Return the hash of each user in the file.

    Raises:
        ConfigError: the file cannot be read, or a line is not ``user:hash``.

    """
    try:
        lines = _read_text(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"password_file={str(path)!r} cannot be read: {error}") from error
    users = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            user, colon, password_hash = line.partition(":")
            if not (user and colon and password_hash):
                raise ConfigError(f"password_file={str(path)!r}: line {number} is not user:hash")
            users[user] = password_hash
    return users


class PasswordFile:
    """Verifies passwords against the file, which may change while the broker runs.

    A verified password is remembered, as a keyed digest in the memory of this process: argon2 takes about 30
    ms on purpose, and a thousand clients that reconnect at once should not wait half a minute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._users: dict[str, str] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._key = secrets.token_bytes(32)
        self._verified: dict[str, bytes] = {}
        self._dummy_hash = ""

    def load(self) -> None:
        """Read the file if it has changed since the last time.

        Raises:
            ConfigError: the file cannot be read.

        """
        try:
            stat = self.path.stat()
        except OSError as error:
            raise ConfigError(f"password_file={str(self.path)!r} cannot be read: {error}") from error
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._stamp:
            self._users = read_users(self.path)
            self._stamp = stamp

    def is_remembered(self, user: str, password: bytes) -> bool:
        """Return at once whether the password was verified before; after False, `verify` decides."""
        user_hash = self._users.get(user)
        digest = self._verified.get(user)
        if user_hash is None or digest is None:
            return False
        return hmac.compare_digest(digest, self._digest(user_hash, password))

    def verify(self, user: str, password: str) -> bool:
        """Return whether the password is the user's; an unknown user takes as long, to conceal who exists."""
        if self.is_remembered(user, password.encode()):
            return True
        user_hash = self._users.get(user)
        try:
            right = _HASHER.verify(password, user_hash or self._unknown_user_hash()) and user_hash is not None
        except UnknownHashError:
            return False
        if right and user_hash is not None:
            self._verified[user] = self._digest(user_hash, password.encode())
        return right

    def _digest(self, user_hash: str, password: bytes) -> bytes:
        return hmac.digest(self._key, b":".join((user_hash.encode(), password)), hashlib.sha256)

    def _unknown_user_hash(self) -> str:
        self._dummy_hash = self._dummy_hash or _HASHER.hash(secrets.token_hex())
        return self._dummy_hash


def _read_text(path: Path) -> str:
    if path.exists() and not path.is_file():  # reading a device may never end
        raise OSError(f"{path} is not a regular file")
    return path.read_text("utf-8")


def _read_existing(path: Path) -> dict[str, str]:
    """Return the users in the file; none if there is no file."""
    try:
        return read_users(path)
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return {}
        raise


def _write(path: Path, users: dict[str, str]) -> None:
    try:
        _replace(path, users)
    except OSError as error:
        raise ConfigError(f"password_file={str(path)!r} cannot be written: {error}") from error


def _replace(path: Path, users: dict[str, str]) -> None:
    """Replace the file in one step; the mode 0600 comes from mkstemp."""
    text = "".join(f"{user}:{password_hash}\n" for user, password_hash in users.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
