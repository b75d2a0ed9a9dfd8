"""Routing: which events and conditions of a user any receiver asks for. Pure."""

from collections.abc import Sequence
from functools import lru_cache

from mqtt_presence.integrations.notifications.conditions import Condition
from mqtt_presence.integrations.notifications.receivers import Receiver

_REMEMBERED = 65_536
"""Users whose routing is remembered: matching a pattern costs more than the rest of an event."""


class Routing:
    """The wishes of all receivers together.

    Args:
        receivers: of the settings file.

    """

    def __init__(self, receivers: Sequence[Receiver]) -> None:
        self._receivers = receivers
        self.conditions: dict[str, Condition] = {
            str(condition): condition for receiver in receivers for condition in receiver.conditions
        }
        """All conditions by their text."""
        self.groups: dict[str, list[Condition]] = {}
        """For each pattern, the conditions of its users together."""
        self._patterns: dict[str, Receiver] = {}
        for receiver in receivers:
            for condition in receiver.conditions:
                if condition.is_of_group:
                    of_pattern = self.groups.setdefault(receiver.users, [])
                    if condition not in of_pattern:
                        of_pattern.append(condition)
                    self._patterns[receiver.users] = receiver
        remember = lru_cache(_REMEMBERED)
        self.events_of = remember(self._events_of)
        self.conditions_of = remember(self._conditions_of)
        self.patterns_of = remember(self._patterns_of)

    def _events_of(self, user_id: str) -> frozenset[str]:
        """Return the names of the user's events that somebody asks for."""
        return frozenset().union(*(r.events for r in self._receivers if r.is_for(user_id)))

    def _conditions_of(self, user_id: str) -> tuple[Condition, ...]:
        """Return the conditions of the user alone that somebody asks for."""
        found = {c: None for r in self._receivers if r.is_for(user_id) for c in r.conditions}
        return tuple(c for c in found if not c.is_of_group)

    def _patterns_of(self, user_id: str) -> tuple[str, ...]:
        """Return the patterns with conditions of a group that match the user."""
        return tuple(pattern for pattern, receiver in self._patterns.items() if receiver.is_for(user_id))
