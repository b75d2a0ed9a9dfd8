"""The services that the resources of the API share, and their way into the functions of the resources."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from mqtt_presence.web.api.access import Access
from mqtt_presence.web.api.change_feed import ChangeFeed
from mqtt_presence.web.api.stream_count import StreamCount
from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.database_reader import DatabaseReader
from mqtt_presence.web.forgetting import Forgetting
from mqtt_presence.web.visibility import AccessDecision


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one web server."""

    config: WebConfig
    access: Access
    database: DatabaseReader
    feed: ChangeFeed
    has_mqtt_js: Callable[[], bool]
    forgetting: Forgetting
    streams: StreamCount


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whoever may see statuses, and the database with them."""

    database: DatabaseReader
    sees_private: bool
    """Whether addresses and user agents are shown."""


async def services_of(request: Request) -> Services:
    """Return the services of the server that received a request."""
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(services_of)]


async def _status_viewer(request: Request, services: ServicesOf) -> Viewer:
    verdict = await services.access.require(request, operator=False)
    return Viewer(services.database, verdict is AccessDecision.OPERATOR or services.config.publish_private)


async def require_operator(request: Request, services: ServicesOf) -> DatabaseReader:
    """Return the database for an operator.

    Raises:
        AccessError: the request is not an operator's.

    """
    await services.access.require(request, operator=True)
    return services.database


StatusViewer = Annotated[Viewer, Depends(_status_viewer)]
"""Whoever may see statuses."""
OperatorsDatabase = Annotated[DatabaseReader, Depends(require_operator)]
"""The database, for operators only."""
