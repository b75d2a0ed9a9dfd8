"""Token buckets by name: rate limits that allow bursts. Pure: the caller passes the time."""

_SWEEP_AT = 1024


class Buckets:
    """A token bucket for each name. Full buckets are not stored, so memory is bounded by the recent traffic.

    Args:
        depth: tokens in a full bucket.
        per_s: tokens that a bucket gains in a second.

    """

    __slots__ = ("_depth", "_full_at", "_limit_s", "_sweep_at", "_token_s")

    def __init__(self, depth: int, per_s: float) -> None:
        self._token_s = 1 / per_s
        self._depth = depth
        self._limit_s = (depth - 0.5) / per_s  # half a token absorbs rounding
        # The state of a bucket is the time when it will be full (generic cell rate algorithm).
        self._full_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, moment: float) -> bool:
        """Take a token; return False if the bucket is empty.

        Args:
            name: of the bucket.
            moment: the current time, seconds; it never decreases.

        """
        full_at = self._full_at.get(name, moment)
        if full_at - moment > self._limit_s:
            return False
        self._full_at[name] = (max(moment, full_at)) + self._token_s
        if len(self._full_at) >= self._sweep_at:
            self._sweep(moment)
        return True

    def left(self, name: str, moment: float) -> int:
        """Return the number of tokens in a bucket."""
        full_at = self._full_at.get(name)
        if full_at is None or full_at <= moment:
            return self._depth
        return max(0, int(self._depth + 0.5 - (full_at - moment) / self._token_s))

    def spend(self, name: str, tokens: int, moment: float) -> None:
        """Take several tokens, also more than the bucket has; a negative number puts tokens back."""
        if tokens:
            self._full_at[name] = max(self._full_at.get(name, moment), moment) + tokens * self._token_s
            if len(self._full_at) >= self._sweep_at:
                self._sweep(moment)

    def _sweep(self, moment: float) -> None:
        self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > moment}
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._full_at))
