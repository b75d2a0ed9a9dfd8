"""The connections, for operators: of one user, or of all users."""

from collections.abc import Callable, Sequence
from typing import Annotated

import fastapi
import msgspec
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from mqtt_presence.protocol.outgoing import ConnectionOut, connection_out
from mqtt_presence.rules.model import Connection
from mqtt_presence.store.reader import Reader
from mqtt_presence.web.api import documents
from mqtt_presence.web.api.cursors import after_client, after_pair, client_cursor, pair_cursor
from mqtt_presence.web.api.listings import Form, Listing
from mqtt_presence.web.api.parameters import (
    LIMIT,
    Cursor,
    Flag,
    Limit,
    ParameterError,
    Query,
    Time,
    User,
    UserInPath,
)
from mqtt_presence.web.api.services import OperatorsDatabase
from mqtt_presence.web.database_reader import DatabaseReader
from mqtt_presence.web.responses import refusal

router = APIRouter(tags=["connections"])


class Range(Query):
    """Which connections of a user."""

    since: Time | None = Field(
        None, alias="from", description="Only connections that were open then or later."
    )
    until: Time | None = Field(None, alias="to", description="Only connections that began then or earlier.")
    before: Cursor | None = None
    limit: Limit = LIMIT


class ConnectionsQuery(Range):
    """Which connections of all users, or of one."""

    user: User | None = Field(None, description="Only connections of this user, as below `/users/{user}`.")
    open: Flag = Field(
        default=True, description="Open connections, by user; false: ended ones, the last end first."
    )
    after: Cursor | None = None


class ConnectionsPage(msgspec.Struct):
    """A page of connections."""

    connections: list[ConnectionOut]
    next: str | None
    """The value of `after` or `before` for the next page; null on the last one."""


RangeOf = Annotated[Range, fastapi.Query()]
ConnectionsQueryOf = Annotated[ConnectionsQuery, fastapi.Query()]


@router.get("/users/{user}/connections", **documents.listing(ConnectionsPage, may_be_missing=True))
async def list_of_user(
    request: Request, user: UserInPath, query: RangeOf, database: OperatorsDatabase
) -> Response:
    """List the connections of a user, the newest first."""
    return await _timeline(request, user, query, database, Form.JSON)


@router.get("/users/{user}/connections.json", **documents.listing(ConnectionsPage, may_be_missing=True))
async def list_of_user_as_json(
    request: Request, user: UserInPath, query: RangeOf, database: OperatorsDatabase
) -> Response:
    """List the connections of a user, the newest first."""
    return await _timeline(request, user, query, database, Form.JSON)


@router.get("/users/{user}/connections.csv", **documents.csv_listing(may_be_missing=True))
async def list_of_user_as_csv(
    request: Request, user: UserInPath, query: RangeOf, database: OperatorsDatabase
) -> Response:
    """List the connections of a user as CSV; the header `Link` has the next page."""
    return await _timeline(request, user, query, database, Form.CSV)


@router.get("/connections", **documents.listing(ConnectionsPage, may_be_missing=True))
async def list_connections(
    request: Request, query: ConnectionsQueryOf, database: OperatorsDatabase
) -> Response:
    """List the open or the ended connections of all users."""
    return await _list(request, query, database, Form.JSON)


@router.get("/connections.json", **documents.listing(ConnectionsPage, may_be_missing=True))
async def list_connections_as_json(
    request: Request, query: ConnectionsQueryOf, database: OperatorsDatabase
) -> Response:
    """List the open or the ended connections of all users."""
    return await _list(request, query, database, Form.JSON)


@router.get("/connections.csv", **documents.csv_listing(may_be_missing=True))
async def list_connections_as_csv(
    request: Request, query: ConnectionsQueryOf, database: OperatorsDatabase
) -> Response:
    """List connections as CSV; the header `Link` has the next page."""
    return await _list(request, query, database, Form.CSV)


async def _list(request: Request, query: ConnectionsQuery, database: DatabaseReader, form: Form) -> Response:
    if query.user is not None:  # for a name that cannot be in a path, such as `..`
        _refuse(query, "open", "after")
        return await _timeline(request, query.user, query, database, form)
    _refuse(query, "before")
    _require_order(query)
    limit = query.limit

    def ended(reader: Reader, before: tuple[int, int] | None) -> Listing:
        found = reader.ended_page(before=before, limit=limit + 1, since=query.since, until=query.until)
        return _listing(found, limit, "after", _after_end)

    def opened(reader: Reader, after: tuple[str, str, int] | None) -> Listing:
        found = reader.open_page(after=after, limit=limit + 1, until=query.until)
        return _listing(found, limit, "after", _after_client)

    if query.open:
        after = after_client("after", query.after)
        return await database.ask(lambda reader: opened(reader, after).answer(request, form))
    before = after_pair("after", query.after)
    return await database.ask(lambda reader: ended(reader, before).answer(request, form))


async def _timeline(
    request: Request, user: str, query: Range, database: DatabaseReader, form: Form
) -> Response:
    _require_order(query)
    before, limit = after_pair("before", query.before), query.limit

    def question(reader: Reader) -> Response:
        found = reader.connections_page(
            user, since=query.since, until=query.until, before=before, limit=limit + 1
        )
        if not found and not reader.has_user(user):
            return refusal(404, f"there is no user {user}")
        return _listing(found, limit, "before", _after_login).answer(request, form)

    return await database.ask(question)


def _require_order(query: Range) -> None:
    if query.since is not None and query.until is not None and query.since > query.until:
        raise ParameterError("from must not be later than to")


def _refuse(query: ConnectionsQuery, *names: str) -> None:
    for name in names:
        if name in query.model_fields_set:
            beside = "beside user" if query.user is not None else "without user"
            raise ParameterError(f"{name!r} is no parameter {beside}")


def _listing(
    found: Sequence[tuple[int, Connection]], limit: int, name: str, cursor: Callable[[int, Connection], str]
) -> Listing:
    shown = [connection_out(record, private=True) for _, record in found[:limit]]
    following = cursor(*found[limit - 1]) if len(found) > limit else None
    return Listing("connections", ConnectionOut, shown, name, following)


def _after_client(row_id: int, record: Connection) -> str:
    return client_cursor(record.user_id, record.client_id, row_id)


def _after_end(row_id: int, record: Connection) -> str:
    return pair_cursor(record.logout_time or 0, row_id)


def _after_login(row_id: int, record: Connection) -> str:
    return pair_cursor(record.login_time or 0, row_id)
