"""Putting a set of files into a directory: each of them whole, secrets for their owner only."""

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
        directory: where; made if it is not there.
        files: what.
        data: the directory within it that the broker writes to.
        run_as: the account of the broker, if it is not the one that runs this; needs root.
        force: replace what is there. What the broker and the bridge have written is left alone all the same.

    Raises:
        ConfigError: files of the set are there already, or the broker may not enter the directory: then no
            file is written; or the directory cannot be written.

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
    there = [file.name for file in files if os.path.lexists(directory / file.name)]
    if there:
        raise ConfigError(
            f"dir={directory} has {', '.join(there)} already: with --force they are replaced, and "
            "the passwords and certificates that are in use now are good for nothing"
        )


def _make_directory(directory: Path, *, is_for_others: bool) -> None:
    """Make it if it is not there; open to the broker's account, whatever the umask of this one is."""
    if directory.is_dir():
        return
    _make_directory(directory.parent, is_for_others=is_for_others)
    directory.mkdir()
    if is_for_others:
        directory.chmod(0o755)


def _require_entry(directory: Path, account: pwd.struct_passwd) -> None:
    """The broker's files are of no use to it where it cannot get to them."""
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
    """Replace the file in one step: at no moment may others read a secret, or anyone half a file."""
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
