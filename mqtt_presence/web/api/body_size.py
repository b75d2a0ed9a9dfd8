"""The announced size of a request's body; the framework counts one that is not announced."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from mqtt_presence.web.headers import headers_of
from mqtt_presence.web.responses import refusal

MAX_BODY: Final = 1 << 20
"""Bytes in the body of a request: a thousand names of 128 characters, each escaped."""


class BodySize:
    """Refuses long bodies as a problem; the framework's own refusal is plain text.

    Args:
        app: the application.

    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with 413."""
        length = headers_of(scope).get("content-length", "0")
        if scope["type"] == "http" and length.isdecimal() and int(length) > MAX_BODY:
            await refusal(413, f"the body has more than {MAX_BODY} bytes")(scope, receive, send)
        else:
            await self._app(scope, receive, send)
