"""Origin check: middleware that refuses requests for foreign host names and from pages of other sites."""

import logging
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mqtt_presence.mqtt.addresses import plain_origin
from mqtt_presence.web.allowed_origins import refuse_host, refuse_origin
from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.headers import headers_of
from mqtt_presence.web.responses import refusal

log = logging.getLogger(__name__)


class OriginCheck:
    """Passes allowed requests on to an application, and answers the others.

    Args:
        app: the application.
        config: the configuration of the web server.

    """

    def __init__(self, app: ASGIApp, config: WebConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with the reason for the refusal."""
        headers = headers_of(scope)
        host = headers.get("host", "")
        answer: Response | None = None
        if (why := refuse_host(self._config, host)) is not None:
            answer = refusal(421, why)
        elif not self._may_call(scope, headers) and (
            why := refuse_origin(self._config, host, headers.get("origin"))
        ):
            answer = refusal(403, why)
        if answer is None:
            await self._app(scope, receive, send)
            return
        log.debug("refused address=%s: %s", scope["client"], why)
        await answer(scope, receive, send)

    def _may_call(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """Return whether the request is a script's of another page that may call the API, and no more."""
        return (
            scope["type"] == "http"
            and scope["path"].startswith("/api/v1/")
            and plain_origin(headers.get("origin", "")) in self._config.cors
        )
