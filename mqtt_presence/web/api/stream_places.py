"""Places in a stream: the id of an event, from which the stream goes on after a lost connection. Pure."""

import re
from typing import NamedTuple, Self

from mqtt_presence.web.api.cursors import decoded_name, name_cursor

_PLACE = re.compile(
    r"(?P<log>[0-9a-f]{1,32})\.(?P<entry>\d{1,18})\.(?P<done>\d{1,9})(?:\.(?P<covered>.*))?", re.ASCII
)


class StreamPlace(NamedTuple):
    """A place in the change log, and how far the first picture is complete.

    Args:
        entry: the number of the entry.
        done: how many changes of the entry are done.
        covered: the name up to which users have been sent, in the order of code points; None: all.

    """

    entry: int
    done: int
    covered: str | None

    @classmethod
    def read(cls, text: str, log: str) -> Self | None:
        """Return the place in the id of an event; None: it is no place in this log.

        Args:
            text: the id.
            log: the random name of the log.

        """
        found = _PLACE.fullmatch(text)
        if found is None or found["log"] != log:
            return None
        covered = found["covered"] and decoded_name(found["covered"])
        if found["covered"] and covered is None:
            return None
        return cls(int(found["entry"]), int(found["done"]), covered)

    def text(self, log: str) -> str:
        """Return the id of an event; see `read`."""
        covered = "" if self.covered is None else f".{name_cursor(self.covered)}"
        return f"{log}.{self.entry}.{self.done}{covered}"

    def covers(self, user_id: str) -> bool:
        """Return whether the first picture of a user is sent, so that its changes count."""
        return self.covered is None or user_id <= self.covered
