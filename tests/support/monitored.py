"""Requests to the port of metrics and health, and the metrics read as Prometheus reads them."""

import json
import re
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.bridge.part import Part
from mqtt_presence.cli.bridge_config import notifications
from mqtt_presence.settings import load
from mqtt_presence.web import WebConfig, WebServer
from mqtt_presence.web.config import Monitoring
from tests.support.bridges import BridgeProcess, BridgeThread, tuned
from tests.support.web import Answer, get

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read_series(text: str) -> Series:
    """Read the values by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Port:
    """The port of metrics and health of a bridge."""

    port: int

    def get(self, path: str, **headers: Any) -> Answer:
        return get(self.port, path, **headers)

    def ready(self) -> tuple[int, dict[str, bool]]:
        """Ask whether it is ready; return the status and the conditions."""
        answer = self.get("/readyz")
        return answer.status, json.loads(answer.body)

    def alive(self) -> int:
        return self.get("/healthz").status

    def series(self) -> Series:
        return read_series(self.get("/metrics").body.decode())

    def value(self, metric: str, **labels: str) -> float | None:
        """Return one value, or None."""
        return self.series().get((f"mqtt_presence_{metric}", tuple(sorted(labels.items()))))


class MonitoredProcess(BridgeProcess, Port):
    """The command `run` with a port for metrics and health."""

    def __init__(self, log: Path, **settings: Any) -> None:
        super().__init__(log, **{"monitor_port": 0, **settings})

    @property
    def port(self) -> int:  # type: ignore[override]
        return int(re.findall(r"metrics are at http://127\.0\.0\.1:(\d+)/", self.log())[-1])


class Monitored(Port):
    """A bridge in a thread of this process, with a port for metrics and health.

    Args:
        database: its URL.
        parts: added to the bridge.
        settings: as flags.

    """

    def __init__(self, database: str, *parts: Part, **settings: Any) -> None:
        monitor = Monitor()
        config = WebConfig(database, port=0, monitoring=Monitoring.ALONE)
        self.server = WebServer(config, monitor=monitor)
        # Waits shorter after a connect than a slow broker needs.
        given = {
            "monitor": monitor,
            "notifications": notifications(load({"database": database, **settings})),
        }
        self.running = BridgeThread(given, tuned(settled_s=0.2), database=database, **settings)
        for part in parts:
            self.running.bridge.add(part)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self.server)
        self._open.enter_context(self.running)
        self.port = self.server.port
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


class Stuck(Part):
    """Keeps the loop in one step until the test releases it."""

    def __init__(self) -> None:
        self.holds = threading.Event()
        self.released = threading.Event()

    def step(self, link: Link) -> bool:
        if self.holds.is_set():
            self.released.wait(20)
        return True
