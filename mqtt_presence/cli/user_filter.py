"""Choosing users by state and by a pattern of their names."""

import fnmatch
import re
from dataclasses import dataclass

from mqtt_presence.rules.model import State


@dataclass(frozen=True, slots=True)
class UserFilter:
    """A choice of users.

    Args:
        state: only users in this state; None: in any.
        pattern: only names that match this pattern of ``*``, ``?`` and ``[…]``; None: all names.

    """

    state: State | None = None
    pattern: str | None = None

    def takes(self, user_id: str, state: State) -> bool:
        """Return whether a user is chosen."""
        return (self.state is None or state is self.state) and self.takes_name(user_id)

    def takes_name(self, user_id: str) -> bool:
        """Return whether a user's name matches the pattern."""
        return self.pattern is None or fnmatch.fnmatchcase(user_id, self.pattern)

    def containing(self, text: str) -> "UserFilter":
        """Return a filter for the text of a search: a pattern, or a part of the name in any case."""
        if not text:
            return UserFilter(self.state, None)
        if re.search(r"[*?\[]", text):
            return UserFilter(self.state, text)
        part = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() and c.isascii() else c for c in text)
        return UserFilter(self.state, f"*{part}*")
