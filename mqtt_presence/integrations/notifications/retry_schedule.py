"""The schedule of retries, as Standard Webhooks recommends it. Pure."""

from email.utils import parsedate_to_datetime

MINUTE_S, HOUR_S = 60, 3600
DELAYS_S: tuple[float, ...] = (
    5,
    5 * MINUTE_S,
    30 * MINUTE_S,
    2 * HOUR_S,
    5 * HOUR_S,
    10 * HOUR_S,
    14 * HOUR_S,
    20 * HOUR_S,
    24 * HOUR_S,
)
"""Seconds from a failed attempt to the next one; after the last, a request is given up."""
JITTER = 0.2
"""The greatest part of a delay that is added to it, so that many senders do not come together."""
_LONGEST_S = 24 * HOUR_S


def delay_ms(
    attempts: int, chance: float, retry_after_s: float | None, delays_s: tuple[float, ...] = DELAYS_S
) -> int | None:
    """Return the time until the next attempt, milliseconds; None: give up.

    Args:
        attempts: failed attempts, 1 or more.
        chance: random, from 0 to 1.
        retry_after_s: the receiver's wish, seconds.
        delays_s: the schedule.

    """
    if attempts > len(delays_s):
        return None
    if retry_after_s is not None:
        return round(min(max(retry_after_s, 1.0), _LONGEST_S) * 1000)
    return round(delays_s[attempts - 1] * (1 + JITTER * chance) * 1000)


def read_retry_after(text: str | None, now: int) -> float | None:
    """Return the seconds that a header `Retry-After` asks for (RFC 9110 §10.2.3); None: it asks for none.

    Args:
        text: a number of seconds, or a date.
        now: the time, epoch milliseconds.

    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now / 1000)
    except (ValueError, TypeError, OverflowError):
        return None
