"""Explanations: the rules that made a record what it is, and the deadlines that are due next."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct

from mqtt_presence.rules.deadlines import expires_at, idle_at, unconfirmed_until
from mqtt_presence.rules.model import Cause, Connection, Reason, Rule, RuleSettings, UserPresence


class Trigger(StrEnum):
    """The message or the check that made a rule apply."""

    LOGIN = "login"
    ACTIVITY = "activity"
    LOGOUT = "logout"
    WILL = "will"
    REPORT = "brokerReport"
    CHECK = "check"
    DEVICE = "deviceMessage"
    GATEWAY = "gateway"
    UNKNOWN = "unknown"


class RecordChange(StrEnum):
    """The kinds of changes of a record."""

    OPENED = "opened"
    REOPENED = "reopened"
    IDLE = "idle"
    ENDED = "ended"
    CORRECTED = "corrected"
    GRACE_ENDS = "graceEnds"


class ExplanationStep(Struct, frozen=True):
    """A change of a record, past or due."""

    change: RecordChange
    at: int | None
    """When the bridge noticed it, epoch milliseconds; of a due change, the earliest time. None: unknown."""
    rule: Rule | None
    """None: unknown, because an earlier version wrote the record."""
    trigger: Trigger


class Explanation(Struct, frozen=True):
    """A record with the reasons for its state."""

    record: Connection
    counts: bool
    """Whether it counts for the user's status now."""
    past: tuple[ExplanationStep, ...]
    due: tuple[ExplanationStep, ...]
    """Changes that happen without a further sign of life, the next first."""


class UserExplanation(Struct, frozen=True):
    """A user with the records that make the state."""

    user: UserPresence
    records: tuple[Explanation, ...]
    """The live records, and then the latest of the others, the last end first."""


_REOPENS = frozenset({Rule.L3, Rule.A3, Rule.S3})
_TRIGGERS = {
    Rule.L1: Trigger.LOGIN,
    Rule.L3: Trigger.LOGIN,
    Rule.L4: Trigger.LOGIN,
    Rule.D12: Trigger.LOGIN,
    Rule.A1: Trigger.ACTIVITY,
    Rule.A2: Trigger.ACTIVITY,
    Rule.A3: Trigger.ACTIVITY,
    Rule.G1: Trigger.REPORT,
    Rule.G2: Trigger.REPORT,
    Rule.B1: Trigger.CHECK,
    Rule.B2: Trigger.CHECK,
    Rule.B3: Trigger.CHECK,
    Rule.D17: Trigger.CHECK,
    Rule.S1: Trigger.DEVICE,
    Rule.S2: Trigger.DEVICE,
    Rule.S3: Trigger.DEVICE,
    Rule.I1: Trigger.REPORT,
    Rule.I2: Trigger.CHECK,
}


def explain(
    record: Connection, settings: RuleSettings, unanswered_until: tuple[int, int] | None = None
) -> Explanation:
    """Explain a record.

    Args:
        record: the record.
        settings: the thresholds in force.
        unanswered_until: the time of a pending announcement, and the end of the time to answer it; epoch
            milliseconds. None: none is pending.

    """
    due = sorted(_due(record, settings, unanswered_until), key=lambda step: step.at or 0)
    return Explanation(record, record.is_live, tuple(_past(record)), tuple(due))


def explain_user(
    user: UserPresence,
    ended: Iterable[Connection],
    settings: RuleSettings,
    unanswered_until: tuple[int, int] | None = None,
) -> UserExplanation:
    """Explain the state of a user.

    Args:
        user: the user, with all live records.
        ended: the latest of the other records.
        settings: see `explain`.
        unanswered_until: see `explain`.

    """
    live = sorted(user.connections.values(), key=lambda c: (c.client_id, c.opened_at or 0))
    gone = sorted(ended, key=lambda c: c.logout_time or 0, reverse=True)
    return UserExplanation(user, tuple(explain(c, settings, unanswered_until) for c in (*live, *gone)))


def _past(record: Connection) -> Iterator[ExplanationStep]:
    if record.opened_at is not None:
        change = RecordChange.REOPENED if record.opened_by in _REOPENS else RecordChange.OPENED
        yield ExplanationStep(
            change, record.opened_at, record.opened_by, _trigger(record, record.opened_by, None)
        )
    if record.idle and record.is_open:
        rule = _idle_rule(record)
        yield ExplanationStep(RecordChange.IDLE, record.last_activity, rule, _trigger(record, rule, None))
    if record.logout_time is not None:
        # Of a corrected end, the record has the later reason: the rule names the earlier one.
        reason = record.reason if record.corrected_by is None else None
        trigger = _trigger(record, record.ended_by, reason)
        yield ExplanationStep(RecordChange.ENDED, record.logout_time, record.ended_by, trigger)
    if record.corrected_by is not None:
        trigger = _trigger(record, record.corrected_by, record.reason)
        yield ExplanationStep(RecordChange.CORRECTED, record.corrected_at, record.corrected_by, trigger)


def _due(
    record: Connection, settings: RuleSettings, unanswered_until: tuple[int, int] | None
) -> Iterable[ExplanationStep]:
    if not record.is_open:
        if record.check_at is not None:
            yield ExplanationStep(RecordChange.GRACE_ENDS, record.check_at, Rule.D17, Trigger.CHECK)
        return
    deadlines = ((RecordChange.IDLE, Rule.B1, idle_at), (RecordChange.ENDED, Rule.B2, expires_at))
    for change, rule, find in deadlines:
        at = find(record, settings)
        if at is not None:
            yield ExplanationStep(change, at, rule, Trigger.CHECK)
    if unanswered_until is not None and record.announce and record.last_seen < unanswered_until[0]:
        yield ExplanationStep(RecordChange.ENDED, unanswered_until[1], Rule.B3, Trigger.CHECK)
    kept_until = unconfirmed_until(record, settings)
    if kept_until is not None:
        yield ExplanationStep(RecordChange.ENDED, kept_until, Rule.I2, Trigger.CHECK)


def _idle_rule(record: Connection) -> Rule:
    if record.origin is not None and record.origin.startswith("profile:"):
        return Rule.S2
    return Rule.A1 if record.reports else Rule.B1


def _trigger(record: Connection, rule: Rule | None, reason: Reason | None) -> Trigger:
    """Return the trigger of a rule; for E1 and E2 the reason distinguishes a logout from a will."""
    if rule is None:
        return Trigger.UNKNOWN
    if rule in _TRIGGERS:
        return _TRIGGERS[rule]
    if record.cause is Cause.PARENT:
        return Trigger.GATEWAY
    if record.origin is not None and record.origin.startswith("profile:"):
        return Trigger.DEVICE
    if reason is None:
        return Trigger.UNKNOWN
    return Trigger.LOGOUT if reason is Reason.LOGOUT else Trigger.WILL
