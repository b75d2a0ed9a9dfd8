"""The users of implicit connections (rule I1): the setting `implicit`, and the clients that never count."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from mqtt_presence.bridge.new_connections import ReportedConnection
from mqtt_presence.protocol.topics import is_name
from mqtt_presence.protocol.watchers import is_watcher
from mqtt_presence.rules.model import ClientId, UserId

USERNAME, CLIENT_ID = "username", "client_id"
_CHECK = re.compile(r"(?s).{0,40}-check-[a-z]{1,20}-[0-9a-f]{8}-\d{1,6}(?: é\.x)?")
"""Client ids of `mqtt-presence check`; `probe_names` makes them, and a test compares the two."""


@dataclass(frozen=True, slots=True)
class ImplicitIdentity:
    """Names the user of a connection, or none.

    Args:
        mode: `USERNAME` or `CLIENT_ID`.
        match: the whole client id must match it; None: any.
        own_users: user names of the bridge and of other bridges.
        own_clients: client ids of the bridges; the caller adds them.

    """

    mode: str
    match: re.Pattern[str] | None = None
    own_users: Collection[str] = ()
    own_clients: set[str] = field(default_factory=set)

    def user_of(self, connection: ReportedConnection, client_id: ClientId) -> UserId | None:
        """Return the user of a client's connection; None: the connection does not count by itself."""
        if connection.user_id in self.own_users or client_id in self.own_clients:
            return None
        if is_watcher(client_id) or _CHECK.fullmatch(client_id) is not None:
            return None
        if self.match is not None and self.match.fullmatch(client_id) is None:
            return None
        if self.mode == USERNAME:
            return connection.user_id
        return UserId(client_id) if is_name(client_id) else None
