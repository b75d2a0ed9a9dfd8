"""Answers in JSON, the refusals among them."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

_NO_STORE = {"cache-control": "no-store"}


def answer(body: Any) -> Response:
    """Answer with what is read once and kept nowhere.

    Args:
        body: anything that msgspec writes; `msgspec.Raw` for what is JSON already.

    """
    return Response(msgspec.json.encode(body), media_type="application/json", headers=_NO_STORE)


def refusal(status: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    """Refuse, and say why.

    Args:
        status: of HTTP.
        why: a sentence, what to do included.
        headers: to add.

    """
    body = msgspec.json.encode({"error": why})
    return Response(body, status, media_type="application/json", headers=_NO_STORE | dict(headers or {}))
