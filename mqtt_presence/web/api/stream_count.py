"""The number of streams of one server, and its bound."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mqtt_presence.web.database_reader import BusyError

STREAMS: Final = 100
"""Streams at a time."""


class StreamCount:
    """Counts streams."""

    def __init__(self) -> None:
        self._taken = 0

    def require_free(self) -> None:
        """Return if there is room for another stream.

        Raises:
            BusyError: there is none.

        """
        if self._taken >= STREAMS:
            raise BusyError(f"there are {STREAMS} streams already")

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a stream while the block runs."""
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
