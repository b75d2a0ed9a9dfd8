"""The explanation of a user's state, for operators."""

from fastapi import APIRouter
from starlette.responses import Response

from mqtt_presence.protocol.explanations import ExplanationOut, explanation_out
from mqtt_presence.rules.model import UserId
from mqtt_presence.store.explained_users import read_explanation
from mqtt_presence.store.reader import Reader
from mqtt_presence.web.api import documents
from mqtt_presence.web.api.parameters import UserInPath
from mqtt_presence.web.api.services import OperatorsDatabase, ServicesOf
from mqtt_presence.web.responses import json_answer, refusal

router = APIRouter(tags=["users"])


@router.get("/users/{user}/why", **documents.json_answer(ExplanationOut, may_be_missing=True))
async def explain_user(user: UserInPath, database: OperatorsDatabase, services: ServicesOf) -> Response:
    """Explain the state of a user: its records, the rules behind them, and the next deadlines."""
    config = services.config

    def question(reader: Reader) -> ExplanationOut | None:
        if not reader.has_user(user):
            return None
        found = read_explanation(reader, UserId(user), config.rules, config.confirm_within_ms)
        return explanation_out(found)

    explained = await database.ask(question)
    return refusal(404, f"there is no user {user}") if explained is None else json_answer(explained)
