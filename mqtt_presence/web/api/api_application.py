"""The API as ASGI applications: version 1 with its OpenAPI document, and the paths of before it."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Mount

from mqtt_presence import __version__
from mqtt_presence.errors import PresenceError
from mqtt_presence.web.api import (
    connection_resources,
    documents,
    figures_resource,
    forgotten_resource,
    page_resource,
    stream_resource,
    user_resources,
    why_resource,
)
from mqtt_presence.web.api.access import AccessError
from mqtt_presence.web.api.body_size import MAX_BODY, BodySize
from mqtt_presence.web.api.head_requests import HeadRequests
from mqtt_presence.web.api.parameters import ParameterError, explain, refuse_repeated
from mqtt_presence.web.api.services import Services, require_operator
from mqtt_presence.web.database_reader import BusyError
from mqtt_presence.web.responses import refusal

_SOON = {"retry-after": "1"}
_DESCRIPTION = """\
Presence of MQTT clients: who is online, idle or offline, and who was connected when.

Statuses are spelled as in the retained message `status/<user>`, connections as in the events.
Refusals are problem details (RFC 9457)."""


def mounts(services: Services) -> list[Mount]:
    """Return the API's routes, for the application of the page.

    Args:
        services: shared by all resources.

    """
    current = APIRouter()
    for router in (
        user_resources.router,
        why_resource.router,
        connection_resources.router,
        figures_resource.router,
        forgotten_resource.router,
        stream_resource.router,
        page_resource.router,
    ):
        current.include_router(router)
    old = APIRouter()
    for router in (user_resources.router, connection_resources.router):
        # Until 1.0; for operators only, as ever.
        old.include_router(router, dependencies=[Depends(require_operator)])
    old.include_router(page_resource.router)
    return [
        Mount("/api/v1", BodySize(_application(services, current, "/openapi.json"))),
        Mount("/api", BodySize(_application(services, old, None))),
    ]


def _application(services: Services, router: APIRouter, document: str | None) -> FastAPI:
    app = FastAPI(
        title="mqtt-presence",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=document,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        servers=[{"url": "."}],  # relative to the document: a proxy may move all of it
        root_path_in_servers=False,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        max_body_size=MAX_BODY,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        dependencies=[Depends(refuse_repeated)],
        exception_handlers={
            RequestValidationError: _answer_wrong_request,
            ParameterError: _answer_wrong_parameter,
            AccessError: _answer_stranger,
            BusyError: _answer_busy,
            PresenceError: _answer_database_error,
            HTTPException: answer_http_error,
            Exception: answer_failure,
        },
    )
    app.add_middleware(HeadRequests)
    if document is not None and (origins := services.config.origins | services.config.cors):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(origins),
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"),
            expose_headers=("ETag", "Link", "Retry-After"),
        )
    app.state.services = services
    app.include_router(router)
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = documents.complete(made())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


async def answer_http_error(_request: Request, error: Exception) -> Response:
    """Answer with the framework's reason for a refusal."""
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail, error.headers)


async def answer_failure(_request: Request, _error: Exception) -> Response:
    """Answer after a failure of the server."""
    return refusal(500, "the server failed; its log has the reason")


async def _answer_wrong_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    route = request.scope.get("route")
    names = [p.alias for p in route.dependant.query_params] if route is not None else []
    return refusal(400, explain(error, tuple(names)))


async def _answer_wrong_parameter(_request: Request, error: Exception) -> Response:
    return refusal(400, str(error))


async def _answer_stranger(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AccessError)
    return refusal(error.status, str(error), error.headers)


async def _answer_busy(_request: Request, error: Exception) -> Response:
    return refusal(503, str(error), _SOON)


async def _answer_database_error(_request: Request, _error: Exception) -> Response:
    # DatabaseReader has logged it.
    return refusal(503, "the database cannot be read just now; the log says why", _SOON)
