"""Installation of files into a directory: each in one step, secrets readable by their owner only."""

import os
import pwd
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from mqtt_presence.errors import ConfigError
from mqtt_presence.tools.init_broker.file_plan import File


def install(directory: Path, files: list[File], data: str, *, run_as: str | None, force: bool) -> None:
    """Write the files.

    Args:
        directory: the target, created if it does not exist.
        files: the files to write.
        data: the subdirectory that the broker writes to.
        run_as: the account of the broker if it is another one than the caller's; needs root.
        force: replace existing files, but not those that broker and bridge have written.

    Raises:
        ConfigError: files exist already, or the broker may not enter the directory, and no file was written;
            or the directory cannot be written.

    """
    if not force:
        _refuse_to_overwrite(directory, files)
    try:
        account = pwd.getpwnam(run_as) if run_as is not None else None
    except KeyError:
        raise ConfigError(f"run-as={run_as}: there is no such account: install the broker first") from None
    try:
        _make_directory(directory, is_for_others=account is not None)
        if account is not None:
            _require_entry(directory, account)
        (directory / data).mkdir(mode=0o700, exist_ok=True)
        for file in files:
            path = directory / file.name
            _make_directory(path.parent, is_for_others=account is not None)
            _write(path, file, account if file.of_broker else None)
        if account is not None:
            os.chown(directory / data, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise ConfigError(f"dir={directory}: {error}") from error


def _refuse_to_overwrite(directory: Path, files: list[File]) -> None:
    existing = [file.name for file in files if os.path.lexists(directory / file.name)]
    if existing:
        raise ConfigError(
            f"dir={directory} already has {', '.join(existing)}: --force replaces them, and "
            "the passwords and certificates in use become invalid"
        )


def _make_directory(directory: Path, *, is_for_others: bool) -> None:
    """Make a missing directory, open to the broker's account for any umask."""
    if directory.is_dir():
        return
    _make_directory(directory.parent, is_for_others=is_for_others)
    directory.mkdir()
    if is_for_others:
        directory.chmod(0o755)


def _require_entry(directory: Path, account: pwd.struct_passwd) -> None:
    """Check that the broker's account may enter the directory and all its parents.

    Raises:
        ConfigError: the account may not.

    """
    groups = set(os.getgrouplist(account.pw_name, account.pw_gid))
    for place in (directory, *directory.parents):
        found = place.stat()
        if account.pw_uid == 0:
            return
        if found.st_uid == account.pw_uid:
            allowed = found.st_mode & stat.S_IXUSR
        elif found.st_gid in groups:
            allowed = found.st_mode & stat.S_IXGRP
        else:
            allowed = found.st_mode & stat.S_IXOTH
        if not allowed:
            raise ConfigError(
                f"dir={directory}: the broker runs as {account.pw_name} and may not enter {place}: "
                "choose another directory, such as /etc/mqtt-presence, or another account with --run-as"
            )


def _write(path: Path, file: File, account: pwd.struct_passwd | None) -> None:
    """Replace a file in one step, so that no reader sees a part of it, or a secret of another account."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(file.data)
            os.fchmod(out.fileno(), 0o600 if file.secret else 0o644)
            if account is not None:
                os.fchown(out.fileno(), account.pw_uid, account.pw_gid)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
