"""PostgreSQL's transactions: their begin and their end, each within a time limit.

A server may accept a statement and not answer it for hours: a commit waits for a synchronous standby that is
gone, a row is locked by such a commit, or the server is frozen. The bridge has one thread, which also keeps
the connection to the broker alive. So it gives up an unanswered transaction, and asks again later.
"""

import select
import time
from collections.abc import Mapping
from typing import Any, Final

import peewee

from mqtt_presence.errors import StoreError

try:
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus
except ImportError:  # the extra `postgresql` is not installed
    pass

ANSWER_S: Final = 4.0
"""The time for the answer to a BEGIN or COMMIT, and for a lock.

A broker gives the bridge up after 7.5 s at the earliest: 1.5 times the least keep alive.
"""
_NO_ANSWER = f"the server has not answered for {ANSWER_S:g} s"
_UNCONFIRMED = (
    f"the server has not confirmed a commit for {ANSWER_S:g} s: it waits for a synchronous standby, or its "
    "disk is slow"
)
_SETTING = "default_transaction_read_only"
_IS_READ_ONLY = f"SELECT current_setting('{_SETTING}')"
_IS_SERVER_READ_ONLY = f"SELECT reset_val FROM pg_settings WHERE name = '{_SETTING}'"
_ON = b"on"


class Postgresql(peewee.PostgresqlDatabase):
    """PostgreSQL, perhaps behind a pooler: no transaction relies on settings of its session.

    Args:
        name: the name of the database.
        readonly: only read.
        limits: settings of each transaction; times in milliseconds.
        parameters: parameters of libpq, psycopg and peewee.

    """

    def __init__(
        self, name: str, *, readonly: bool, limits: Mapping[str, int | str], **parameters: Any
    ) -> None:
        super().__init__(name, prefer_psycopg3=True, **parameters)
        self.has_unsafe_commit = False
        """Whether the last commit is done here only, because its wait for a synchronous standby was ended."""
        self._finds_pooler = "prepare_threshold" not in parameters
        self._readonly = readonly
        self._limits = "".join(f"; SET LOCAL {limit} = {value}" for limit, value in limits.items())

    def _connect(self) -> Any:
        connection = super()._connect()  # type: ignore[misc]
        connection.add_notice_handler(self._noticed)
        # A pooler reports a process id of its own. Behind it each transaction may run in another process of
        # the server, and a prepared statement belongs to one process.
        if self._finds_pooler and self._process(connection) != connection.info.backend_pid:
            connection.prepare_threshold = None
        return connection

    def _process(self, connection: Any) -> int:
        return int(self._ask("SELECT pg_backend_pid()", connection) or 0)

    def _noticed(self, diagnostic: Any) -> None:
        # The server commits then, and warns. The text of the warning depends on the language of the server.
        if diagnostic.source_function == "SyncRepWaitForLSN":
            self.has_unsafe_commit = True

    def begin(self, isolation_level: str | None = None) -> None:
        """Begin a transaction under the limits.

        Raises:
            StoreError: the server is read-only, and the transaction should write.
            TimeoutError: the server has not answered.

        """
        self.has_unsafe_commit = False
        mode, more = ("READ ONLY", "") if self._readonly else ("READ WRITE", f"; {_IS_READ_ONLY}")
        # READ COMMITTED: each statement sees everything committed before it got its locks.
        begin = f"BEGIN ISOLATION LEVEL {isolation_level or 'READ COMMITTED'} {mode}{self._limits}{more}"
        try:
            answer = self._ask(begin)
        except peewee.NotSupportedError as error:
            raise StoreError("the database is read-only: its server is a standby now") from error
        # The setting may come from another user of a pooled session; only that of the server counts.
        if not self._readonly and answer == _ON and self._ask(_IS_SERVER_READ_ONLY) == _ON:
            self.rollback()
            raise StoreError(f"the database is read-only: {_SETTING} is on")

    def commit(self) -> None:
        """Commit, and wait a limited time for the confirmation.

        Raises:
            TimeoutError: the transaction may be done. It goes on waiting on the server, with its locks.

        """
        self._ask("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction; a closed connection has no transaction."""
        if not self.connection().closed:  # type: ignore[no-untyped-call]
            super().rollback()

    def _ask(self, sql: str, connection: Any = None) -> bytes | None:
        """Send statements that take no time, except for a COMMIT.

        Args:
            sql: the statements.
            connection: a new connection; None: that of this thread.

        Returns:
            The first value of the last statement, if it returns one.

        """
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            connection = connection or self.connection()  # type: ignore[no-untyped-call]
            server, give_up_s = connection.pgconn, time.monotonic() + ANSWER_S
            server.send_query(sql.encode())
            results = []
            while _wait(server, give_up_s):
                result = server.get_result()
                if result is None:
                    break
                results.append(result)
            else:
                connection.close()
                raise TimeoutError(_UNCONFIRMED if sql == "COMMIT" else _NO_ANSWER)
            for result in results:
                if result.status == ExecStatus.FATAL_ERROR:
                    raise error_from_result(result)
            last = results[-1]
            return last.get_value(0, 0) if last.status == ExecStatus.TUPLES_OK else None


def _wait(server: Any, give_up_s: float) -> bool:
    """Wait for a result of the server; return False if there is none in time."""
    poll = select.poll()
    while server.is_busy():
        left_s = give_up_s - time.monotonic()
        if left_s <= 0:
            return False
        poll.register(server.socket, select.POLLIN | (select.POLLOUT if server.flush() else 0))
        if poll.poll(left_s * 1000):
            server.consume_input()
    return True
