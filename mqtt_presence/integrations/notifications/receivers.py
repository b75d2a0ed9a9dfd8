"""Receivers: the `[[notify]]` tables of the settings file, and the notifications that each of them takes."""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mqtt_presence.errors import ConfigError
from mqtt_presence.integrations.notifications.apprise_sender import AppriseSender, load_service
from mqtt_presence.integrations.notifications.cloud_events import source_of
from mqtt_presence.integrations.notifications.conditions import Condition, read_condition
from mqtt_presence.integrations.notifications.notification import ALARM, ALL_CLEAR, Notification
from mqtt_presence.integrations.notifications.quiet_hours import QuietHours, read_quiet_hours
from mqtt_presence.integrations.notifications.sending import Sending
from mqtt_presence.integrations.notifications.signing_keys import read_keys
from mqtt_presence.integrations.notifications.webhook import Webhook, checked_url
from mqtt_presence.protocol.durations import read_duration
from mqtt_presence.protocol.topics import NAME_RULE, is_name

T = TypeVar("T")

EVENTS = frozenset(
    {
        "connectionLogin",
        "connectionLogout",
        "connectionIdle",
        "connectionActive",
        "userOnline",
        "userOffline",
        "userIdle",
        "userActive",
    }
)
"""The events that a receiver may ask for."""
BACK = "back"
"""The word for the all-clears of a receiver's alarms."""
_WEBHOOKS = ("http:", "https:")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEYS = ("name", "url", "secret_file", "on", "users", "batch", "quiet")
_LONGEST_BATCH_S = 3600


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiver of notifications.

    Args:
        name: unique; names the receiver's place in the queue.
        url: where to send; may hold secrets, so it is in no `repr`.
        users: a pattern of users, with ``*``, ``?`` and ``[…]``.
        events: the events that it takes.
        conditions: its alarms.
        all_clears: whether it takes the all-clears of its alarms too.
        batch_ms: how long notifications are collected, milliseconds; None: one for each request.
        quiet: when its alarms wait; None: never.
        secret_file: has the keys of signatures; None: no signatures.

    """

    name: str
    url: str = field(repr=False)
    users: str = "*"
    events: frozenset[str] = frozenset()
    conditions: tuple[Condition, ...] = ()
    all_clears: bool = False
    batch_ms: int | None = None
    quiet: QuietHours | None = None
    secret_file: Path | None = None
    is_for: Callable[[str], object] = field(default=lambda _: True, repr=False, compare=False)
    """Whether the pattern matches a user."""

    @property
    def kind(self) -> str:
        """The kind of the receiver: `webhook`, or the scheme of Apprise's URL."""
        return "webhook" if is_webhook(self.url) else self.url.partition(":")[0].lower()

    def takes(self, notification: Notification) -> bool:
        """Return whether the receiver takes a notification."""
        if notification.event == ALARM or (notification.event == ALL_CLEAR and self.all_clears):
            return any(
                str(condition) == notification.condition
                and (
                    notification.user_id == self.users
                    if condition.is_of_group
                    else self.is_for(notification.user_id)
                )
                for condition in self.conditions
            )
        return notification.event in self.events and bool(self.is_for(notification.user_id))


def is_webhook(url: str) -> bool:
    """Return whether a URL is a webhook's; every other one is Apprise's."""
    return url.lower().startswith(_WEBHOOKS)


def read_receivers(tables: Sequence[Mapping[str, Any]]) -> list[Receiver]:
    """Return the receivers of the `[[notify]]` tables.

    Raises:
        ConfigError: a table is wrong. The message names the table and the key, and no secret.

    """
    receivers: list[Receiver] = []
    for number, table in enumerate(tables, 1):
        name = table.get("name")
        title = (
            f"[[notify]] {name}"
            if isinstance(name, str) and _NAME.fullmatch(name)
            else f"[[notify]] {number}"
        )
        receiver = _ReceiverTable(title, table).receiver()
        if any(receiver.name == other.name for other in receivers):
            raise ConfigError(f"{title}: name: another [[notify]] has the same name")
        receivers.append(receiver)
    return receivers


def sending_of(receiver: Receiver, prefix: str, *, private: bool, now: Callable[[], int]) -> Sending:
    """Return the way to send to a receiver.

    Args:
        receiver: see `read_receivers`.
        prefix: of the topics in use.
        private: allow addresses that are not public (setting `notify_private`).
        now: returns the time, epoch milliseconds.

    Raises:
        ConfigError: Apprise is not installed, or does not know the URL.

    """
    is_batch = receiver.batch_ms is not None
    if not is_webhook(receiver.url):
        return AppriseSender(load_service(receiver.url), is_batch=is_batch, private=private)
    return Webhook(
        receiver.url,
        source_of(prefix),
        is_batch=is_batch,
        secret_file=receiver.secret_file,
        private=private,
        now=now,
    )


class _ReceiverTable:
    """Reads one table.

    Args:
        title: of the table, for messages.
        table: its keys and values.

    """

    def __init__(self, title: str, table: Mapping[str, Any]) -> None:
        self._title = title
        self._table = table

    def receiver(self) -> Receiver:
        for key in self._table:
            if key not in _KEYS:
                raise self._error(str(key), f"there is no such key; there are {', '.join(_KEYS)}")
        name = self._required("name", _name)
        url = self._required("url", _url)
        users = self._given("users", _pattern) or "*"
        events, conditions, all_clears = self._required("on", _on)
        secret_file = self._given("secret_file", _secret_file)
        if secret_file is not None and not is_webhook(url):
            raise self._error("secret_file", "is for webhooks only (https://…)")
        matches = re.compile(fnmatch.translate(users)).match if users != "*" else lambda _: True
        return Receiver(
            name,
            url,
            users,
            events,
            conditions,
            all_clears,
            self._given("batch", _batch),
            self._given("quiet", lambda value: read_quiet_hours(_text(value))),
            secret_file,
            matches,
        )

    def _required(self, key: str, read: Callable[[Any], T]) -> T:
        if key not in self._table:
            raise self._error(key, "is missing")
        value = self._given(key, read)
        assert value is not None
        return value

    def _given(self, key: str, read: Callable[[Any], T]) -> T | None:
        if key not in self._table:
            return None
        try:
            return read(self._table[key])
        except (ValueError, ConfigError) as error:
            raise self._error(key, str(error)) from None

    def _error(self, key: str, text: str) -> ConfigError:
        return ConfigError(f"{self._title}: {key}: {text}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    return value


def _name(value: Any) -> str:
    if not _NAME.fullmatch(_text(value)):
        raise ValueError("must be 1 to 64 letters, digits, - and _")
    return _text(value)


def _url(value: Any) -> str:
    url = _text(value)
    if is_webhook(url):
        checked_url(url)
    else:
        load_service(url)
    return url


def _pattern(value: Any) -> str:
    if not is_name(_text(value)):
        raise ValueError(f"must be {NAME_RULE}; * ? and [ ] match")
    return _text(value)


def _on(value: Any) -> tuple[frozenset[str], tuple[Condition, ...], bool]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of events and alarms")
    events, conditions = set(), []
    for word in map(_text, value):
        if word in EVENTS:
            events.add(word)
        elif word != BACK:
            condition = read_condition(word)
            if condition is None:
                raise ValueError(f"{word[:60]!r} is no event, no alarm and not {BACK!r}")
            conditions.append(condition)
    if BACK in value and not conditions:
        raise ValueError(f"{BACK!r} needs an alarm beside it, e.g. 'offline > 10m'")
    return frozenset(events), tuple(dict.fromkeys(conditions)), BACK in value


def _batch(value: Any) -> int:
    seconds = (
        value
        if isinstance(value, int | float) and not isinstance(value, bool)
        else read_duration(_text(value))
    )
    if not 0 <= seconds <= _LONGEST_BATCH_S:
        raise ValueError("must be a duration from 0 to 1h")
    return round(seconds * 1000)


def _secret_file(value: Any) -> Path:
    file = Path(_text(value))
    try:
        read_keys(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return file
