"""Exceptions of the package. Their messages name the wrong value and, where possible, the remedy."""


class PresenceError(Exception):
    """Base class of all exceptions that this package raises on purpose."""


class ConfigError(PresenceError):
    """A setting is wrong; the message names it."""


class PayloadError(PresenceError):
    """A topic or payload violates the protocol (docs/protocol.md, "Topics" and "Client messages").

    Args:
        reason: the category under which the message is counted, e.g. ``bad_topic``.
        detail: a description for the log.

    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class StoreError(PresenceError):
    """The database failed to read or write.

    Args:
        message: a description of the failure.
        transient: True if the same work may succeed later (database locked, disk full, connection lost);
            False if the database refuses the input itself.
        conflict: True if the database rolled back the work in favour of another transaction. The same work
            can be repeated at once, on the same connection.

    """

    def __init__(self, message: str, *, transient: bool = True, conflict: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.conflict = conflict


class SeatTakenError(PresenceError):
    """Another process is the bridge of this database. The message names the process."""


class SeatLostError(PresenceError):
    """Another process has become the bridge of this database. This process must stop writing."""


class SeatGivenUpError(SeatLostError):
    """The process leaves its seat to another one, which may be better placed."""


class SeatAsideError(SeatGivenUpError):
    """The process leaves its seat for one that is being removed, and has no holder."""


class SeatDrainedError(SeatLostError):
    """All messages of a seat that is being removed are processed: the seat can be deleted."""


class BrokerError(PresenceError):
    """The broker cannot be reached, refuses the connection, or cannot be started."""


class WebError(PresenceError):
    """The live page cannot be served, e.g. because its port is in use."""


class ReplacedError(PresenceError):
    """The database was replaced by another one, or by an older state of itself."""


class SetBackError(ReplacedError):
    """The database is back in an earlier state of itself: a bridge can go on, and repair the loss."""
