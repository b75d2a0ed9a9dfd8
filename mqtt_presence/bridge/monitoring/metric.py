"""Metrics as plain values, and the port of the parts that have some; `web/exposition.py` writes them out."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order of their names."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter or gauge with its values.

    Args:
        name: without the prefix ``mqtt_presence_``, and without the ``_total`` of a counter.
        text: the meaning, one sentence.
        is_counter: whether the value only grows.
        labels: the names of the labels. Their values come from lists of fixed length, never from a client.
        values: the values by the labels' values.

    """

    name: str
    text: str
    is_counter: bool
    labels: Labels
    values: Mapping[Labels, float]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram with its values.

    Args:
        name: without the prefix ``mqtt_presence_``.
        text: the meaning, one sentence.
        bounds: the upper bounds of the buckets, without the infinite one.
        counts: the number of values in each bucket, the infinite one last; not cumulated.
        total: the sum of all values.

    """

    name: str
    text: str
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Measured(Protocol):
    """A part that has metrics. Any thread asks, so it reads plain attributes only."""

    def metrics(self) -> Iterable[Metric | Distribution]:
        """Return the metrics as they are now; fast, without the database."""


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a metric without labels that may fall."""
    return Metric(name, text, is_counter=False, labels=(), values={(): value})


def counter(name: str, text: str, value: float) -> Metric:
    """Return a metric without labels that only grows."""
    return Metric(name, text, is_counter=True, labels=(), values={(): value})


@dataclass(slots=True)
class Histogram:
    """Counts values in buckets: one search and two additions for each value.

    Args:
        bounds: the upper bounds of the buckets, ascending.

    """

    bounds: Sequence[float]
    total: float = 0.0
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value; it belongs to the first bucket whose bound it does not exceed."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def read(self, name: str, text: str) -> Distribution:
        """Return the values under a name."""
        return Distribution(name, text, self.bounds, tuple(self.counts), self.total)
