"""Topic names: the only module that builds and parses them (docs/protocol.md, "Topics")."""

import re
from typing import NamedTuple

from mqtt_presence.errors import ConfigError, PayloadError
from mqtt_presence.rules.model import ClientId, UserId

LOGIN = "login"
ACTIVITY = "activity"
LOGOUT = "logout"
WILL = "will"
TIME = "time"
VERBS = frozenset({LOGIN, ACTIVITY, LOGOUT, WILL, TIME})
ENDS = frozenset({LOGOUT, WILL})

CLIENT_REPORTS = "$SYS/presence/clients"
"""The embedded broker's reports of connected clients, which only the bridge may read."""
MAX_NAME = 128
_CONTROLS = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"  # with the lone surrogates, which are no UTF-8
_NONCHARACTERS = r"\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_REFUSED = _CONTROLS + _NONCHARACTERS
_NAME = re.compile(f"[^/+#{_REFUSED}]{{1,{MAX_NAME}}}")
# Most names and topics are printable ASCII, and a small set of characters is matched several times faster.
_ASCII_NAME = re.compile(f'[ !"$-*,-.0-~]{{1,{MAX_NAME}}}')
_STORED_NAME = re.compile(f"[^/+#{_CONTROLS}]{{1,{MAX_NAME}}}")
_PREFIX = re.compile(f"(?:[^/+#${_REFUSED}][^/+#{_REFUSED}]*/)*")
_SEAT = "{seat}/"
_UNSAFE = re.compile(f"[{_REFUSED}]")
NAME_RULE = f"1 to {MAX_NAME} characters without / + #, control characters and noncharacters"


class Input(NamedTuple):
    """The parsed topic of a client's message."""

    user_id: UserId
    client_id: ClientId
    verb: str


def roots(prefix: str) -> tuple[str, ...]:
    """Return the beginnings of all topics of the protocol under a prefix."""
    return tuple(f"{prefix}{root}/" for root in ("presence", "status", "events", "reply", "bridge"))


def is_safe(text: str) -> bool:
    """Return whether every receiver accepts the text as an MQTT string.

    A receiver must close the connection on U+0000 and surrogates. On control characters and noncharacters it
    may do so, and libmosquitto does (MQTT 3.1.1 §1.5.3).
    """
    return (text.isascii() and text.isprintable()) or _UNSAFE.search(text) is None


def is_name(text: str) -> bool:
    """Return whether a user or client can have this name: 1 to 128 safe characters without ``/ + #``."""
    return (_ASCII_NAME.fullmatch(text) or _NAME.fullmatch(text)) is not None


def is_stored_name(text: str) -> bool:
    """Return whether the database can have a user of this name: version 0.1.0 accepted noncharacters."""
    return _STORED_NAME.fullmatch(text) is not None


def require_name(what: str, text: str) -> str:
    """Return the name unchanged.

    Args:
        what: the name of the argument, for the message, e.g. ``user``.
        text: the name.

    Raises:
        ConfigError: the name cannot be a level of a topic.

    """
    if not is_name(text):
        raise ConfigError(f"{what}={text!r} must be {NAME_RULE}")
    return text


def require_stored_name(what: str, text: str) -> str:
    """Return the name unchanged if the database can have such a user (`is_stored_name`).

    Args:
        what: the name of the argument, for the message.
        text: the name.

    Raises:
        ConfigError: the database can have no such user.

    """
    return text if is_stored_name(text) else require_name(what, text)


class Topics:
    """The topics under one prefix.

    Args:
        prefix: the beginning of every topic, ``""`` or levels that end in a slash, e.g. ``acme/``.
        seat_inputs: the topics to which the broker moves the clients' messages, instead of
            ``<prefix>presence/``; ``{seat}`` is one level, e.g. ``shard/{seat}/``. Empty: it moves none.

    Raises:
        ConfigError: one of them has wildcards, empty levels, unsafe characters, or begins with ``$``; or
            `seat_inputs` has no level ``{seat}``, or belongs to the bridge's own topics.

    """

    def __init__(self, prefix: str = "", seat_inputs: str = "") -> None:
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        if _PREFIX.fullmatch(prefix) is None:
            raise ConfigError(
                f"prefix={prefix!r} must be topic levels without wildcards, empty levels, control characters"
                " and noncharacters, not begin with $"
            )
        self.prefix = prefix
        self.presence = prefix + "presence/"
        self._status = prefix + "status/"
        self._skip = len(self.presence)
        self._seat_inputs = _checked_seat_inputs(prefix, seat_inputs)
        self._moved = re.compile(r"\d+/".join(map(re.escape, self._seat_inputs.split(_SEAT))))
        self.inputs = f"{self._seat_inputs.replace(_SEAT, '+/') or self.presence}+/+/+"
        """The topic filter of the clients' messages, of all seats."""
        self.statuses = prefix + "status/+"
        self.events = prefix + "events/+/+"
        self.bridge_state = prefix + "bridge/state"
        self.bridge_announce = prefix + "bridge/announce"
        self.bridge_health = prefix + "bridge/health"

    def input(self, user_id: str, client_id: str, verb: str) -> str:
        """Return the topic that a client publishes to."""
        return f"{self.presence}{user_id}/{client_id}/{verb}"

    def inputs_of(self, seat: int) -> str:
        """Return the topic filter of the clients' messages for one seat.

        Args:
            seat: the number of the seat, from 0; without `seat_inputs` all seats have the same filter.

        """
        return f"{self._seat_inputs.replace(_SEAT, f'{seat}/') or self.presence}+/+/+"

    @property
    def has_seat_inputs(self) -> bool:
        """Whether the broker gives each seat messages of its own."""
        return self._seat_inputs != ""

    def status(self, user_id: str) -> str:
        """Return the topic of a user's retained status."""
        return self._status + user_id

    def event(self, user_id: str, name: str) -> str:
        """Return the topic of an event of a user."""
        return f"{self.prefix}events/{user_id}/{name}"

    def reply(self, user_id: str, client_id: str, verb: str = TIME) -> str:
        """Return the topic of replies to a client."""
        return f"{self.prefix}reply/{user_id}/{client_id}/{verb}"

    def is_input(self, topic: str) -> bool:
        """Return whether a topic belongs to clients' messages, even with a wrong name or verb."""
        return self._after_inputs(topic) is not None

    def _after_inputs(self, topic: str) -> str | None:
        """Return the levels behind the beginning of clients' topics; None for another topic."""
        if topic.startswith(self.presence):  # with `seat_inputs`: it waited since before the broker moved any
            return topic[self._skip :]
        if not self._seat_inputs:
            return None
        moved = self._moved.match(topic)
        return None if moved is None else topic[moved.end() :]

    def parse_input(self, topic: str) -> Input:
        """Parse the topic of a client's message.

        Raises:
            PayloadError: ``bad_topic``, the topic has another shape.

        """
        rest = self._after_inputs(topic)
        if rest is not None:
            levels = rest.split("/")
            if len(levels) == 3:
                user_id, client_id, verb = levels
                if verb in VERBS and is_name(user_id) and is_name(client_id):
                    return Input(UserId(user_id), ClientId(client_id), verb)
        raise PayloadError("bad_topic", ascii(topic[:300]))

    def parse_status(self, topic: str) -> UserId | None:
        """Return the user of a status topic; None for another topic."""
        user_id = topic.removeprefix(self._status)
        if user_id == topic or not is_name(user_id):
            return None
        return UserId(user_id)


def _checked_seat_inputs(prefix: str, seat_inputs: str) -> str:
    """Return the setting with a slash at its end."""
    if not seat_inputs:
        return ""
    text = seat_inputs if seat_inputs.endswith("/") else f"{seat_inputs}/"
    levels = text.split("/")
    if levels.count("{seat}") != 1 or "{seat}" in text.replace(_SEAT, "", 1) or text == _SEAT:
        raise ConfigError(
            f"seat_inputs={seat_inputs!r} must have {{seat}} as one of its levels: shard/{{seat}}/"
        )
    if _PREFIX.fullmatch(text) is None:
        raise ConfigError(
            f"seat_inputs={seat_inputs!r} must be topic levels without wildcards, empty levels, control "
            "characters and noncharacters, not begin with $"
        )
    if text.startswith(roots(prefix)):
        raise ConfigError(f"seat_inputs={seat_inputs!r} must be apart from the topics of clients and bridge")
    return text
