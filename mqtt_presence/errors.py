"""The exceptions of the package: every one says what, which value, and what to do."""


class PresenceError(Exception):
    """The base of everything this package raises on purpose."""


class ConfigError(PresenceError):
    """A setting is wrong; the message names it."""


class PayloadError(PresenceError):
    """A topic or payload is not what contract sections 1 and 2 say.

    Args:
        reason: a short word to count by, e.g. ``bad_topic``.
        detail: what was wrong, for the log.

    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class StoreError(PresenceError):
    """The database did not take or give something.

    Args:
        message: what happened.
        transient: True when the same work may well succeed later (locked, disk full, connection lost);
            False when this very input is refused by the database.
        conflict: True when the database has undone the work for the sake of another transaction: the same
            work may be tried again at once, on the same connection.

    """

    def __init__(self, message: str, *, transient: bool = True, conflict: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.conflict = conflict


class SeatTakenError(PresenceError):
    """Another process is the bridge of this database; the message names it."""


class SeatLostError(PresenceError):
    """Another process has become the bridge of this database: this one must write nothing more."""


class BrokerError(PresenceError):
    """The broker cannot be reached, refuses us, or cannot be started."""


class WebError(PresenceError):
    """The live page cannot be served, e.g. because its port is in use."""


class ReplacedError(PresenceError):
    """Another database is where the one of this process was, or an older state of it."""
