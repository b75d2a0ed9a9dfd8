"""Questions to mosquitto's dynamic-security plugin about a user's sessions; from 2.1 on, after its source.

The plugin lists sessions by user, with the address of each. It names no client ids, and a session whose
client is away counts too, with its last address. So the list can prove that a connection has ended, and never
that one is open.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from mqtt_presence.adapters.port import plain_address
from mqtt_presence.errors import BrokerError

DYNAMIC_SECURITY = "dynamic-security"
QUESTIONS = "$CONTROL/dynamic-security/v1"
ANSWERS = f"{QUESTIONS}/response"
_COMMAND = "getClient"


class UserSessions(Struct, frozen=True):
    """The sessions of one user."""

    addresses: frozenset[str | None]
    """None among them: a session without a readable address."""
    client_id: str | None = None
    """The one client id that the plugin admits for this user; None: any, and all are listed."""

    def proves_end(self, client_id: str, address: str | None) -> bool:
        """Return whether none of these sessions can be a client's connection from an address."""
        if self.client_id is not None and self.client_id != client_id:
            return False
        if not self.addresses:
            return True
        return address is not None and None not in self.addresses and address not in self.addresses


class _ListedSession(Struct):
    address: str | None = None


class _ClientSessions(Struct):
    username: str
    clientid: str | None = None
    connections: list[_ListedSession] | None = None


class _ResponseData(Struct):
    client: _ClientSessions | None = None


class _CommandResponse(Struct):
    command: str = ""
    correlationData: str | None = None  # noqa: N815 - the plugin's word
    data: _ResponseData | None = None


class _PluginAnswer(Struct):
    responses: list[_CommandResponse] = []
    error: str | None = None


_decode = msgspec.json.Decoder(_PluginAnswer).decode


def question(users: Sequence[str], token: str) -> bytes:
    """Return a question about some users.

    Args:
        users: their names at the broker.
        token: marks the answer, which every administrator receives.

    """
    commands = [{"command": _COMMAND, "username": user, "correlationData": token} for user in users]
    return msgspec.json.encode({"commands": commands})


def answer(payload: bytes, token: str) -> Mapping[str, UserSessions] | None:
    """Return the sessions by user; a user whom the plugin does not know is missing.

    Returns:
        None: the message answers another question.

    Raises:
        BrokerError: the broker has no such plugin, its version lists no sessions, or the form is unknown.

    """
    try:
        found = _decode(payload)
    except msgspec.MsgspecError as error:
        raise BrokerError(f"its answer cannot be read: {error}") from None
    if found.error is not None:
        raise BrokerError(f"the broker answers {found.error!r}")
    ours = [r for r in found.responses if r.command == _COMMAND and r.correlationData == token]
    if not ours:
        return None
    clients = [r.data.client for r in ours if r.data is not None and r.data.client is not None]
    sessions = {
        c.username: _sessions(c.connections, c.clientid) for c in clients if c.connections is not None
    }
    if len(sessions) < len(clients):
        raise BrokerError("it lists no connections; mosquitto does so from 2.1 on")
    return sessions


def _sessions(connections: Sequence[_ListedSession], client_id: str | None) -> UserSessions:
    addresses = (None if one.address is None else plain_address(one.address) for one in connections)
    return UserSessions(frozenset(addresses), client_id)
