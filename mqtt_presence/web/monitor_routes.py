"""Metrics and health over HTTP: ``/metrics``, ``/healthz``, ``/readyz``."""

from typing import Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.web.api.access import Access, AccessError
from mqtt_presence.web.database_reader import BusyError
from mqtt_presence.web.exposition import Exposition
from mqtt_presence.web.responses import refusal

PATIENCE_S: Final = 0.8
"""Seconds that a request waits for a test of the database; probes of Kubernetes give up after one second."""
_NO_STORE = {"cache-control": "no-store"}


def monitoring_routes(monitor: Monitor, access: Access | None) -> list[Route]:
    """Return the routes. Health is for everybody: load balancers do not log in.

    Args:
        monitor: reads the bridge.
        access: admits operators to metrics; None: metrics are for everybody, too.

    """
    exposition = Exposition(monitor)

    async def metrics(request: Request) -> Response:
        if access is not None:
            try:
                await access.require(request, operator=True)
            except AccessError as error:
                return refusal(error.status, str(error), error.headers)
            except BusyError as error:
                return refusal(503, str(error), {"retry-after": "1"})
        body, content_type = exposition.write(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type, **_NO_STORE})

    async def health(_request: Request) -> Response:
        return _answer(is_good=monitor.is_alive, body={"alive": monitor.is_alive})

    async def readiness(_request: Request) -> Response:
        found = await run_in_threadpool(monitor.readiness, PATIENCE_S)
        conditions = {
            "broker": found.broker,
            "database": found.database,
            "caughtUp": found.caught_up,
            "repaired": found.repaired,
        }
        return _answer(is_good=found.is_ready, body={"ready": found.is_ready, **conditions})

    return [
        Route("/metrics", metrics),
        Route("/healthz", health),
        Route("/readyz", readiness),
    ]


def _answer(*, is_good: bool, body: dict[str, bool]) -> Response:
    return Response(
        msgspec.json.encode(body), 200 if is_good else 503, media_type="application/json", headers=_NO_STORE
    )
