"""access.buckets."""

_SWEEP_AT = 1024


class Buckets:
    """A token bucket for each name. One that is full again is forgotten, so memory is bounded by the traffic.

    Args:
        depth: tokens in a full one.
        per_s: how many come back in a second.

    """

    __slots__ = ("_depth", "_full_at", "_most_s", "_step_s", "_sweep_at")

    def __init__(self, depth: int, per_s: float) -> None:
        self._step_s = 1 / per_s
        self._depth = depth
        self._most_s = (depth - 0.5) / per_s  # half a token against the rounding of sums
        # All there is to know of a bucket: when it will be full (the generic cell rate algorithm).
        self._full_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, moment: float) -> bool:
        """Take a token; False: there is none.

        Args:
            name: whose bucket.
            moment: now, seconds; never less than before.

        """
        full_at = self._full_at.get(name, moment)
        if full_at - moment > self._most_s:
            return False
        self._full_at[name] = (max(moment, full_at)) + self._step_s
        if len(self._full_at) >= self._sweep_at:
            self._sweep(moment)
        return True

    def left(self, name: str, moment: float) -> int:
        """Tell how many tokens there are."""
        full_at = self._full_at.get(name)
        if full_at is None or full_at <= moment:
            return self._depth
        return max(0, int(self._depth + 0.5 - (full_at - moment) / self._step_s))

    def spend(self, name: str, tokens: int, moment: float) -> None:
        """Take several, even if there are not so many."""
        if tokens:
            self._full_at[name] = max(self._full_at.get(name, moment), moment) + tokens * self._step_s
            if len(self._full_at) >= self._sweep_at:
                self._sweep(moment)

    def _sweep(self, moment: float) -> None:
        self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > moment}
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._full_at))
