"""mosquitto's log as messages (`log_dest topic`): the addresses of clients, and how connections end.

mosquitto logs client ids and user names unescaped, and clients choose them. So a line is read from its fixed
parts at both ends, and ignored if the rest can be split in more than one way. The lines of 2.0 and 2.1
differ, and a client id of 2.0 may look like an addition of 2.1: `$SYS/broker/version` decides.
"""

import re
import zlib
from collections.abc import Sequence

from mqtt_presence.adapters.port import ENDPOINT, Connected, Ended, plain_address
from mqtt_presence.protocol.topics import is_name
from mqtt_presence.rules.model import Cause, ClientId, UserId

NOTICES = "$SYS/broker/log/N"
ERRORS = "$SYS/broker/log/E"
VERSION = "$SYS/broker/version"

# mosquitto cuts its lines at 999 bytes (logging.c), so a client could choose where a long line ends.
_CUT = 990

# The time is missing, or seconds since 1970 (`log_timestamp`), or has the form of `log_timestamp_format`. A
# form with letters is not read: all other lines begin with letters, and may continue with a client's text.
_TIME = r"(?:(\d{1,12}): |[\d:TZ+./ -]{1,40}: )?"
# Digits in another form are not seconds, and may exceed the integers of a database.
_SECONDS = range(2**31)
_CONNECTED = re.compile(_TIME + r"New client connected from (\S+):(\d{1,5}) as (.+)", re.DOTALL)
_DETAILS = re.compile(r" \(p\d{1,3}, c[01], k\d{1,5}, u'")
_END_OF_DETAILS = "')."
# A line with a user ends with a quote, so it is never read as one without a user.
_WITHOUT_USER = re.compile(r"(.+) \(p\d{1,3}, c[01], k\d{1,5}\)\.", re.DOTALL)
_IMITATED = re.compile(r" \(p\d{1,3}, c[01], k\d{1,5}")
_ACCEPTED = re.compile(_TIME + r"New connection from (\S+:\d{1,5}) on port \d{1,5}\.")
_MOST_ACCEPTED = 10_000
_TCP = 1
"""The bit of a network id that marks TCP, beside `ENDPOINT`."""
_ENDED = re.compile(_TIME + r"Client (.+)", re.DOTALL)

_ENDS_2_0 = (
    (" disconnected.", Cause.DISCONNECT),
    (" closed its connection.", Cause.CLOSED),
    (" has exceeded timeout, disconnecting.", Cause.KEEP_ALIVE),
    (" been disconnected by administrative action.", Cause.KICKED),
)
"""Ends that only an admitted client can cause. mosquitto also logs others ("due to protocol error", "not
authorised") for a client without a password, under the id that it claims."""
_TAKEN_OVER_2_0 = " already connected, closing old connection."

_END_2_1 = re.compile(r"(.*) \[(\S+):(\d{1,5})\] disconnected(?:: ([A-Za-z ]{1,60}))?\.", re.DOTALL)
_CAUSES_2_1 = {
    None: Cause.DISCONNECT,
    "connection closed by client": Cause.CLOSED,
    "exceeded timeout": Cause.KEEP_ALIVE,
    "session taken over": Cause.TAKEOVER,
    "administrative action": Cause.KICKED,
}
_NOT_ADMITTED = "not authorised"


class MosquittoLog:
    """Reads the log of one broker."""

    keeps = True
    lists = False
    has_gap = False
    # A line expires 20 seconds after it was written, and mosquitto counts whole seconds (logging.c).
    keeps_s = 19.0
    filters: Sequence[str] = (VERSION, NOTICES, ERRORS)  # the version first: the other lines depend on it

    def __init__(self) -> None:
        self.dialect: str | None = None
        self._accepted: dict[str, None] = {}
        """Addresses and ports of TCP connections, which mosquitto also logs before their CONNECT."""

    def is_gone_at_takeover(self, network_id: int) -> bool:
        """Return whether a connection was TCP: only a WebSocket is closed later than it is taken over."""
        return network_id & _TCP != 0

    @property
    def names_ends(self) -> bool:
        """See `Source`."""
        return self.dialect == "2.1"

    def read(self, topic: str, payload: bytes) -> Connected | Ended | None:
        """See `Source`."""
        if topic == VERSION:
            found = re.fullmatch(rb"mosquitto version (\d{1,4})\.(\d{1,4})\b.*", payload)
            self.dialect = (
                None if found is None else "2.1" if (int(found[1]), int(found[2])) >= (2, 1) else "2.0"
            )
            return None
        if len(payload) >= _CUT or topic not in {NOTICES, ERRORS}:
            return None
        try:
            line = payload.decode()
        except UnicodeDecodeError:
            return None
        if topic == ERRORS:
            return self._taken_over(line)
        accepted = _ACCEPTED.fullmatch(line)
        if accepted is not None:
            self._accepted[accepted[2]] = None
            if len(self._accepted) > _MOST_ACCEPTED:
                del self._accepted[next(iter(self._accepted))]
            return None
        return self._connected(line) or self._ended(line)

    def _connected(self, line: str) -> Connected | None:
        found = _CONNECTED.fullmatch(line)
        if found is None:
            return None
        second, host, port, rest = found.groups()
        is_tcp = f"{host}:{port}" in self._accepted
        self._accepted.pop(f"{host}:{port}", None)
        names = _names(rest)
        address = plain_address(host)
        if names is None or address is None:
            return None
        endpoint = (_endpoint(host, port) & ENDPOINT) or 2
        network_id = (_seconds(second) or 0) << 32 | endpoint | (_TCP if is_tcp else 0)
        return Connected(*names, address, network_id)

    def _taken_over(self, line: str) -> Ended | None:
        found = _ENDED.fullmatch(line)
        if found is None or not found[2].endswith(_TAKEN_OVER_2_0) or self.dialect == "2.1":
            return None
        return _end_2_0(found[1], found[2].removesuffix(_TAKEN_OVER_2_0), Cause.TAKEOVER)

    def _ended(self, line: str) -> Ended | None:
        found = _ENDED.fullmatch(line)
        if found is None:
            return None
        second, rest = found[1], found[2]
        with_endpoint = _END_2_1.fullmatch(rest) if "] disconnected" in rest else None
        if self.dialect == "2.1":
            return None if with_endpoint is None else _end_2_1(*with_endpoint.groups())
        if with_endpoint is not None and self.dialect is None:
            return None  # 2.1, or a client id of 2.0 that looks like it
        for words, cause in _ENDS_2_0:
            if rest.endswith(words):
                return _end_2_0(second, rest.removesuffix(words), cause)
        return None


def _names(rest: str) -> tuple[ClientId, UserId | None] | None:
    """Return client id and user of a connect line; None: the line can be read in two ways."""
    if rest.endswith(_END_OF_DETAILS):
        details = list(_DETAILS.finditer(rest))
        if len(details) != 1:
            return None  # the id or the name imitates the text between them
        client_id = rest[: details[0].start()]
        user_id = rest[details[0].end() : -len(_END_OF_DETAILS)]
        return (ClientId(client_id), UserId(user_id)) if is_name(client_id) and is_name(user_id) else None
    without = _WITHOUT_USER.fullmatch(rest)
    if without is None or not is_name(without[1]) or _IMITATED.search(without[1]) is not None:
        return None
    return ClientId(without[1]), None


def _end_2_0(second: str | None, client_id: str, cause: Cause) -> Ended | None:
    # mosquitto logs a connection before its CONNECT by its address, which is no client id then.
    if not is_name(client_id) or plain_address(client_id) is not None:
        return None
    return Ended(client_id=ClientId(client_id), cause=cause, second=_seconds(second))


def _end_2_1(client_id: str, host: str, port: str, words: str | None) -> Ended | None:
    if words == _NOT_ADMITTED or not is_name(client_id):
        return None
    return Ended(
        client_id=ClientId(client_id),
        cause=_CAUSES_2_1.get(words, Cause.ERROR),
        endpoint=(_endpoint(host, port) & ENDPOINT) or 2,
    )


def _seconds(digits: str | None) -> int | None:
    second = -1 if digits is None else int(digits)
    return second if second in _SECONDS else None


def _endpoint(host: str, port: str) -> int:
    return zlib.crc32(f"{host}:{port}".encode())
