"""The next request of a sender: what it takes from the queue, holds, drops and passes over. Reads only."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mqtt_presence.integrations.notifications.notification import (
    ALL_CLEAR,
    OUTAGE_EVENTS,
    Place,
    Queued,
    pack_one,
    unpack,
    unpack_one,
)
from mqtt_presence.integrations.notifications.receivers import Receiver
from mqtt_presence.store.notification_tables import NotificationTables, ReceiverState

_PAGE = 20
"""Rows of the queue that are read at a time, beside one for each notification of the request."""
_COUNTED = 500
"""Rows that are counted at a time."""
_MOST = 5000
"""Rows that are passed over before the sender looks around."""


@dataclass(slots=True)
class Request:
    """What a sender does next."""

    end: Place
    """The place after everything that this request takes, holds, drops or passes over."""
    notifications: list[Queued] = field(default_factory=list)
    """To send; empty: nothing."""
    first_at: int = 0
    """When the first of them was queued, by the steady clock, milliseconds."""
    held_numbers: list[int] = field(default_factory=list)
    """The notifications were held until now, under these numbers."""
    hold: dict[str, list[Queued]] = field(default_factory=dict)
    """To hold until the quiet hours end, by outage."""
    cleared: set[str] = field(default_factory=set)
    """Outages whose held alarm is dropped, because they are over."""
    cleared_count: int = 0
    dropped: int = 0
    has_more: bool = False
    """The queue goes on behind `end`."""

    @property
    def is_progress(self) -> bool:
        """Whether it changes more than the place in the queue."""
        return bool(self.hold or self.cleared or self.dropped)

    def held_rows(self) -> Iterator[tuple[str, bytes]]:
        """Return what is to be held, for the database."""
        for outage, of_outage in self.hold.items():
            for queued in of_outage:
                yield outage, pack_one(queued)


def next_request(
    tables: NotificationTables,
    receiver: Receiver,
    state: ReceiverState,
    place: Place,
    *,
    is_quiet: bool,
    keep_from: int,
    limit: int,
) -> Request:
    """Return the next request of a receiver.

    Args:
        tables: the queue.
        receiver: decides what it takes.
        state: of the receiver, as stored.
        place: where to begin: the stored place, or one behind it up to which nothing concerns the receiver.
        is_quiet: whether alarms wait now.
        keep_from: older notifications are dropped, by the steady clock, milliseconds.
        limit: the greatest number of notifications.

    """
    if not is_quiet:
        held = tables.held(state.name, limit)
        if held:
            numbers = [number for number, _ in held]
            until_now = [unpack_one(body) for _, body in held]
            return Request(Place(*state.next), until_now, held_numbers=numbers)
    request = Request(place)
    end = None if state.sending is None else Place(*state.sending)
    held_before = tables.held_outages(state.name) if is_quiet else set()
    begin, page = place.row, limit + _PAGE
    while request.end.row - begin < _MOST:
        rows = tables.notifications(request.end.row, page)
        for row, at, body in rows:
            for after, queued in unpack(row, body):
                if after <= request.end:
                    continue
                if (end is not None and after > end) or len(request.notifications) >= limit:
                    request.has_more = True
                    return request
                _take(request, receiver, queued, at, held_before, is_quiet=is_quiet, keep_from=keep_from)
                request.end = after
            request.end = Place(row + 1, 0)
        if len(rows) < page:
            return request
    request.has_more = True
    return request


def count_pending(tables: NotificationTables, receiver: Receiver, state: ReceiverState) -> tuple[int, int]:
    """Return the number of notifications that wait for a receiver, and the last row of the queue.

    Those that are held for the end of quiet hours wait too.
    """
    begin, row = Place(*state.next), state.next_row
    pending = tables.count_held(state.name)
    while rows := tables.notifications(row, _COUNTED):
        pending += sum(
            after > begin and receiver.takes(queued.notification)
            for number, _, body in rows
            for after, queued in unpack(number, body)
        )
        row = rows[-1][0] + 1
    return pending, row - 1


def _take(
    request: Request,
    receiver: Receiver,
    queued: Queued,
    at: int,
    held_before: set[str],
    *,
    is_quiet: bool,
    keep_from: int,
) -> None:
    """Send, hold or drop a notification, or pass over it."""
    notification = queued.notification
    if not receiver.takes(notification):
        return
    if at < keep_from:
        request.dropped += 1
    elif is_quiet and notification.event in OUTAGE_EVENTS:
        outage = notification.outage
        if notification.event == ALL_CLEAR and (outage in request.hold or outage in held_before):
            # Nobody was told of it, and it is over.
            request.cleared_count += 2
            request.cleared.add(outage)
            request.hold.pop(outage, None)
        else:
            request.hold.setdefault(outage, []).append(queued)
    else:
        if not request.notifications:
            request.first_at = at
        request.notifications.append(queued)
