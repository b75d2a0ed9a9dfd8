"""The page's files: index.html, modules and libraries, compressed once and then kept in memory."""

import gzip
import hashlib
import mimetypes
import os
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from mqtt_presence.web import bundle

STATIC: Final = Path(__file__).with_name("static")
MQTT_JS: Final = STATIC / "vendor" / "mqtt.esm.js"
"""The MQTT library for browsers. The build fetches it; without it, the page names the missing file."""
VIEW_JS: Final = STATIC / "vendor" / "preact.js"
"""The library that draws the page."""
TRY_PAGE: Final = "try/index.html"
"""The page to try the API, below `STATIC`."""
_SMALL: Final = 1024
"""Bytes from which on compression saves a packet."""

# Browsers run no module of another type (`nosniff`), and the table of the system may have another one.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/javascript", ".mjs")


def has_libraries() -> bool:
    """Return whether the build has put the libraries of the page into the package."""
    return MQTT_JS.is_file() and VIEW_JS.is_file()


class PageFiles(StaticFiles):
    """Serves the files of the page, compressed for browsers that accept it.

    The same thread serves the broker: a file is compressed in another thread, and once.
    """

    def __init__(self) -> None:
        super().__init__(directory=STATIC)
        self._compressed: dict[tuple[str, float], bytes] = {}
        html = (STATIC / "index.html").read_text("utf-8")
        self._index = (bundle.with_bundle(html) if bundle.is_current(STATIC) else html).encode()
        self._index_headers = {
            "etag": f'"{hashlib.sha256(self._index).hexdigest()[:32]}"',
            "vary": "Accept-Encoding",
        }

    async def index(self, request: Request) -> Response:
        """Answer with index.html, which loads the bundle if there is one."""
        known = request.headers.get("if-none-match", "")
        if self._index_headers["etag"] in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
            return NotModifiedResponse(Headers(self._index_headers))
        return Response(self._index, media_type="text/html", headers=self._index_headers)

    async def api_page(self, request: Request) -> Response:
        """Answer with the page to try the API."""
        return await self.get_response(TRY_PAGE, request.scope)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file."""
        response = await super().get_response(path, scope)
        if not isinstance(response, FileResponse):
            return response
        response.headers["vary"] = "Accept-Encoding"
        accepted = Headers(scope=scope).get("accept-encoding", "")
        if "gzip" not in accepted or scope["method"] == "HEAD" or not _gains(response):
            return response
        body = await run_in_threadpool(self._compress, response.path)
        headers = {name: response.headers[name] for name in ("etag", "last-modified", "vary")}
        headers |= {"content-encoding": "gzip", "etag": f"W/{headers['etag']}"}
        return Response(body, media_type=response.media_type, headers=headers)

    def _compress(self, path: str | os.PathLike[str]) -> bytes:
        file = Path(path)
        key = (str(path), file.stat().st_mtime)
        if key not in self._compressed:
            self._compressed[key] = gzip.compress(file.read_bytes(), mtime=0)
        return self._compressed[key]


def _gains(response: FileResponse) -> bool:
    return int(response.headers["content-length"]) >= _SMALL
