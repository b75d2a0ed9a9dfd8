"""JSON of explanations, for `mqtt-presence why --json` and the page."""

import msgspec
from msgspec import Struct

from mqtt_presence.protocol.times import to_iso
from mqtt_presence.rules.explanation import Explanation, ExplanationStep, UserExplanation
from mqtt_presence.rules.model import State


class StepOut(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A change of a record, past or due."""

    change: str
    at: str | None = None
    rule: str | None = None
    trigger: str


class ExplainedRecordOut(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A record, with the changes that made it and those that are due."""

    client_id: str
    connection_id: str
    open: bool
    counts: bool
    idle: bool | None = None
    origin: str | None = None
    reason: str | None = None
    cause: str | None = None
    last_seen: str
    last_activity: str | None = None
    past: list[StepOut]
    due: list[StepOut]


class ExplanationOut(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A user's state, with the records that make it."""

    user_id: str
    state: str
    since: str | None = None
    version: int
    connections: int
    records: list[ExplainedRecordOut]


def encode_explanation(explanation: UserExplanation) -> bytes:
    """Encode the explanation of a user's state."""
    return msgspec.json.encode(explanation_out(explanation))


def explanation_out(explanation: UserExplanation) -> ExplanationOut:
    """Return the explanation of a user's state as it is encoded."""
    user, status = explanation.user, explanation.user.status
    return ExplanationOut(
        user_id=user.user_id,
        state=State.OFFLINE if status is None else status.state,
        since=None if status is None else _iso(status.since),
        version=user.version,
        connections=0 if status is None else status.connections,
        records=[_record(each) for each in explanation.records],
    )


def _record(explanation: Explanation) -> ExplainedRecordOut:
    record = explanation.record
    return ExplainedRecordOut(
        client_id=record.client_id,
        connection_id=record.connection_id,
        open=record.is_open,
        counts=explanation.counts,
        idle=record.idle,
        origin=record.origin,
        reason=record.reason,
        cause=record.cause,
        last_seen=to_iso(record.last_seen),
        last_activity=_iso(record.last_activity),
        past=[_step(step) for step in explanation.past],
        due=[_step(step) for step in explanation.due],
    )


def _step(step: ExplanationStep) -> StepOut:
    rule = None if step.rule is None else step.rule.name
    return StepOut(change=step.change, at=_iso(step.at), rule=rule, trigger=step.trigger)


def _iso(millis: int | None) -> str | None:
    return None if millis is None else to_iso(millis)
