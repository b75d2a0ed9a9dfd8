"""The door of the application: requests under a wrong name, and from pages of other sites, end here."""

import logging

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mqtt_presence.web.allowed_origins import refuse_host, refuse_origin
from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.headers import read
from mqtt_presence.web.responses import refusal

log = logging.getLogger(__name__)


class Entrance:
    """Lets in what may come in.

    Args:
        app: the application.
        config: the server's.

    """

    def __init__(self, app: ASGIApp, config: WebConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        headers = read(scope)
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
