"""Epoch milliseconds and ISO 8601, in both directions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_presence.protocol.times import LATEST, from_iso, in_range, to_iso

NOON = 1_795_608_000_000  # 2026-11-25T12:00:00Z


@pytest.mark.parametrize(
    ("millis", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (NOON + 123, "2026-11-25T12:00:00.123Z"),
        (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
        (LATEST, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_to_iso_writes_utc_with_milliseconds(millis: int, text: str) -> None:
    """A time is written in UTC, with three digits of milliseconds and a Z."""
    assert to_iso(millis) == text
    assert from_iso(text) == millis


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-25T12:00:00Z",
        "2026-11-25T12:00:00+00:00",
        "2026-11-25T12:00:00.000Z",
        "2026-11-25T12:00:00.0009999Z",
        "2026-11-25T12:00:00,000Z",
        "2026-11-25 12:00:00Z",
        "2026-11-25T12:00Z",
        "20261125T120000Z",
        "2026-W48-3T12:00:00Z",
        "2026-11-25T13:00:00+01:00",
        "2026-11-25T06:30:00-05:30",
        "2026-11-26T02:00:00+1400",
    ],
)
def test_from_iso_reads_any_iso_8601_with_an_offset(text: str) -> None:
    """Any offset and precision gives the same moment, to the millisecond."""
    assert from_iso(text) == NOON


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "0",
        "1795608000000",
        "2026-11-25",
        "2026-11-25T12:00:00",
        "2026-11-25T12:00:00.123",
        "2026-11-25T25:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-11-25T12:00:00+25:00",
        "2026-11-25T12:00:00Z ",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+00:01",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-00:01",
        "10000-01-01T00:00:00Z",
        "\uff12026-11-25T12:00:00Z",
        "\ud800",
    ],
)
def test_from_iso_refuses_what_names_no_moment(text: str) -> None:
    """A missing offset, an impossible date, and years before 1970 or after 9999 raise ValueError."""
    with pytest.raises(ValueError):
        from_iso(text)


@pytest.mark.parametrize("millis", [-1, LATEST + 1, 10**30, -(10**30)])
def test_in_range_refuses_times_that_cannot_be_written(millis: int) -> None:
    """A time with more than four digits of year is refused."""
    with pytest.raises(ValueError):
        in_range(millis)


@pytest.mark.parametrize("millis", [0, 1, NOON, LATEST])
def test_in_range_returns_the_others(millis: int) -> None:
    """Every time in the range is the same after writing and reading."""
    assert in_range(millis) == millis


@settings(deadline=None, max_examples=200)
@given(st.integers(0, LATEST))
def test_iso_round_trip_is_exact(millis: int) -> None:
    """What is written can be read back, to the millisecond."""
    assert from_iso(to_iso(millis)) == millis


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40))
def test_from_iso_raises_nothing_but_value_error(text: str) -> None:
    """Any text at all is a time between 1970 and 9999, or a ValueError."""
    try:
        millis = from_iso(text)
    except ValueError:
        return
    assert 0 <= millis <= LATEST
