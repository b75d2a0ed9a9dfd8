"""The users of a stream: names, and patterns of names as in a shell. Pure."""

import fnmatch
import os.path
import re
from collections.abc import Sequence
from typing import Any

from mqtt_presence.web.api.parameters import ParameterError, require_user

MAX_PATTERNS = 100
"""Names and patterns in one request; the head of a request is bounded, too."""
_MAGIC = re.compile(r"[*?\[]")


class UserSelection:
    """Selects users.

    Args:
        patterns: names, or patterns of ``*``, ``?`` and ``[…]``; empty for all users.

    Raises:
        ParameterError: there are too many patterns, or a name cannot be one.

    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > MAX_PATTERNS:
            raise ParameterError(f"users must be {MAX_PATTERNS} names and patterns at most")
        magic = [pattern for pattern in patterns if _MAGIC.search(pattern)]
        for name in set(patterns) - set(magic):
            require_user(name)
        self._names = None if magic or not patterns else sorted(set(patterns))
        self._set = frozenset(self._names or ())
        begins = [_MAGIC.split(pattern, maxsplit=1)[0] for pattern in patterns]
        self._prefix = os.path.commonprefix(begins)  # noqa: RUF071 - names, not paths
        self._match = re.compile("|".join(map(fnmatch.translate, patterns or ["*"]))).match

    def __contains__(self, user_id: str) -> bool:
        """Return whether a user is selected."""
        return user_id in self._set if self._names is not None else self._match(user_id) is not None

    def page(self, after: str, limit: int) -> tuple[dict[str, Any], str | None]:
        """Return arguments of `ChangeLogReader.changes_and_users`, and the last name if another page follows.

        Args:
            after: the name that the page begins after.
            limit: the greatest number of users.

        """
        if self._names is None:
            return {"after": after or None, "limit": limit, "prefix": self._prefix}, None
        names = [name for name in self._names if name > after][:limit]
        return {"names": names}, names[-1] if len(names) == limit else None
