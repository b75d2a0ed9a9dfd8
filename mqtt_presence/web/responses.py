"""Responses: JSON, and refusals as problem details (RFC 9457)."""

import http
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

NO_STORE = {"cache-control": "no-store"}
PROBLEM = "application/problem+json"


class Problem(msgspec.Struct):
    """A refusal."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    """The detail, for clients of the time before `detail`; until 1.0."""


def json_answer(body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response that no cache stores.

    Args:
        body: a value that msgspec can encode; `msgspec.Raw` for encoded JSON.
        headers: further headers.

    """
    return Response(
        msgspec.json.encode(body), media_type="application/json", headers=NO_STORE | dict(headers or {})
    )


def refusal(status: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal with its reason.

    Args:
        status: the HTTP status.
        why: the reason, and the remedy if there is one.
        headers: further headers.

    """
    body = Problem("about:blank", http.HTTPStatus(status).phrase, status, why, why)
    return Response(
        msgspec.json.encode(body), status, media_type=PROBLEM, headers=NO_STORE | dict(headers or {})
    )
