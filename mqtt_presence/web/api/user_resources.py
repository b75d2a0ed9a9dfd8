"""The users: pages of statuses, one status, the statuses of many users, and the numbers in each state."""

import hashlib
from typing import Annotated, Final

import fastapi
import msgspec
from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from mqtt_presence.protocol.outgoing import StatusOut, status_out
from mqtt_presence.rules.model import State, UserPresence
from mqtt_presence.store.reader import Reader
from mqtt_presence.web.api import documents
from mqtt_presence.web.api.cursors import after_name, name_cursor
from mqtt_presence.web.api.listings import Form, Listing
from mqtt_presence.web.api.parameters import LIMIT, Cursor, Limit, Query, Text, User, UserInPath
from mqtt_presence.web.api.services import StatusViewer, Viewer
from mqtt_presence.web.responses import NO_STORE, json_answer, refusal

MAX_IDS: Final = 1_000
"""Users in one query by names."""
router = APIRouter(tags=["users"])


class Selection(Query):
    """Which users."""

    state: list[State] = Field(default=[], description="Only users in one of these states; repeatable.")
    prefix: Text | None = Field(None, description="Only names that begin with this text.")
    q: Text | None = Field(None, description="Only names that contain this text, in any case of letters.")


class UsersQuery(Selection):
    """Which page of which users."""

    after: Cursor | None = None
    limit: Limit = LIMIT


class Names(BaseModel):
    """The names of users."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ids: list[User] = Field(min_length=1, max_length=MAX_IDS)


class UsersPage(msgspec.Struct):
    """A page of users, by name."""

    users: list[StatusOut]
    next: str | None
    """The value of `after` for the next page; null on the last one."""


class FoundUsers(msgspec.Struct):
    """The known ones among the named users."""

    users: list[StatusOut]
    unknown: list[str]


class Counts(msgspec.Struct):
    """The numbers of users."""

    online: int = 0
    idle: int = 0
    offline: int = 0
    total: int = 0


UsersQueryOf = Annotated[UsersQuery, fastapi.Query()]


@router.get("/users", **documents.listing(UsersPage))
async def list_users(request: Request, query: UsersQueryOf, viewer: StatusViewer) -> Response:
    """List the users by name, in pages."""
    return await _list_users(request, query, viewer, Form.JSON)


@router.get("/users.json", **documents.listing(UsersPage))
async def list_users_as_json(request: Request, query: UsersQueryOf, viewer: StatusViewer) -> Response:
    """List the users as `/users` does."""
    return await _list_users(request, query, viewer, Form.JSON)


@router.get("/users.csv", **documents.csv_listing())
async def list_users_as_csv(request: Request, query: UsersQueryOf, viewer: StatusViewer) -> Response:
    """List the users as CSV; the header `Link` has the next page."""
    return await _list_users(request, query, viewer, Form.CSV)


async def _list_users(request: Request, query: UsersQuery, viewer: Viewer, form: Form) -> Response:
    after = after_name("after", query.after)

    def question(reader: Reader) -> Response:
        found = reader.users_page(
            after=after,
            limit=query.limit + 1,
            containing=query.q,
            states=query.state,
            prefix=query.prefix or "",
        )
        following = name_cursor(found[query.limit - 1].user_id) if len(found) > query.limit else None
        shown = [_status(user, viewer) for user in found[: query.limit]]
        return Listing("users", StatusOut, shown, "after", following).answer(request, form)

    return await viewer.database.ask(question)


@router.get("/counts", **documents.json_answer(Counts))
async def count_users(query: Annotated[Selection, fastapi.Query()], viewer: StatusViewer) -> Response:
    """Count the users in each state."""

    def question(reader: Reader) -> dict[State, int]:
        return reader.count_by_state(containing=query.q, states=query.state, prefix=query.prefix or "")

    counted = await viewer.database.ask(question)
    return json_answer(
        Counts(**{state.value: n for state, n in counted.items()}, total=sum(counted.values()))
    )


@router.post("/users/query", **documents.json_answer(FoundUsers, body=True))
async def query_users(names: Annotated[Names, Body()], viewer: StatusViewer) -> Response:
    """Return the statuses of up to 1,000 users by name."""
    wanted = sorted(set(names.ids))

    def question(reader: Reader) -> Response:
        found = reader.users_named(wanted)
        known = {user.user_id for user in found}
        unknown = [name for name in wanted if name not in known]
        return json_answer(FoundUsers([_status(user, viewer) for user in found], unknown))

    return await viewer.database.ask(question)


@router.get("/users/{user}", **documents.json_answer(StatusOut, may_be_missing=True, has_etag=True))
async def get_user(request: Request, user: UserInPath, viewer: StatusViewer) -> Response:
    """Return the status of a user; 304 if it is the one of `If-None-Match`."""

    def question(reader: Reader) -> list[UserPresence]:
        return reader.users_named([user])

    found = await viewer.database.ask(question)
    if not found:
        return refusal(404, f"there is no user {user}")
    body = msgspec.json.encode(_status(found[0], viewer))
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    # The answer depends on the requester, and a cache must ask each time.
    headers = {"etag": etag, "cache-control": "private, no-cache", "vary": "Authorization"}
    if etag in _tags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=NO_STORE | headers)


def _tags(header: str) -> set[str]:
    """Return the entity tags in ``If-None-Match``, weak ones as strong ones (RFC 9110 §13.1.2)."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _status(user: UserPresence, viewer: Viewer) -> StatusOut:
    assert user.status is not None
    return status_out(
        user.user_id,
        user.status,
        version=user.version,
        last_seen=user.last_seen,
        private=viewer.sees_private,
    )
