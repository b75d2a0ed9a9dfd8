"""A stream of statuses as server-sent events: the first picture, then each change, each with its place."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from fastapi.sse import format_sse_event

from mqtt_presence.errors import PresenceError
from mqtt_presence.protocol.publications import encode_presence
from mqtt_presence.store.change_log import Entry, UserChange
from mqtt_presence.store.reader import Reader
from mqtt_presence.web.api.change_feed import ENTRIES, ChangeFeed
from mqtt_presence.web.api.stream_places import StreamPlace
from mqtt_presence.web.api.user_selection import UserSelection

HEARTBEAT_S: Final = 15.0
"""Seconds without an event after which a comment shows that the connection works."""
RETRY_MS: Final = 2_000
"""Milliseconds after which a browser connects again."""
USERS: Final = 200
"""Users in one read of the first picture."""
PIECE: Final = 16 * 1024
"""Bytes that are sent in one turn of the event loop."""
AGAIN_S: Final = 1.0
"""Seconds until another try, after the database could not be read."""


class StatusStream:
    """The events of one client.

    Args:
        feed: reads users and the change log.
        selection: the users.
        private: whether to include addresses and user agents.

    """

    def __init__(self, feed: ChangeFeed, selection: UserSelection, *, private: bool) -> None:
        self._feed = feed
        self._selection = selection
        self._private = private
        self._log = ""
        self._place = StreamPlace(0, 0, "")
        self._first: list[bytes] = []
        self._sent_s = time.monotonic()

    async def begin(self, last_id: str | None) -> None:
        """Find the place to begin at.

        Args:
            last_id: the id of the last event that the client has; None for a new client.

        Raises:
            BusyError: too many queries are waiting.
            StoreError: the database cannot be read.
            ConfigError: the database does not exist.

        """

        def question(reader: Reader) -> tuple[str, StreamPlace | None, Entry]:
            log = reader.change_log_name()
            place = None if last_id is None else StreamPlace.read(last_id, log)
            if place is not None and reader.entries_from(place.entry, 1) is None:
                place = None
            return log, place, reader.newest_entry()

        self._log, place, newest = await self._feed.ask(question)
        if place is None:
            self._place = StreamPlace(newest.number, len(newest.changes), "")
            if last_id is not None:
                self._first = [self._event("reset", b"{}")]
        else:
            # The rest of the entry, which the feed would leave out.
            found = await self._feed.ask(lambda reader: reader.entries_from(place.entry, 1))
            self._place = place
            if found is not None and place.covered is None:
                self._first = list(self._changes_in(found[0]))

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the stream in pieces, until the feed is closed."""
        yield format_sse_event(retry=RETRY_MS)
        for piece in _pieces(self._first):
            yield piece
        while not self._feed.is_closed:
            try:
                events = await (self._go_on() if self._place.covered is None else self._picture())
            except PresenceError:  # the database cannot be read just now; DatabaseReader has logged it
                await asyncio.sleep(AGAIN_S)
                events = []
            for piece in _pieces(events):
                self._sent_s = time.monotonic()
                yield piece
            left_s = self._sent_s + HEARTBEAT_S - time.monotonic()
            if left_s <= 0:
                self._sent_s = time.monotonic()
                # The id goes on although no event of these users came: old ones are kept for a while only.
                yield format_sse_event(comment="heartbeat", id=self._place.text(self._log))
            elif not events and self._place.covered is None:
                await self._feed.wait(left_s)

    async def _go_on(self) -> Sequence[bytes]:
        """Return the changes after the place."""
        entries = await self._feed.after(self._place.entry)
        if entries is None:
            return await self._begin_again()
        return [event for entry in entries for event in self._changes_in(entry)]

    async def _picture(self) -> Sequence[bytes]:
        """Return a page of the first picture, after the changes that came before it.

        Changes and users are of one moment. A change of a user that is not sent yet is left out: the page
        with the user is later. So each user comes once, and no version is kept in memory.
        """
        place = self._place
        assert place.covered is not None
        arguments, last = self._selection.page(place.covered, USERS)
        found = await self._feed.ask(
            lambda reader: reader.changes_and_users(place.entry, ENTRIES, **arguments)
        )
        if found is None:
            return await self._begin_again()
        entries, users = found
        events = [event for entry in entries for event in self._changes_in(entry)]
        if len(entries) == ENTRIES:
            return events
        if last is None and len(users) == USERS:
            last = users[-1].user_id
        for user in users:
            if user.user_id in self._selection:
                self._place = self._place._replace(covered=user.user_id)
                events.append(self._event("status", encode_presence(user, private=self._private)))
        self._place = self._place._replace(covered=last)
        if last is None:
            events.append(self._event("ready", b"{}"))
        return events

    async def _begin_again(self) -> Sequence[bytes]:
        """Begin with the first picture again: the place is not kept any longer."""
        await self.begin("")
        events, self._first = self._first, []
        return events

    def _changes_in(self, entry: Entry) -> Iterable[bytes]:
        """Yield the events of an entry that are not done yet, and move the place."""
        begin = self._place.done if entry.number == self._place.entry else 0
        self._place = self._place._replace(entry=entry.number, done=begin)
        for number, change in enumerate(entry.changes[begin:], begin + 1):
            self._place = self._place._replace(done=number)
            if change.user_id in self._selection and self._place.covers(change.user_id):
                yield self._changed(change)

    def _changed(self, change: UserChange) -> bytes:
        return self._event("forgotten" if change.is_forgotten else "status", change.body(self._private))

    def _event(self, name: str, body: bytes) -> bytes:
        return format_sse_event(event=name, data_str=body.decode(), id=self._place.text(self._log))


def _pieces(events: Iterable[bytes]) -> Iterable[bytes]:
    piece = bytearray()
    for event in events:
        piece += event
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
