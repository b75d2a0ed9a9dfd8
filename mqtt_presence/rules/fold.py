"""The fold over the events of one user; the package's docstring explains how it works."""

from collections.abc import Iterable
from typing import assert_never

from mqtt_presence.rules.activity import handle_activity
from mqtt_presence.rules.ends import handle_end, handle_network_closed, handle_network_replaced
from mqtt_presence.rules.events import (
    Activity,
    CheckDeadlines,
    ClockSteppedBack,
    End,
    EndUnconfirmed,
    Event,
    Login,
    NetworkClaimed,
    NetworkClosed,
    NetworkOpened,
    NetworkReplaced,
    Renew,
    ReportsLost,
    Sighting,
)
from mqtt_presence.rules.implicit import handle_network_claimed, handle_network_opened, handle_reports_lost
from mqtt_presence.rules.ledger import Ledger
from mqtt_presence.rules.logins import handle_login
from mqtt_presence.rules.model import Outcome, RuleSettings, UserPresence
from mqtt_presence.rules.monitoring import (
    handle_check_deadlines,
    handle_clock_stepped_back,
    handle_end_unconfirmed,
)
from mqtt_presence.rules.sightings import handle_sighting


def fold(
    user: UserPresence,
    events: Iterable[Event],
    settings: RuleSettings,
    new_records: int | None = None,
    present: int | None = None,
) -> Outcome:
    """Apply the events of one user in their order.

    Args:
        user: the user before the events, with the records that `needs` names.
        events: the events, all of this user.
        settings: thresholds and limits.
        new_records: the greatest number of new records; None for any number.
        present: the bridge's clock now, epoch milliseconds, if other bridges process events of the user, too.
            Some of these events may have waited, and were received earlier than what is known already.

    Returns:
        The new state, the records to save and the events to publish. Several changes of the status count as
        one.

    """
    ledger = Ledger(user, settings, new_records, present)
    for event in events:
        _apply(ledger, event)
        if ledger.live.has_changed:
            ledger.update_status(ledger.not_before(ledger.status.since, event.now))
    return ledger.outcome()


def _apply(ledger: Ledger, event: Event) -> None:
    match event:
        case Activity():
            handle_activity(ledger, event)
        case Login():
            handle_login(ledger, event)
        case Sighting():
            handle_sighting(ledger, event)
        case End():
            handle_end(ledger, event)
        case NetworkClosed():
            handle_network_closed(ledger, event)
        case NetworkReplaced():
            handle_network_replaced(ledger, event)
        case NetworkOpened():
            handle_network_opened(ledger, event)
        case NetworkClaimed():
            handle_network_claimed(ledger, event)
        case ReportsLost():
            handle_reports_lost(ledger, event)
        case CheckDeadlines():
            handle_check_deadlines(ledger, event)
        case EndUnconfirmed():
            handle_end_unconfirmed(ledger, event)
        case ClockSteppedBack():
            handle_clock_stepped_back(ledger, event)
        case Renew():
            ledger.is_renewed = True
        case _:
            assert_never(event)
