"""Responses in JSON: answers and refusals."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

_NO_STORE = {"cache-control": "no-store"}


def json_answer(body: Any) -> Response:
    """Return a response that no cache stores.

    Args:
        body: a value that msgspec can encode; `msgspec.Raw` for encoded JSON.

    """
    return Response(msgspec.json.encode(body), media_type="application/json", headers=_NO_STORE)


def refusal(status: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal with its reason.

    Args:
        status: the HTTP status.
        why: the reason, and the remedy if there is one.
        headers: further headers.

    """
    body = msgspec.json.encode({"error": why})
    return Response(body, status, media_type="application/json", headers=_NO_STORE | dict(headers or {}))
