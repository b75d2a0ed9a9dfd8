"""Second looks: when to ask a cluster's node again for a status that it does not show. Pure.

After the death of a node another NATS node may show new subscribers old retained messages for two minutes
(its cache), and during elections none. So there one look that finds nothing proves no loss.
"""

_FIRST_S = 5.0
_LAST_S = 80.0


class SecondLooks:
    """Delays between looks, doubled each time: 5, 10, 20, 40 and 80 seconds.

    Args:
        is_cluster: the broker has several nodes; False: the first look decides.

    """

    def __init__(self, *, is_cluster: bool) -> None:
        self._is_cluster = is_cluster
        self._delay_s: float | None = None
        self._at_s: float | None = None

    @property
    def is_pending(self) -> bool:
        """Whether another look is to come."""
        return self._at_s is not None

    def begin(self, *, session_present: bool) -> None:
        """Begin with the first look; a broker that has lost the session may have lost all else."""
        self._at_s = None
        self._delay_s = _FIRST_S if self._is_cluster and session_present else None

    def cancel(self) -> None:
        """Plan no further look on this connection."""
        self._at_s = None

    def missed(self, now_s: float) -> bool:
        """Record a look that has found nothing; return whether another one follows."""
        if self._delay_s is None:
            return False
        self._at_s = now_s + self._delay_s
        self._delay_s = 2 * self._delay_s if self._delay_s < _LAST_S else None
        return True

    def is_due(self, now_s: float) -> bool:
        """Return, once for each delay, whether to look again now."""
        if self._at_s is None or now_s < self._at_s:
            return False
        self._at_s = None
        return True
