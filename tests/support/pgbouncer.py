"""pgbouncer in transaction mode before a PostgreSQL: each transaction may be on another server connection."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.support.waiting import free_port, listens, until

_SETTINGS = """\
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
server_round_robin = 1
"""


class PgBouncer:
    """A pooler with two server connections for each database, used in turn.

    Args:
        server: the port of PostgreSQL.

    """

    def __init__(self, server: int) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="presence-pool-"))
        self._server = server
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
        assert program, "pgbouncer is not installed; apt-get install pgbouncer"
        settings = self._write()
        # pgbouncer refuses to run as root.
        user = pwd.getpwnam("postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
        for path in (self._root, settings):
            os.chown(path, user.pw_uid, user.pw_gid)
        with (self._root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, settings],
                stdout=log,
                stderr=log,
                **(
                    {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
                    if os.getuid() == 0
                    else {}
                ),
            )
        until(lambda: listens(self.port), "pgbouncer listens")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
        shutil.rmtree(self._root, ignore_errors=True)

    def _write(self) -> Path:
        settings = self._root / "pgbouncer.ini"
        settings.write_text(_SETTINGS.format(server=self._server, port=self.port))
        return settings

    def switch(self, server: int) -> None:
        """Send the transactions from now on to another server."""
        assert self._process is not None
        self._server = server
        self._write()
        self._process.send_signal(signal.SIGHUP)

    def url(self, database: str) -> str:
        """Return the URL of a database of the cluster, through the pooler."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database.rpartition('/')[2]}"
