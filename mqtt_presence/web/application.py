"""The ASGI application: page, modules, API and MQTT under one URL."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute

from mqtt_presence.web.api import Api, Authenticate
from mqtt_presence.web.config import MQTT_PATH, WebConfig
from mqtt_presence.web.headers import SecurityHeaders
from mqtt_presence.web.origin_check import OriginCheck
from mqtt_presence.web.page_files import PageFiles, has_libraries
from mqtt_presence.web.responses import refusal
from mqtt_presence.web.websocket_mqtt import MqttEndpoint, Serve

_COMPRESSED_FROM = 1024
_COMPRESSION = 4
"""Fast: answers are compressed in the thread that serves the broker."""


def make_app(config: WebConfig, authenticate: Authenticate, serve: Serve | None) -> tuple[Starlette, Api]:
    """Build the application.

    Args:
        config: the configuration of the web server.
        authenticate: verifies the password of a user, given also the address of the request.
        serve: serves an MQTT client; None if the broker is another process.

    """
    files = PageFiles()
    api = Api(config, authenticate, has_libraries)
    routes = [Route("/", files.index), *api.routes(), Mount("/static", files)]
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
        exception_handlers={HTTPException: _answer_http_error, Exception: _answer_failure},
    )
    app.router.redirect_slashes = False
    return app, api


def _answer_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail, error.headers)


def _answer_failure(_request: Request, _error: Exception) -> Response:
    return refusal(500, "the server failed; its log has the reason")
