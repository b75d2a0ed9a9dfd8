"""The stream of statuses: `GET /stream`, its bounds, and the end of a client that reads nothing."""

import asyncio
from typing import Annotated, Final

import fastapi
from fastapi import APIRouter, Header
from pydantic import Field
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from mqtt_presence.web.api import documents
from mqtt_presence.web.api.parameters import Query
from mqtt_presence.web.api.services import ServicesOf, StatusViewer
from mqtt_presence.web.api.status_stream import StatusStream
from mqtt_presence.web.api.stream_count import StreamCount
from mqtt_presence.web.api.user_selection import UserSelection
from mqtt_presence.web.connection_access import connection_of

STALL_S: Final = 60.0
"""Seconds in which a client must take the next bytes."""
router = APIRouter(tags=["stream"])


class StreamQuery(Query):
    """Which users."""

    users: list[str] = Field(
        default=[],
        description="Names, or patterns of `*`, `?` and `[…]`; repeatable; default: all users.",
    )


class EventStream(StreamingResponse):
    """A response that ends the connection of a client that takes no data.

    Args:
        stream: has begun.
        streams: counts it.

    """

    media_type = "text/event-stream"

    def __init__(self, stream: StatusStream, streams: StreamCount) -> None:
        # nginx would keep the events back.
        super().__init__(stream.pieces(), headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until the client or the server ends it."""
        connection = connection_of(scope)

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(STALL_S):
                    await send(message)
            except TimeoutError:
                if connection is not None:
                    connection.abort()
            await asyncio.sleep(0)  # a client that is always ready would occupy the event loop

        with self._streams.one_more():
            await super().__call__(scope, receive, send_in_time)


@router.get("/stream", **documents.event_stream())
async def stream_statuses(
    query: Annotated[StreamQuery, fastapi.Query()],
    services: ServicesOf,
    viewer: StatusViewer,
    last_event_id: Annotated[
        str | None, Header(description="The id of the last event, to go on after it.", max_length=1_000)
    ] = None,
) -> Response:
    """Stream statuses as server-sent events: the state first, then each change."""
    services.streams.require_free()
    selection = UserSelection(query.users)
    stream = StatusStream(services.feed, selection, private=viewer.sees_private)
    await stream.begin(last_event_id)
    return EventStream(stream, services.streams)
