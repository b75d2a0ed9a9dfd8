"""A small disk that a test fills and frees."""

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.bridges import BridgeProcess


@contextmanager
def small_disk(
    directory: Path, bridge: Callable[[], BridgeProcess]
) -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    """Give a directory on a disk of 4 MB, a way to fill it and one to free it.

    Where nothing may be mounted, the bridge's files are limited in size instead: what comes over the limit
    cannot be written either.
    """
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory], check=False, capture_output=True
    )
    ballast = directory / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

    def limit() -> None:
        size = (directory / "presence.db-wal").stat().st_size
        resource.prlimit(bridge().pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def unlimit() -> None:
        resource.prlimit(
            bridge().pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )

    try:
        if mounted.returncode == 0:
            yield directory, fill, ballast.unlink
        else:
            yield directory, limit, unlimit
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", directory], check=True)
