"""Explanations from the database: a user, the records that make the state, and a pending announcement."""

from mqtt_presence.rules.explanation import UserExplanation, explain_user
from mqtt_presence.rules.model import RuleSettings, UserId
from mqtt_presence.store.reader import Reader

ENDED = 5
"""Ended records of a user that are explained."""


def read_explanation(
    reader: Reader, user_id: UserId, settings: RuleSettings, confirm_within_ms: int
) -> UserExplanation:
    """Explain the state of a user who is known.

    Args:
        reader: of the database.
        user_id: the user.
        settings: the thresholds of the bridge.
        confirm_within_ms: the bridge's time to answer an announcement.

    """
    user = reader.presences([user_id])[user_id]
    latest = reader.connections_page(user_id, since=None, until=None, before=None, limit=ENDED)
    announced_at = reader.announced_at()
    return explain_user(
        user,
        [record for _, record in latest if not record.is_live],
        settings,
        None if announced_at is None else (announced_at, announced_at + confirm_within_ms),
    )
