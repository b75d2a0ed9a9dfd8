"""EMQX's and NanoMQ's messages about connecting clients; after their documentation and source, not run here.

Both brokers publish them at QoS 0, so an absent bridge misses them. Both may let clients publish to `$SYS/`
unless access rules forbid it, so they are read only if the setting `source` names the broker.
"""

import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from mqtt_presence.adapters.port import Connected, Ended, plain_address
from mqtt_presence.protocol.topics import is_name
from mqtt_presence.rules.model import Cause, ClientId, UserId

_EMQX_TOPIC = re.compile(r"\$SYS/brokers/[^/]+/clients/([^/]+)/(connected|disconnected)")
_EMQX_CAUSES = {
    "normal": Cause.DISCONNECT,
    "tcp_closed": Cause.CLOSED,
    "ssl_closed": Cause.CLOSED,
    "closed": Cause.CLOSED,
    "sock_closed": Cause.CLOSED,
    "einval": Cause.CLOSED,
    "econnreset": Cause.CLOSED,
    "etimedout": Cause.CLOSED,
    "keepalive_timeout": Cause.KEEP_ALIVE,
    "takenover": Cause.TAKEOVER,
    "discarded": Cause.TAKEOVER,
    "kicked": Cause.KICKED,
}
_NO_NAME = "undefined"  # Erlang's word
_MAX_NETWORK_ID = 2**62


class _EmqxClient(Struct):
    clientid: str
    username: str | None = None
    ipaddress: str | None = None
    connected_at: int | None = None
    reason: str | None = None


_decode_emqx = msgspec.json.Decoder(_EmqxClient).decode


class EmqxEvents:
    """EMQX 4 and 5: `$SYS/brokers/<node>/clients/<client id>/connected` and `…/disconnected`."""

    keeps = False
    keeps_s = 0.0
    lists = False
    names_ends = False
    filters: Sequence[str] = ("$SYS/brokers/+/clients/+/connected", "$SYS/brokers/+/clients/+/disconnected")
    has_gap = False
    dialect: str | None = None

    def is_gone_at_takeover(self, network_id: int) -> bool:
        """See `Source`."""
        del network_id
        return False

    def read(self, topic: str, payload: bytes) -> Connected | Ended | None:
        """See `Source`."""
        named = _EMQX_TOPIC.fullmatch(topic)
        if named is None:
            return None
        try:
            report = _decode_emqx(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        user = None if report.username in {_NO_NAME, ""} else report.username
        at = report.connected_at
        if report.clientid != named[1] or not is_name(report.clientid):
            return None
        if (user is not None and not is_name(user)) or (at is not None and not 0 < at < _MAX_NETWORK_ID):
            return None
        client_id, user_id = ClientId(report.clientid), None if user is None else UserId(user)
        if named[2] == "connected":
            return None if at is None else Connected(client_id, user_id, _host(report.ipaddress), at)
        cause = _EMQX_CAUSES.get(report.reason or "", Cause.ERROR)
        # EMQX 4 gives no time of the connect here: the latest connection has ended.
        return Ended(client_id=client_id, user_id=user_id, cause=cause, network_id=at)


def _host(text: str | None) -> str | None:
    """Read an address, perhaps with a port behind it."""
    if text is None:
        return None
    return plain_address(text) or plain_address(text.rpartition(":")[0].strip("[]"))


# NanoMQ does not escape names in its JSON: a name with a quote could add fields. So the whole message must
# match its one form, in which no name has a quote or a backslash.
_WORD = r'"([^"\\]*)"'
_NANOMQ_CONNECTED = re.compile(
    rf'\{{"username":{_WORD}, ?"ts":(\d{{1,18}}),"proto_name":{_WORD},"keepalive":\d+,"return_code":"0",'
    rf'"proto_ver":\d+,"client_id":{_WORD}, ?"clean_start":\d+(?:, ?"IPv4":{_WORD})?\}}'
)
_NANOMQ_ENDED = re.compile(
    rf'\{{"username":{_WORD}, ?"ts":\d{{1,18}},"reason_code":"([0-9a-f]{{1,2}})","client_id":{_WORD}'
    rf'(?:, ?"IPv4":{_WORD})?\}}'
)
_NANOMQ_CAUSES = {
    0x00: Cause.DISCONNECT,
    0x8B: Cause.CLOSED,  # the socket has closed
    0x8D: Cause.KEEP_ALIVE,
    0x8E: Cause.TAKEOVER,
    0x98: Cause.KICKED,
}
_UNKNOWN = "(null)"


class NanomqEvents:
    """NanoMQ: `$SYS/brokers/connected` and `$SYS/brokers/disconnected`."""

    keeps = False
    keeps_s = 0.0
    lists = False
    names_ends = False
    filters: Sequence[str] = ("$SYS/brokers/connected", "$SYS/brokers/disconnected")
    has_gap = False
    dialect: str | None = None

    def is_gone_at_takeover(self, network_id: int) -> bool:
        """See `Source`."""
        del network_id
        return False

    def read(self, topic: str, payload: bytes) -> Connected | Ended | None:
        """See `Source`."""
        try:
            text = payload.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            return None
        if topic == self.filters[0]:
            found = _NANOMQ_CONNECTED.fullmatch(text)
            if found is None or not _are_names(found[1], found[4]) or int(found[2]) <= 0:
                return None
            address = None if found[5] is None else plain_address(found[5])
            return Connected(ClientId(found[4]), _user(found[1]), address, int(found[2]))
        found = _NANOMQ_ENDED.fullmatch(text) if topic == self.filters[1] else None
        if found is None or not _are_names(found[1], found[3]):
            return None
        cause = _NANOMQ_CAUSES.get(int(found[2], 16), Cause.ERROR)
        return Ended(client_id=ClientId(found[3]), user_id=_user(found[1]), cause=cause)


def _are_names(user: str, client: str) -> bool:
    return is_name(user) and is_name(client)


def _user(user: str) -> UserId | None:
    return None if user == _UNKNOWN else UserId(user)
