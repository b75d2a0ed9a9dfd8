"""Security headers of every answer: a strict content security policy and related headers."""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mqtt_presence.web.allowed_origins import socket_origin, sockets_of
from mqtt_presence.web.config import WebConfig

_FIXED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def policy(config: WebConfig, host: str) -> str:
    """Return the content security policy: files of this server only, without inline code and forms.

    Only the pages in the setting `web_frame_ancestors` may show it in a frame.

    Args:
        config: the configuration of the web server.
        host: the ``Host`` header.

    """
    # For some browsers 'self' does not include WebSockets of the same host.
    sockets = "".join(f" {socket}" for socket in sockets_of(config, host))
    if config.mqtt_url is not None:
        sockets = f" {socket_origin(config.mqtt_url)}"
    frames = " ".join(sorted(config.frame_ancestors)) or "'none'"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            "manifest-src 'self'",
            f"connect-src 'self'{sockets}",
            "base-uri 'none'",
            "form-action 'none'",
            f"frame-ancestors {frames}",
        )
    )


def headers_of(scope: Scope) -> Mapping[str, str]:
    """Return the headers of a request by lower-case name, the values of a repeated one joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class SecurityHeaders:
    """Middleware that adds the security headers to every answer of an application.

    Args:
        app: the application.
        config: the configuration of the web server.

    """

    def __init__(self, app: ASGIApp, config: WebConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and add headers to its answer."""
        host = headers_of(scope).get("host", "") if scope["type"] == "http" else ""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_FIXED)
                headers["content-security-policy"] = policy(self._config, host)
                if not self._config.frame_ancestors:
                    headers["x-frame-options"] = "DENY"  # knows no list of pages
                # Browsers ask each time and get 304, so that all files of a new version are used at once.
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        await self._app(scope, receive, with_headers)
