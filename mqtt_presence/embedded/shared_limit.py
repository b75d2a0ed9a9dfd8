"""A limit that all sessions share, and of which each may use a part of the free rest."""


class SharedLimit:
    """A bounded number of things, such as queued messages, with a dynamic limit for each session.

    One session may have a sixteenth of the free ones. So `n` sessions that use all they can get leave a part
    of ``1 / (n + 16)`` for the next one (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998).

    Args:
        limit: for all sessions together.

    """

    __slots__ = ("_limit", "used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    @property
    def share(self) -> int:
        """The number that one session may have."""
        return (self._limit - self.used) // 16
