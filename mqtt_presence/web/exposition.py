"""The exposition of metrics: the bridge's plain values in the text formats that Prometheus reads."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mqtt_presence import __version__
from mqtt_presence.bridge.monitoring.metric import Distribution
from mqtt_presence.bridge.monitoring.metric import Metric as Values
from mqtt_presence.bridge.monitoring.monitor import Monitor

_PREFIX = "mqtt_presence_"


class Exposition:
    """Writes the metrics of a bridge and of its process.

    Args:
        monitor: reads the bridge.

    """

    def __init__(self, monitor: Monitor) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_BridgeCollector(monitor))
        ProcessCollector(registry=self._registry)

    def write(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics, and their content type.

        Args:
            accept: the ``Accept`` header, which chooses the format.

        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _BridgeCollector(Collector):
    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def describe(self) -> list[Metric]:
        """Return no description: the names are known only when the bridge is built."""
        return []

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            f"{_PREFIX}build_info", "1, with the version of this program.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build
        for values in self._monitor.metrics():
            yield _distribution(values) if isinstance(values, Distribution) else _metric(values)


def _metric(values: Values) -> Metric:
    make = CounterMetricFamily if values.is_counter else GaugeMetricFamily
    family = make(_PREFIX + values.name, values.text, labels=values.labels)
    for labels, value in values.values.items():
        family.add_metric(labels, value)
    return family


def _distribution(values: Distribution) -> Metric:
    buckets: list[tuple[str, float]] = []
    count = 0
    for bound, of_bucket in zip((*map(str, values.bounds), "+Inf"), values.counts, strict=True):
        count += of_bucket
        buckets.append((bound, count))
    family = HistogramMetricFamily(_PREFIX + values.name, values.text)
    family.add_metric([], buckets, values.total)
    return family
