"""A device as its fleet knows it, and the events about it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from mqtt_presence.adapters.devices.payload_values import Value
from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.protocol.sizes import MAX_META
from mqtt_presence.rules.events import End, Login, Sighting
from mqtt_presence.rules.model import NO_META, Cause, ClientId, ConnectionId, Reason, UserId

_encode = msgspec.json.Encoder().encode


class Device(Struct, gc=False, eq=False):
    """The state of one device, and its events.

    The database has the same state in the device's latest record, so a restart loses `gone_at` and
    `is_overruled` only.
    """

    profile: Profile
    user_id: UserId
    client_id: ClientId
    names: Mapping[str, str] | None
    """The names of the topic that it was first seen by; None: read from the database."""
    connection_id: ConnectionId | None = None
    """Of its latest record."""
    is_open: bool = False
    """Whether that record is open by the messages; the rules may have ended it by a guess."""
    is_guessed: bool = False
    """Whether that record ended by a guess, before this run."""
    says_there: bool | None = None
    """The meaning of its latest availability, whatever its parent; None: unknown."""
    is_overruled: bool = False
    """Whether a sign of life came after a will: a retained will of that time is ignored."""
    is_ended_by_parent: bool = False
    gone_at: int | None = None
    """When its will came, epoch milliseconds."""
    is_asleep: bool = False
    asleep_until: int | None = None
    """The end of an announced sleep, epoch milliseconds; until then a will is ignored."""
    seen_at: int = 0
    """The last sign of life that became an event, epoch milliseconds."""
    seen_epoch: int = -1
    """The network connection of the bridge by which that came."""
    parents: frozenset[str] = frozenset()
    meta: dict[str, Value] = field(default_factory=dict)

    def login(self, connection_id: ConnectionId, now: int) -> Login:
        """Return the event of a new connection."""
        self._opened(connection_id, now)
        return Login(
            user_id=self.user_id,
            client_id=self.client_id,
            now=now,
            connection_id=connection_id,
            timeout_ms=self.profile.timeout_ms,
            meta=self._meta(),
            origin=self.profile.origin,
        )

    def opening(self, connection_id: ConnectionId, now: int, **more: Any) -> Sighting:
        """Return the event that opens a record without a login."""
        self._opened(connection_id, now)
        return self.sighting(now, **({"timeout_ms": self.profile.timeout_ms, "meta": self._meta()} | more))

    def sighting(self, now: int, **more: Any) -> Sighting:
        """Return the event of a sign of life, or of a change that `more` describes."""
        assert self.connection_id is not None
        if more.get("is_live", True):
            self.seen_at = now
        return Sighting(
            user_id=self.user_id,
            client_id=self.client_id,
            now=now,
            connection_id=self.connection_id,
            origin=self.profile.origin,
            **more,
        )

    def revival(self, now: int) -> Sighting:
        """Return the event that takes the end of the latest record back."""
        assert self.connection_id is not None
        return self.opening(self.connection_id, now, revives=True, idle=False)

    def end(self, reason: Reason, now: int, cause: Cause | None = None) -> End | None:
        """Return the event of an end; None if there was no record."""
        self.is_open = self.is_asleep = self.is_guessed = False
        self.asleep_until = None
        if self.connection_id is None:
            return None
        return End(
            user_id=self.user_id,
            client_id=self.client_id,
            now=now,
            reason=reason,
            connection_id=self.connection_id,
            cause=cause,
        )

    def describe(self, fields: Mapping[str, Value], now: int) -> Sighting | None:
        """Return the event of a new description; None without a change, or without an open record."""
        changed = {**self.meta, **fields}
        if changed == self.meta or len(_encode(changed)) > MAX_META:
            return None
        self.meta = changed
        return self.sighting(now, is_live=False, meta=self._meta()) if self.is_open else None

    def _opened(self, connection_id: ConnectionId, now: int) -> None:
        self.connection_id = connection_id
        self.is_open, self.is_guessed, self.is_ended_by_parent = True, False, False
        self.is_asleep, self.asleep_until = False, None
        self.seen_at = now

    def _meta(self) -> str:
        return _encode(self.meta).decode() if self.meta else NO_META
