"""Heartbeats that concern only their own connection: they need no row of the user, nor other connections."""

from collections.abc import Mapping, Sequence
from itertools import islice

from mqtt_presence.rules.activity import only_heartbeats, settle_heartbeats
from mqtt_presence.rules.events import Event
from mqtt_presence.rules.model import ActivityState, RuleSettings, UserId
from mqtt_presence.store import Transaction


def settle(
    tx: Transaction, events: Mapping[UserId, Sequence[Event]], rules: RuleSettings
) -> Mapping[UserId, Sequence[Event]]:
    """Save the heartbeats that change no state, in portions.

    Args:
        tx: of the store.
        events: of a batch.
        rules: thresholds.

    Returns:
        The events of the other users, which need the fold.

    """
    heartbeats = {user_id: b for user_id, of_user in events.items() if (b := only_heartbeats(of_user))}
    rest = dict(events)
    waiting = iter(heartbeats.items())
    while portion := dict(islice(waiting, tx.portion)):
        live = tx.load_activity(portion)
        activity: list[ActivityState] = []
        for user_id, of_user in portion.items():
            settled = settle_heartbeats(of_user, live[user_id], rules)
            if settled is not None:
                activity += settled
                del rest[user_id]
        tx.save_activity(activity)
    return rest
