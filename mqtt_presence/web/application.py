"""The application: page, modules, API and MQTT put together under one URL."""

import mimetypes
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from mqtt_presence.web.api import Api, Authenticate
from mqtt_presence.web.config import MQTT_PATH, WebConfig
from mqtt_presence.web.headers import Headers
from mqtt_presence.web.origin_check import Entrance
from mqtt_presence.web.responses import refusal
from mqtt_presence.web.websocket_mqtt import MqttEndpoint, Serve

STATIC: Final = Path(__file__).with_name("static")
MQTT_JS: Final = STATIC / "vendor" / "mqtt.esm.js"
"""The browser's MQTT library. The build brings it; without it the page still says what is missing."""

# Whatever the system's table says: with `nosniff` a module of another type is not run.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/javascript", ".mjs")


def make_app(config: WebConfig, authenticate: Authenticate, serve: Serve | None) -> tuple[Starlette, Api]:
    """Put the application together.

    Args:
        config: the server's.
        authenticate: verifies a user's password, which came from an address.
        serve: serves an MQTT client; None: the broker is elsewhere.

    """
    files = StaticFiles(directory=STATIC)
    api = Api(config, authenticate, MQTT_JS.is_file)

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    routes = [Route("/", page), *api.routes(), Mount("/static", files)]
    if serve is not None:
        endpoint = MqttEndpoint(serve, config)
        routes.append(Route(f"/{MQTT_PATH}", endpoint))
        routes.append(WebSocketRoute(f"/{MQTT_PATH}", endpoint))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Headers, config), Middleware(Entrance, config)],
        exception_handlers={HTTPException: _say_why, Exception: _say_sorry},
    )
    app.router.redirect_slashes = False
    return app, api


def _say_why(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail, error.headers)


def _say_sorry(_request: Request, _error: Exception) -> Response:
    return refusal(500, "something went wrong here; the log says what")
