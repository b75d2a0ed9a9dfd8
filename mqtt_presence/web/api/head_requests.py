"""HEAD for each resource that has GET (RFC 9110 §9.3.2); the web server leaves out the body by itself."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadRequests:
    """Middleware that passes on HEAD as GET.

    Args:
        app: the application.

    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and not scope["path"].endswith("/stream"):
            scope = {**scope, "method": "GET"}  # a copy: the server looks into its own for the method
        await self._app(scope, receive, send)
