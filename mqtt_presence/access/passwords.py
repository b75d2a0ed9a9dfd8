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
        path: the file; it is replaced as a whole, readable by its owner only.
        user: a name that can stand in a topic (contract section 1).
        password: what the user will log in with.

    Raises:
        ConfigError: the name or the password cannot be used, or the file cannot be read or written.

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
    known = users.pop(user, None) is not None
    if known:
        _write(path, users)
    return known


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

    A password once found right is remembered (as a keyed digest, for this process only): argon2 takes some
    30 ms on purpose, and a thousand clients that come back at once should not wait half a minute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._users: dict[str, str] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._key = secrets.token_bytes(32)
        self._verified: dict[str, bytes] = {}
        self._nobody = ""

    def load(self) -> None:
        """Read the file if it has changed since.

        Raises:
            ConfigError: it cannot be read.

        """
        try:
            stat = self.path.stat()
        except OSError as error:
            raise ConfigError(f"password_file={str(self.path)!r} cannot be read: {error}") from error
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._stamp:
            self._users = read_users(self.path)
            self._stamp = stamp

    def remembers(self, user: str, password: bytes) -> bool:
        """Say, at once, whether this was found right before; False says nothing."""
        known = self._users.get(user)
        digest = self._verified.get(user)
        if known is None or digest is None:
            return False
        return hmac.compare_digest(digest, self._digest(known, password))

    def verify(self, user: str, password: str) -> bool:
        """Say whether this is the user's password; takes as long for a user that does not exist."""
        if self.remembers(user, password.encode()):
            return True
        known = self._users.get(user)
        try:
            right = _HASHER.verify(password, known or self._nobody_hash()) and known is not None
        except UnknownHashError:
            return False
        if right and known is not None:
            self._verified[user] = self._digest(known, password.encode())
        return right

    def _digest(self, known: str, password: bytes) -> bytes:
        return hmac.digest(self._key, b":".join((known.encode(), password)), hashlib.sha256)

    def _nobody_hash(self) -> str:
        self._nobody = self._nobody or _HASHER.hash(secrets.token_hex())
        return self._nobody


def _read_text(path: Path) -> str:
    if path.exists() and not path.is_file():  # reading a device may never end
        raise OSError(f"{path} is not a regular file")
    return path.read_text("utf-8")


def _read_existing(path: Path) -> dict[str, str]:
    """Read the file; without one there are no users."""
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
    """Replace the file in one step; mkstemp makes it mode 0600."""
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
