"""The OpenAPI document: what FastAPI cannot see, because answers are encoded by msgspec."""

from typing import Any

import msgspec

from mqtt_presence.web.responses import PROBLEM, Problem

_REF = "#/components/schemas/{name}"
_kinds: dict[str, type[msgspec.Struct]] = {Problem.__name__: Problem}
_PROBLEM = {PROBLEM: {"schema": {"$ref": _REF.format(name=Problem.__name__)}}}
_REFUSALS = {
    400: "A parameter or the body is wrong; `detail` names it.",
    401: "The request needs credentials, or other ones.",
    403: "The requester may not see this.",
    404: "There is no such user.",
    413: "The body is too long.",
    503: "The server is busy, or the database cannot be read just now.",
}
_LINK = {"Link": {"description": "The next page (rel=next).", "schema": {"type": "string"}}}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_ETAG = {"ETag": {"description": "Changes with the answer.", "schema": {"type": "string"}}}
_SECURITY: list[dict[str, list[str]]] = [{"token": []}, {"password": []}, {}]


def json_answer(
    kind: type[msgspec.Struct],
    *,
    body: bool = False,
    may_be_missing: bool = False,
    has_etag: bool = False,
    is_public: bool = False,
) -> dict[str, Any]:
    """Return the arguments of a route that answers with JSON.

    Args:
        kind: the type of the answer.
        body: whether the request has a body.
        may_be_missing: whether the answer may be 404.
        has_etag: whether the answer has an entity tag, and may be 304.
        is_public: whether every visitor may see it.

    """
    found = {"description": "The answer.", "content": _content(kind)}
    responses: dict[int, dict[str, Any]] = {200: found}
    if has_etag:
        found["headers"] = _ETAG
        responses[304] = {"description": "The status is the one of `If-None-Match`.", "headers": _ETAG}
    return _route(responses, body=body, may_be_missing=may_be_missing, is_public=is_public)


def listing(kind: type[msgspec.Struct], *, may_be_missing: bool = False) -> dict[str, Any]:
    """Return the arguments of a route that answers with a page of a list; see `json_answer`."""
    found = {"description": "A page.", "content": _content(kind), "headers": _LINK}
    return _route({200: found}, may_be_missing=may_be_missing)


def csv_listing(*, may_be_missing: bool = False) -> dict[str, Any]:
    """Return the arguments of a route that answers with CSV; see `json_answer`."""
    content = {"text/csv": {"schema": {"type": "string"}}}
    found = {"description": "A page.", "content": content, "headers": _LINK}
    return _route({200: found}, may_be_missing=may_be_missing)


def event_stream() -> dict[str, Any]:
    """Return the arguments of a route that answers with server-sent events; see `json_answer`."""
    content = {"text/event-stream": {"schema": {"type": "string"}}}
    return _route({200: {"description": "Events, without an end.", "content": content}})


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's document with the schemas of the answers and the ways to sign in."""
    components = document.setdefault("components", {})
    _, schemas = msgspec.json.schema_components(_kinds.values(), ref_template=_REF)
    components.setdefault("schemas", {}).update(schemas)
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A token of `web_token`."},
        "password": {"type": "http", "scheme": "basic", "description": "A user of the broker of `up`."},
    }
    return document


def _route(
    responses: dict[int, dict[str, Any]],
    *,
    body: bool = False,
    may_be_missing: bool = False,
    is_public: bool = False,
) -> dict[str, Any]:
    statuses = [400, *[401, 403] * (not is_public), *[404] * may_be_missing, *[413] * body, 503]
    for status in statuses:
        refused: dict[str, Any] = {"description": _REFUSALS[status], "content": _PROBLEM}
        if status == 503:
            refused["headers"] = _RETRY
        responses[status] = refused
    refused_otherwise = {"description": "Another refusal.", "content": _PROBLEM}
    extra = {"security": [{}] if is_public else _SECURITY}
    return {"responses": {**responses, "default": refused_otherwise}, "openapi_extra": extra}


def _content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    _kinds[kind.__name__] = kind
    return {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}}
