"""A PostgreSQL cluster of the tests' own: unix socket and loopback, in a temporary directory."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.support.waiting import free_port, until


def binary(name: str) -> str:
    """Find a program of PostgreSQL; there being none is a failure, not a reason to skip."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = str(found[-1]) if found else shutil.which(name)
    assert path, f"PostgreSQL is not installed: there is no {name}; apt-get install postgresql"
    return path


class Postgres:
    """A cluster; `database` makes a fresh database in it.

    Args:
        settings: of the server, by name, which a running server does not take.

    """

    def __init__(self, **settings: str) -> None:
        self._settings = settings
        # Not below pytest's directories: those are for their owner only, and root's cluster is postgres's.
        self._root = Path(tempfile.mkdtemp(prefix="presence-pg-"))
        self._data = self._root / "data"
        self.port = free_port()
        self._count = 0
        self._copies = itertools.count(1)
        self._user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())

    def __enter__(self) -> Self:
        os.chown(self._root, self._user.pw_uid, self._user.pw_gid)
        self._create()
        self.start()
        return self

    def _create(self) -> None:
        self._init()

    def _init(self, *options: str) -> None:
        made = ("-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        self._run("initdb", "-D", self._data, *made, *options)

    def __exit__(self, *_: object) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._root, ignore_errors=True)

    def start(self) -> None:
        settings = {"listen_addresses": "127.0.0.1", "max_connections": "40"} | self._settings
        options = " ".join(
            [f"-p {self.port} -k {self._root}", *(f"-c {name}={value}" for name, value in settings.items())]
        )
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self._root / "log", "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", how, "stop")

    def _run(self, program: str, *arguments: object) -> None:
        command = [binary(program), *map(str, arguments)]
        done = (
            subprocess.run(
                command,
                cwd=self._root,
                user=self._user.pw_uid,
                group=self._user.pw_gid,
                extra_groups=[],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=60,
            )
            if os.getuid() == 0
            else subprocess.run(
                command,
                cwd=self._root,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=60,
            )
        )
        log = self._root / "log"
        said = log.read_text(errors="replace")[-3000:] if log.exists() else ""
        assert done.returncode == 0, f"{command}: {done.stdout.decode(errors='replace')}\n{said}"

    def set(self, name: str, value: str) -> None:
        """Change a setting that needs no restart, and wait until sessions have it."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
            until(lambda: connection.execute(f"SHOW {name}").fetchone() == (value,), f"{name} = {value}")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all processes, so that the server accepts connections and answers nothing."""
        postmaster = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        processes = [postmaster, *map(int, children)]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)

    def demote(self) -> None:
        """Become a standby, which follows nobody."""
        self.stop()
        mark = self._data / "standby.signal"
        mark.touch()
        os.chown(mark, self._user.pw_uid, self._user.pw_gid)
        self.start()

    def promote(self) -> None:
        """Become a primary."""
        self._run("pg_ctl", "-D", self._data, "-w", "promote")

    def back_up(self, url: str) -> str:
        """Copy a database, whose connections are ended; return the name of the copy."""
        name = url.rpartition("/")[2]
        copy = f"{name}_copy{next(self._copies)}"
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        until(
            lambda: not self.execute(f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}'"),
            "no connection is left",
        )
        self.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
        return copy

    def restore(self, url: str, copy: str) -> None:
        """Put a copy of a database in its place."""
        name = url.rpartition("/")[2]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {name} TEMPLATE {copy}")

    def execute(self, sql: str) -> list[Any]:
        """Run a statement as the superuser, outside a transaction; return its rows."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            result = connection.execute(sql)
            return result.fetchall() if result.description else []

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def database(self, options: str = "") -> str:
        """Make a database with options of CREATE DATABASE; return its URL."""
        self._count += 1
        name = f"presence{self._count}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} {options}")
        return self._url(name)


class Standby(Postgres):
    """A standby that streams from a primary, asynchronously unless the primary waits for it.

    Args:
        primary: the cluster to copy.

    """

    NAME = "standby"

    def __init__(self, primary: Postgres) -> None:
        super().__init__()
        self._primary = primary

    def _create(self) -> None:
        source = f"host=127.0.0.1 port={self._primary.port} user=postgres application_name={self.NAME}"
        self._run(
            "pg_basebackup", "-d", source, "-D", self._data, "-R", "-X", "stream", "-c", "fast", "--no-sync"
        )

    def wait_until_streaming(self) -> None:
        """Wait until all that is committed on the primary is here."""
        until(
            lambda: self._primary.execute(
                "SELECT 1 FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"
            ),
            "the standby has everything",
        )

    def cut(self) -> None:
        """Receive no more from the primary."""
        self.set("primary_conninfo", "")
        until(lambda: not self.execute("SELECT 1 FROM pg_stat_wal_receiver"), "the receiver has ended")

    def url_of_both(self, database: str) -> str:
        """Return the URL of a database of the primary that finds whichever of the two is a primary."""
        name = database.rpartition("/")[2]
        return (
            f"postgresql:///{name}?host=127.0.0.1,127.0.0.1&port={self._primary.port},{self.port}"
            "&user=postgres&target_session_attrs=read-write"
        )


@contextmanager
def cursor(url: str) -> Iterator[Any]:
    """Open a cursor of its own on a database of either kind, as a user with SQL would."""
    if url.startswith("sqlite:///"):
        import sqlite3

        connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
    else:
        connection = psycopg.connect(url)
    try:
        yield connection.cursor()
        connection.commit()
    finally:
        connection.close()


def query(url: str, sql: str) -> list[dict[str, Any]]:
    """Read rows by SQL, as a user would."""
    with cursor(url) as cur:
        cur.execute(sql)
        names = [column[0] for column in cur.description]
        return [dict(zip(names, row, strict=True)) for row in cur.fetchall()]
