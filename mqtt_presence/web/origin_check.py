"""Origin check: middleware that refuses requests for foreign host names and from pages of other sites."""

import logging

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

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
        elif (why := refuse_origin(self._config, host, headers.get("origin"))) is not None:
            answer = refusal(403, why)
        if answer is None:
            await self._app(scope, receive, send)
            return
        log.debug("refused address=%s: %s", scope["client"], why)
        await answer(scope, receive, send)
