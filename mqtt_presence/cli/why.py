"""``mqtt-presence why``: the records and rules that make a user's state, from the database."""

from typing import Annotated

import typer

from mqtt_presence.cli.bridge_config import bridge_config
from mqtt_presence.cli.output import format_time, print_error, print_json, print_line
from mqtt_presence.cli.setting_options import with_settings
from mqtt_presence.protocol.explanations import encode_explanation
from mqtt_presence.rules.explanation import (
    Explanation,
    ExplanationStep,
    RecordChange,
    Trigger,
    UserExplanation,
)
from mqtt_presence.rules.model import Rule, State, UserId
from mqtt_presence.settings import Settings
from mqtt_presence.store.explained_users import read_explanation
from mqtt_presence.store.reader import Reader

_CHANGES = {
    RecordChange.OPENED: "opened",
    RecordChange.REOPENED: "reopened",
    RecordChange.IDLE: "idle",
    RecordChange.ENDED: "ended",
    RecordChange.CORRECTED: "end corrected",
}
_DUE = {
    RecordChange.IDLE: "becomes idle",
    RecordChange.ENDED: "ends",
    RecordChange.GRACE_ENDS: "stops counting",
}
_TRIGGERS = {
    Trigger.LOGIN: "a login arrived",
    Trigger.ACTIVITY: "an activity message arrived",
    Trigger.LOGOUT: "a logout arrived",
    Trigger.WILL: "a will arrived",
    Trigger.REPORT: "the broker reported a network connection",
    Trigger.CHECK: "a check of the bridge",
    Trigger.DEVICE: "a message of the device arrived",
    Trigger.GATEWAY: "its gateway is gone",
    Trigger.UNKNOWN: "written by an earlier version",
}
_DEADLINES = {
    Rule.B1: "without activity",
    Rule.B2: "without a sign of life",
    Rule.B3: "without an answer to the announcement",
    Rule.D17: "the end of the grace",
    Rule.I2: "without a report of the broker about it",
}


@with_settings(
    "database", "people", "idle_threshold", "expire_after", "grace", "confirm_within", "implicit_keep"
)
def command(
    settings: Settings,
    user: Annotated[str, typer.Argument(help="The user whose state to explain.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Explain the state of a user: its records, the rules behind them, and the next deadlines.

    docs/protocol.md has the rules. The data come from the database, so the bridge need not run. For the
    deadlines, give the bridge's settings, as by --config.

    Exit codes: 0 shown; 1 the user is unknown, or the database cannot be read; 2 a setting is wrong.
    """
    config = bridge_config(settings)
    with Reader(settings.database) as reader:
        if not reader.has_user(user):
            print_error(f"there is no user {user}")
            raise typer.Exit(1)
        explanation = read_explanation(reader, UserId(user), config.rules, config.confirm_within_ms)
    if as_json:
        print_json(encode_explanation(explanation))
        return
    print_line(_state(explanation))
    for each in explanation.records:
        _print_record(each)


def _state(explanation: UserExplanation) -> str:
    user, status = explanation.user, explanation.user.status
    if status is None:
        return f"{user.user_id} has no status: only the end of a connection has arrived."
    live = [each for each in explanation.records if each.counts]
    if status.state is State.OFFLINE:
        reason = "no connection counts"
    elif status.state is State.IDLE:
        reason = f"every connection that counts is idle: {len(live)}"
    else:
        active = sum(not each.record.idle for each in live)
        reason = f"connections that count and are not idle: {active}"
    return f"{user.user_id} is {status.state} since {format_time(status.since)}; {reason}"


def _print_record(explanation: Explanation) -> None:
    record = explanation.record
    state = "open" if record.is_open else "ended, in its grace" if explanation.counts else "ended"
    if record.is_open and record.idle:
        state = "open, idle"
    print_line("")
    print_line(f"{record.client_id} (connection {record.connection_id}): {state}")
    for step in explanation.past:
        if step.change is RecordChange.ENDED or step.change is RecordChange.CORRECTED:
            why = _ended(explanation, step)
        else:
            why = _TRIGGERS[step.trigger]
        print_line(f"  {format_time(step.at)}  {_CHANGES[step.change]}{_by(step)}: {why}")
    if not explanation.past:
        print_line("  an earlier version of the bridge wrote it")
    print_line(f"  {format_time(record.last_seen)}  last sign of life")
    for step in explanation.due:
        assert step.rule is not None
        print_line(f"  {format_time(step.at)}  {_DUE[step.change]}{_by(step)}: {_DEADLINES[step.rule]}")


def _ended(explanation: Explanation, step: ExplanationStep) -> str:
    """Return the reason of an end with its trigger; of a corrected end only the later reason is known."""
    record = explanation.record
    is_first = step.change is RecordChange.ENDED and record.corrected_by is not None
    why = _TRIGGERS[step.trigger]
    if is_first:
        return why
    cause = "" if record.cause is None else f", {record.cause}"
    return f"{why} ({record.reason}{cause})"


def _by(step: ExplanationStep) -> str:
    return "" if step.rule is None else f" by {step.rule.name}"
