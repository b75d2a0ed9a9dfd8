"""The ASGI application: page, modules, API and MQTT under one URL."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.web.api.access import Access, Authenticate
from mqtt_presence.web.api.api_application import answer_failure, answer_http_error, mounts
from mqtt_presence.web.api.change_feed import ChangeFeed
from mqtt_presence.web.api.services import Services
from mqtt_presence.web.api.stream_count import StreamCount
from mqtt_presence.web.config import MQTT_PATH, Monitoring, WebConfig
from mqtt_presence.web.database_reader import DatabaseReader
from mqtt_presence.web.forgetting import Forgetting
from mqtt_presence.web.headers import SecurityHeaders
from mqtt_presence.web.monitor_routes import monitoring_routes
from mqtt_presence.web.origin_check import OriginCheck
from mqtt_presence.web.page_files import PageFiles, has_libraries
from mqtt_presence.web.websocket_mqtt import MqttEndpoint, Serve

_COMPRESSED_FROM = 1024
_COMPRESSION = 4
"""Fast: answers are compressed in the thread that serves the broker."""


def make_app(
    config: WebConfig, authenticate: Authenticate, serve: Serve | None, monitor: Monitor
) -> tuple[Starlette, Services]:
    """Build the application.

    Args:
        config: the configuration of the web server.
        authenticate: verifies the password of a user, given also the address of the request.
        serve: serves an MQTT client; None if the broker is another process.
        monitor: reads the bridge.

    """
    files = PageFiles()
    database = DatabaseReader(config.database)
    services = Services(
        config,
        Access(config, authenticate),
        database,
        ChangeFeed(database),
        has_libraries,
        Forgetting(config.database),
        StreamCount(),
    )
    routes: list[BaseRoute] = []
    if config.monitoring is Monitoring.ALONE:
        routes += monitoring_routes(monitor, None)
    else:
        routes += [
            Route("/", files.index),
            Route("/api/v1", files.api_page),
            *mounts(services),
            Mount("/static", files),
        ]
    if config.monitoring is Monitoring.BESIDE_PAGE:
        routes += monitoring_routes(monitor, services.access)
    if serve is not None:
        endpoint = MqttEndpoint(serve, config)
        routes.append(Route(f"/{MQTT_PATH}", endpoint))
        routes.append(WebSocketRoute(f"/{MQTT_PATH}", endpoint))
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(SecurityHeaders, config),
            Middleware(OriginCheck, config),
            Middleware(GZipMiddleware, minimum_size=_COMPRESSED_FROM, compresslevel=_COMPRESSION),
        ],
        exception_handlers={HTTPException: answer_http_error, Exception: answer_failure},
    )
    app.router.redirect_slashes = False
    return app, services
