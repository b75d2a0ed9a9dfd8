"""A disk that takes its time, for one process: its writes and syncs wait, as the C library makes them."""

import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void wait_for(const char *milliseconds) {
    long ms = atol(getenv(milliseconds));
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void synced(void) {
    int fd = open(getenv("SLOW_DISK_COUNT"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0 && write(fd, "s", 1) == 1) close(fd);
    wait_for("SLOW_DISK_SYNC_MS");
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { synced(); return REAL(fsync)(fd); }
int fdatasync(int fd) { synced(); return REAL(fdatasync)(fd); }

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    wait_for("SLOW_DISK_WRITE_MS");
    return REAL(pwrite64)(fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    wait_for("SLOW_DISK_WRITE_MS");
    return REAL(pwrite)(fd, data, size, at);
}
"""


class SlowDisk:
    """Compiles what a process must be started with.

    Args:
        directory: for what it makes.
        sync_ms: how much longer a sync takes, milliseconds.
        write_ms: how much longer a write takes, milliseconds.

    """

    def __init__(self, directory: Path, *, sync_ms: int, write_ms: int) -> None:
        source, library = directory / "slow_disk.c", directory / "slow_disk.so"
        source.write_text(_SOURCE)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._count = directory / "syncs"
        self.environment = {
            "LD_PRELOAD": str(library),
            "SLOW_DISK_COUNT": str(self._count),
            "SLOW_DISK_SYNC_MS": str(sync_ms),
            "SLOW_DISK_WRITE_MS": str(write_ms),
        }

    @property
    def syncs(self) -> int:
        """How many there have been."""
        return self._count.stat().st_size if self._count.exists() else 0
