"""A Patroni cluster of the tests' own: etcd and PostgreSQL nodes on loopback, in a temporary directory."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.support.postgres import binary
from tests.support.waiting import free_port, listens, until

TTL_S = 20
"""Patroni's least time from a leader's last sign of life to the election of another one."""


class Node:
    """A PostgreSQL with its Patroni."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.port = free_port()
        self.rest_port = free_port()
        self.data = root / name
        self.settings = root / f"{name}.json"
        self.log = root / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None


class Patroni:
    """A cluster of nodes `a`, `b` and so on.

    Args:
        nodes: their number.
        synchronous: whether each commit waits for a standby, and only that standby may become the primary.

    """

    def __init__(self, nodes: int = 2, *, synchronous: bool = True) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="presence-patroni-"))
        self._etcd_port, self._etcd_peer_port = free_port(), free_port()
        self._synchronous = synchronous
        self._etcd: subprocess.Popen[bytes] | None = None
        self._user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self.nodes = [Node(chr(ord("a") + number), self._root) for number in range(nodes)]

    def __enter__(self) -> Self:
        for program in ("etcd", "patroni"):
            assert shutil.which(program), f"{program} is not installed; run: make tools-clusters"
        os.chown(self._root, self._user.pw_uid, self._user.pw_gid)
        client = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._etcd_peer_port}"
        self._etcd = self._start(
            self._root / "etcd.log",
            *("etcd", "--name=e", f"--data-dir={self._root}/etcd", "--enable-v2=true", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            f"--initial-cluster=e={peer}",
        )
        until(lambda: listens(self._etcd_port), "etcd listens")
        for node in self.nodes:
            self.start(node)
            self._wait(lambda: self.leader is not None, "there is a primary")
        self._wait(lambda: len(self.members("streaming")) == len(self.nodes) - 1, "all standbys stream")
        if self._synchronous:
            self._wait(self.has_synchronous_standby, "a standby is synchronous")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # pytest shows them with the failure
            for node in self.nodes:
                print(f"{node.name}:\n{self._tail(node)}")
        for node in self.nodes:
            self.kill(node)
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait(20)
        shutil.rmtree(self._root, ignore_errors=True)

    def start(self, node: Node) -> None:
        """Start a node, or start it again."""
        settings = self._settings(node)
        node.settings.write_text(json.dumps(settings))  # JSON is YAML, too
        os.chown(node.settings, self._user.pw_uid, self._user.pw_gid)
        node.process = self._start(node.log, "patroni", str(node.settings))

    def kill(self, node: Node) -> None:
        """Kill all processes of a node, as a crash of its machine does."""
        if node.process is None:
            return
        postmaster = None
        with suppress(OSError, ValueError, IndexError):
            postmaster = int((node.data / "postmaster.pid").read_text().splitlines()[0])
        # Stopped first: otherwise the postmaster could answer a client between two kills.
        servers = [] if postmaster is None else [postmaster, *_children(postmaster)]
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for pid in [node.process.pid, *servers]:
                with suppress(ProcessLookupError):
                    os.kill(pid, sign)
        node.process.wait(20)
        node.process = None
        until(lambda: not listens(node.port), f"node {node.name} is dead")

    @property
    def leader(self) -> Node | None:
        """The node that is the primary; None: there is none."""
        for node in self.nodes:
            if node.process is not None and self._is_primary(node):
                return node
        return None

    def members(self, state: str) -> list[str]:
        """Return the names of the standbys in a state of replication."""
        leader = self.leader
        if leader is None:
            return []
        with psycopg.connect(self._url(leader.port)) as connection:
            rows = connection.execute(
                "SELECT application_name FROM pg_stat_replication WHERE state = %s", [state]
            )
            return [row[0] for row in rows.fetchall()]

    def has_synchronous_standby(self) -> bool:
        """Return whether commits wait for a standby."""
        leader = self.leader
        if leader is None:
            return False
        with psycopg.connect(self._url(leader.port)) as connection:
            rows = connection.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
            return rows.fetchone() is not None

    NAME = "presence"

    def database(self, name: str = NAME) -> str:
        """Make a database; return the URL of all nodes that finds the primary."""
        leader = self.leader
        assert leader is not None
        with psycopg.connect(self._url(leader.port), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        hosts = ",".join("127.0.0.1" for _ in self.nodes)
        ports = ",".join(str(node.port) for node in self.nodes)
        return f"postgresql:///{name}?host={hosts}&port={ports}&user=postgres&target_session_attrs=read-write"

    def _wait(self, condition: Any, what: str) -> None:
        try:
            until(condition, what, 90, every_s=0.2)
        except AssertionError as error:
            logs = "\n".join(f"{node.name}:\n{self._tail(node)}" for node in self.nodes)
            raise AssertionError(f"{error}\n{logs}") from None

    def _is_primary(self, node: Node) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{node.rest_port}/primary", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _url(self, port: int) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def _tail(self, node: Node) -> str:
        return node.log.read_text(errors="replace")[-4000:] if node.log.exists() else ""

    def _settings(self, node: Node) -> dict[str, Any]:
        cluster = {
            "ttl": TTL_S,
            "loop_wait": 2,
            "retry_timeout": 5,
            "maximum_lag_on_failover": 1 << 40,
            "synchronous_mode": self._synchronous,
            "postgresql": {"use_pg_rewind": False, "parameters": {"max_connections": 40}},
        }
        address = f"127.0.0.1:{node.rest_port}"
        replication = {"username": "postgres", "password": "unused"}
        return {
            "scope": "presence",
            "name": node.name,
            "restapi": {"listen": address, "connect_address": address},
            "etcd3": {"host": f"127.0.0.1:{self._etcd_port}"},
            "bootstrap": {
                "dcs": cluster,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
                "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{node.port}",
                "connect_address": f"127.0.0.1:{node.port}",
                "data_dir": str(node.data),
                "bin_dir": str(Path(binary("initdb")).parent),
                "pgpass": str(self._root / f"{node.name}.pgpass"),
                "authentication": {"superuser": replication, "replication": replication},
                "parameters": {"unix_socket_directories": str(self._root), "wal_keep_size": "64MB"},
            },
        }

    def _start(self, log: Path, *command: str) -> subprocess.Popen[bytes]:
        as_user: dict[str, Any] = (
            {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
            if os.getuid() == 0
            else {}
        )
        with log.open("ab") as output:
            return subprocess.Popen(command, cwd=self._root, stdout=output, stderr=output, **as_user)


def _children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
