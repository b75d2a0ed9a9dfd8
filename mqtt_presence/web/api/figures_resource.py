"""The figures of a period, for operators: users online over time, and totals."""

from typing import Annotated

import fastapi
import msgspec
from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from mqtt_presence.protocol.times import to_iso
from mqtt_presence.store.reader import Reader
from mqtt_presence.web.api import documents
from mqtt_presence.web.api.parameters import ParameterError, Query, Time
from mqtt_presence.web.api.services import OperatorsDatabase
from mqtt_presence.web.responses import json_answer

MOMENTS = 121
"""Moments of a period: each a few pixels wide in the page's chart, and every 12 minutes of a day."""
LONGEST_MS = 366 * 86_400_000
router = APIRouter(tags=["figures"])


class Period(Query):
    """Which period."""

    since: Time = Field(alias="from", description="The beginning.")
    until: Time = Field(alias="to", description="The end, at most 366 days later.")


class Moment(msgspec.Struct):
    """A moment of the period."""

    time: str
    online: int
    """The number of users with an open connection."""


class PeriodTotals(msgspec.Struct):
    """The figures of a period."""

    points: list[Moment]
    """Moments of equal distance, from the beginning on."""
    users: int
    """The number of users with a connection in the period."""
    connections: int
    drops: int
    """The number of connections that ended in the period without a logout."""


@router.get("/figures", **documents.json_answer(PeriodTotals))
async def get_figures(query: Annotated[Period, fastapi.Query()], database: OperatorsDatabase) -> Response:
    """Count the users online over time, and the connections of a period."""
    since, until = query.since, query.until
    if not since < until <= since + LONGEST_MS:
        raise ParameterError("to must be later than from, by at most 366 days")

    def question(reader: Reader) -> Response:
        found = reader.figures(since=since, until=until, moments=MOMENTS)
        points = [Moment(to_iso(since + n * found.step), online) for n, online in enumerate(found.online)]
        return json_answer(PeriodTotals(points, found.users, found.connections, found.drops))

    return await database.ask(question)
