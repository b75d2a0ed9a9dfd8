"""Forgetting users, for operators: the one resource of the API that changes something."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from mqtt_presence.web.allowed_origins import is_same_origin
from mqtt_presence.web.api import documents
from mqtt_presence.web.api.access import AccessError
from mqtt_presence.web.api.parameters import User
from mqtt_presence.web.api.services import OperatorsDatabase, ServicesOf
from mqtt_presence.web.headers import headers_of
from mqtt_presence.web.responses import json_answer, refusal

router = APIRouter(tags=["users"])


class Forgotten(BaseModel):
    """The user to forget."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: User


class Deleted(msgspec.Struct):
    """What was deleted."""

    user: str
    records: int
    """The number of deleted connections. The bridge clears the status a moment later."""


@router.post("/forgotten", **documents.json_answer(Deleted, body=True, may_be_missing=True))
async def forget_user(
    request: Request, what: Annotated[Forgotten, Body()], services: ServicesOf, _operator: OperatorsDatabase
) -> Response:
    """Delete a user with all records and the status. Pages of other origins are refused."""
    headers = headers_of(request.scope)
    if not is_same_origin(services.config, headers.get("host", ""), headers):
        raise AccessError(403, "pages of other origins may not change anything here")
    deleted = await services.forgetting.forget(what.user)
    if deleted is None:
        return refusal(404, f"there is no user {what.user}")
    return json_answer(Deleted(what.user, deleted))
