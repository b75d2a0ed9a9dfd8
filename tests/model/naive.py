"""A second implementation of the rules, as simple as possible: lists and loops, at any speed.

This file was written from docs/protocol.md, "Rules", and shares no code with `mqtt_presence.rules`. Where the
document is silent, a comment gives the decision.
"""

from dataclasses import dataclass, field
from typing import Any

GUESSES = ("timeout", "unconfirmed")


@dataclass(frozen=True)
class Settings:
    idle_threshold: int
    expire_after: int | None
    grace: int
    implicit_keep: int
    tolerance: int


@dataclass
class Record:
    client: str
    id: str
    has_own_id: bool
    heard_first: int
    heard_last: int
    opened: int | None = None
    """When the connection opened or reopened; None if never."""
    login_stamp: int | None = None
    """The place among the client's logins: by `time`, receipt, or after the latest; None before the login."""
    told: int | None = None
    """The `time` of the login, if other logins can be compared with it."""
    login_number: int = 0
    """The number of earlier logins."""
    user_agent: str | None = None
    threshold: int | None = None
    timeout: int | None = None
    announce: bool = False
    meta: str | None = None
    idle: bool | None = None
    last_activity: int | None = None
    sent_heartbeat: bool = False
    sent_report: bool = False
    ended: int | None = None
    reason: str | None = None
    grace_until: int | None = None
    peer: int | None = None
    cause: str | None = None
    ended_by_broker: bool = False
    opened_by: str | None = None
    ended_by: str | None = None
    corrected: tuple[str, int] | None = None
    """The rule that made a guessed end certain, or set the reason later; and when."""
    from_broker: bool = False
    """The broker's report alone has opened it (I1)."""
    doubted: int | None = None
    """Since when nobody knows whether it is still there (I2)."""
    shown: int | None = None
    """The place among the user's logins, for `lastLogin`."""

    def is_open(self) -> bool:
        return self.ended is None


@dataclass
class User:
    settings: Settings
    records: list[Record] = field(default_factory=list)
    known: bool = False
    """Whether a status was published."""
    state: str = "offline"
    since: int | None = None
    shown_activity: int | None = None
    logins: int = 0
    events: list[tuple[Any, ...]] = field(default_factory=list)

    # Messages

    def login(
        self,
        now: int,
        client: str,
        *,
        connection_id: str | None,
        fresh: str,
        time: int | None,
        user_agent: str | None,
        threshold: int | None,
        timeout: int | None,
        announce: bool | None,
        meta: str | None,
        peer: int | None,
    ) -> None:
        record = None
        for r in self.records:
            if r.client == client and (
                r.id == connection_id
                if connection_id is not None
                else r.is_open() and not r.has_own_id and not r.from_broker
            ):
                record = r
        unseen = record is None
        if record is None:
            record = Record(client, connection_id or fresh, connection_id is not None, now, now)
        first_login = record.login_stamp is None
        was_open = record.is_open() and not unseen

        if not first_login and not was_open and not self._may_reopen(record):
            return  # L3: ignored
        self._mention(record, (user_agent, threshold, timeout, announce, meta))
        if peer is not None:
            record.peer = peer
        if record.is_open():
            record.cause = None
        record.heard_last = max(record.heard_last, now)
        if not first_login:
            if not was_open:  # L3
                self._reopen(record, now, "L3")
            return  # L2

        self.known = True
        self.logins += 1
        record.login_number = self.logins
        record.login_stamp, record.told, older = self._place(record, now, time)
        record.shown = record.login_stamp
        if unseen:
            self.records.append(record)
        if not record.is_open():
            if record.told is not None:
                # Silent: it would have ended these had it come in time.
                for r in self._open(client):
                    began = r.login_stamp if r.told is None else r.told
                    if began is not None and began < record.told:
                        self._end(r, "superseded", now, "D12")
            if self._may_reopen(record):
                self._reopen(record, now, "L3")
            return
        if older:  # L4
            if unseen:
                record.ended, record.reason, record.ended_by = now, "superseded", "L4"
            else:
                self._end(record, "superseded", now, "L4")
            return
        for r in self.records:  # L1
            if r is record or r.client != client:
                continue
            if not r.is_open():
                r.grace_until = None  # Silent: the client is back, it is not to be counted twice.
            elif r.login_stamp is not None or time is None or not r.has_own_id:
                self._end(r, "superseded", now, "L1")
        if unseen:
            self._open_it(record, now, "L1")

    def activity(
        self,
        now: int,
        client: str,
        *,
        connection_id: str | None,
        fresh: str,
        idle: bool | None,
        told: int | None,
        peer: int | None,
    ) -> None:
        record = None
        if connection_id is not None:
            for r in self.records:
                if (r.client, r.id) == (client, connection_id):
                    record = r
        else:
            # Silent, when it has several (A2): the newest login, else the one heard of last.
            for r in self._open(client):
                if record is None or self._precedence(r) > self._precedence(record):
                    record = r
        if record is None:  # A2
            record = Record(client, connection_id or fresh, connection_id is not None, now, now)
            record.peer = peer
            self.records.append(record)
            self.known = True
            self._open_it(record, now, "A2")
        elif not record.is_open():
            if not self._may_reopen(record):
                return  # A3
            self._reopen(record, now, "A3")
        # A1
        record.heard_last = max(record.heard_last, now)
        if idle is None:
            record.sent_heartbeat = True
        else:
            record.sent_report = True
        on_receipt = told is None or told > now + self.settings.tolerance
        stamp = now if on_receipt else told
        flag = idle is True
        before = (record.idle, record.last_activity)
        last = record.last_activity
        # Silent, of two with one stamp: who was active and then idle is idle since it was active.
        # What is stamped on receipt is no late report, also when the clock was set back; the stamp stays.
        if last is None or stamp > last or on_receipt or (stamp == last and flag):
            record.idle, record.last_activity = flag, max(stamp, last or 0)
        if record.idle != before[0] or (record.idle and record.last_activity != before[1]):
            self._tell("connectionIdle" if record.idle else "connectionActive", record)

    def end(self, now: int, client: str, connection_id: str | None, reason: str) -> None:
        if connection_id is None:  # E2
            for r in self._open(client):
                self._end(r, reason, now, "E2")
            return
        for r in self.records:  # E1
            if (r.client, r.id) == (client, connection_id):
                if r.is_open():
                    self._end(r, reason, now, "E1")
                elif r.reason in GUESSES or r.ended_by_broker:
                    r.reason, r.ended_by_broker, r.corrected = reason, False, ("E1", now)
                    if reason == "logout":
                        r.grace_until = None
                return
        self.records.append(
            Record(client, connection_id, True, now, now, ended=now, reason=reason, ended_by="E1")
        )

    def gone(self, now: int, client: str, peer: int, cause: str, reason: str | None) -> None:
        stamps = [r.login_stamp for r in self.records if r.client == client and r.login_stamp is not None]
        for r in self.records:  # G1
            if r.client != client or r.peer != peer:
                continue
            is_latest = bool(stamps) and r.login_stamp == max(stamps)
            if not (r.is_open() or r.grace_until is not None or is_latest):
                continue
            if reason is not None and (r.is_open() or r.reason in GUESSES):
                r.cause, r.ended_by_broker = cause, True
                if r.is_open():
                    self._end(r, reason, now, "G2" if cause == "takeover" else "G1")
                else:
                    r.reason, r.corrected = reason, ("G1", now)
                    if reason == "logout":
                        r.grace_until = None
            elif r.cause is None:
                r.cause = cause

    def opened(self, now: int, client: str, peer: int, since: int, fresh: str, *, listed: bool) -> None:
        """Apply I1."""
        mine = self._open(client)
        same = [
            r for r in mine if (r.peer == peer and (listed or r.heard_last >= since))
            or (r.peer is None and r.heard_last >= since)
        ]  # fmt: skip
        for r in same:
            r.peer, r.doubted = peer, None
        if same:
            return
        for r in self.records:
            if r.client == client and r.is_open():
                self._end(r, "superseded", now, "I1")
            elif r.client == client:
                r.grace_until = None
        record = Record(client, fresh, False, since, since, peer=peer, from_broker=True)
        self.records.append(record)
        self.known = True
        self._open_it(record, since, "I1")
        last = self.last_login()
        if last is None or last.heard_first <= since:
            # Silent: a later login counts whatever its `time`, so this has the place of the one before.
            self.logins += 1
            record.shown, record.login_number = 0 if last is None else last.shown, self.logins

    def claimed(self, now: int, client: str, peer: int) -> None:
        for r in self._open(client):
            if r.from_broker and r.peer == peer:
                self._end(r, "superseded", now, "I1")

    def lost(self, now: int, before: int) -> None:
        """Apply I2."""
        for r in self.records:
            if r.from_broker and r.is_open() and r.heard_last < before and r.doubted is None:
                r.doubted = now

    def moved(self, client: str, peer: int, heir: int) -> None:
        for r in self._open(client):  # G2
            if r.peer == peer:
                r.peer = heir

    # The bridge's own

    def check(self, now: int) -> None:
        for r in self.records:
            if not r.is_open():
                if r.grace_until is not None and now >= r.grace_until:
                    r.grace_until = None
                continue
            timeout = self.settings.expire_after if r.timeout is None else r.timeout
            if timeout is not None and now - r.heard_last > timeout:  # B2
                self._end(r, "timeout", now, "B2")
                continue
            if r.doubted is not None and r.heard_last > r.doubted:
                r.doubted = None
            if r.doubted is not None and now - r.doubted > self.settings.implicit_keep:  # I2
                self._end(r, "unconfirmed", now, "I2")
                continue
            threshold = r.threshold
            if threshold is None and r.sent_heartbeat and not r.sent_report:
                threshold = self.settings.idle_threshold
            activity = max(r.opened, r.last_activity or 0)
            if threshold is not None and not r.idle and now - activity > threshold:  # B1
                r.idle, r.last_activity = True, activity
                self._tell("connectionIdle", r)

    def confirm(self, now: int, announced: int) -> None:
        for r in self.records:  # B3
            if r.is_open() and r.announce and r.heard_last < announced:
                self._end(r, "unconfirmed", now, "B3")

    def set_back(self, now: int) -> None:
        """Nothing that counts is of a time that has not come yet."""
        for r in self.live():
            if r.is_open():
                self._pull_back(r, now)
                r.doubted = None if r.doubted is None else min(r.doubted, now)
            elif r.grace_until > now + self.settings.grace:
                self._pull_back(r, now)
                r.grace_until = now + self.settings.grace

    # Status

    def live(self) -> list[Record]:
        return [r for r in self.records if r.is_open() or r.grace_until is not None]

    def restate(self, now: int) -> None:
        """Show the state after a message or a check."""
        if not self.known:
            return
        live = self.live()
        state = "offline"
        if live:
            state = "idle" if all(r.idle for r in live) else "online"
        if state != self.state or self.since is None:
            self.since = now
        if state != "idle":
            self.shown_activity = None
        else:
            latest = max(r.last_activity for r in live)
            self.shown_activity = max(latest, self.shown_activity or 0)
        if state != self.state:
            if self.state == "offline":
                self.events.append(("userOnline", len(live)))
            if state == "offline":
                self.events.append(("userOffline", 0))
            elif state == "idle":
                self.events.append(("userIdle", len(live)))
            elif self.state == "idle":
                self.events.append(("userActive", len(live)))
        self.state = state

    def last_login(self) -> Record | None:
        by_stamp = [r for r in self.records if r.shown is not None]
        return max(by_stamp, key=lambda r: (r.shown, r.login_number), default=None)

    # Steps

    def _mention(self, record: Record, said: tuple[Any, ...]) -> None:
        """Take what a login says; what it does not mention stays (L2), what is empty clears."""
        user_agent, threshold, timeout, announce, meta = said
        if user_agent is not None:
            record.user_agent = user_agent or None
        if threshold is not None:
            record.threshold = threshold or None
        if timeout is not None:
            record.timeout = timeout or None
        if announce is not None:
            record.announce = announce
        if meta is not None:
            record.meta = None if meta == "{}" else meta

    def _place(self, record: Record, now: int, time: int | None) -> tuple[int, int | None, bool]:
        """Find where a login belongs: its place, its `time` if that counts, and whether it is older (L4)."""
        others = [r for r in self.records if r.client == record.client and r.login_stamp is not None]
        # Silent, of two in one place: the one that told a time is compared with.
        newest = max(others, key=lambda r: (r.login_stamp, r.told is not None), default=None)
        last, last_told = (0, None) if newest is None else (newest.login_stamp, newest.told)
        ended = not record.is_open()
        latest_believed = now + self.settings.tolerance
        if time is not None and time > latest_believed:
            # Cut to now it says no more than the receipt, which says nothing of a login behind its own end.
            time = None if ended else now
        if last_told is not None and last_told > latest_believed and not ended:
            return last, None, False  # our clock was set back: the order of arrival counts
        both_told = time is not None and last_told is not None and last_told <= latest_believed
        if both_told and time < last_told:
            return time, time, True
        if time is not None and (time > last or time == last == last_told):
            return time, time, False
        if ended and not both_told:
            # Silent: perhaps a repeat from long ago. It claims no place above the newest.
            place = record.heard_first if time is None else time
            return (place if newest is None else min(place, last)), None, False
        return max(now if time is None else time, last + 1), time, False

    def _open(self, client: str) -> list[Record]:
        return [r for r in self.records if r.client == client and r.is_open()]

    def _precedence(self, r: Record) -> tuple[int, int, str]:
        return (r.login_stamp or 0, r.heard_last, r.id)

    def _may_reopen(self, record: Record) -> bool:
        place = record.heard_first if record.login_stamp is None else record.login_stamp
        newer = [
            r
            for r in self.records
            if r.client == record.client and r.login_stamp is not None and r.login_stamp > place
        ]
        return record.reason in GUESSES and not newer

    def _open_it(self, record: Record, now: int, rule: str) -> None:
        for r in self._open(record.client):
            if r.from_broker and r is not record:
                self._end(r, "superseded", now, rule)
        record.opened, record.opened_by = now, rule
        self._tell("connectionLogin", record)

    def _reopen(self, record: Record, now: int, rule: str) -> None:
        for r in self._open(record.client):
            if r.login_stamp is not None:
                self._end(r, "superseded", now, rule)
        record.ended = record.reason = record.grace_until = record.cause = None
        record.ended_by = record.corrected = None
        self._pull_back(record, now)
        record.heard_last = now
        self._open_it(record, now, rule)

    def _pull_back(self, record: Record, now: int) -> None:
        record.heard_last = min(record.heard_last, now)
        if record.opened is not None and record.opened > now:
            record.opened = now
        if record.last_activity is not None and record.last_activity > now:
            record.last_activity = now

    def _end(self, record: Record, reason: str, now: int, rule: str) -> None:
        record.ended, record.reason, record.ended_by = now, reason, rule
        # Silent: a superseded connection has a successor; counting both would be one too many.
        if self.settings.grace and reason not in ("logout", "superseded"):
            record.grace_until = now + self.settings.grace
        self._tell("connectionLogout", record)

    def _tell(self, name: str, r: Record) -> None:
        self.events.append((name, r.client, r.id, r.idle, r.last_activity, r.reason))
