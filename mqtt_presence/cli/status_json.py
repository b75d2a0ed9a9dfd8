"""JSON of statuses received by a client, in the format of `status/<user>`."""

from datetime import datetime

import msgspec
from msgspec import Struct

from mqtt_presence.client import Change
from mqtt_presence.protocol.client_messages import UserStatus
from mqtt_presence.protocol.outgoing import encode_status
from mqtt_presence.rules.model import LastLogin, Status


class _Forgotten(Struct, rename="camel"):
    user_id: str
    version: int


def encode(change: Change, *, private: bool) -> bytes:
    """Return the JSON of a user's new status; of a forgotten user, only name and version.

    Args:
        change: the change of the status.
        private: include addresses and user agents, if the bridge publishes them.

    """
    new = change.new
    if new is None:
        assert change.old is not None
        return msgspec.json.encode(_Forgotten(change.old.user_id, change.old.version))
    return encode_status(
        new.user_id, _status(new), version=new.version, last_seen=millis(new.last_seen), private=private
    )


def millis(moment: datetime | None) -> int | None:
    """Return a time in epoch milliseconds; None for None."""
    return None if moment is None else round(moment.timestamp() * 1000)


def _status(new: UserStatus) -> Status:
    login = None
    if new.last_login is not None:
        date = round(new.last_login.date.timestamp() * 1000)
        login = LastLogin(
            order=date, date=date, ip_addr=new.last_login.ip_addr, user_agent=new.last_login.user_agent
        )
    return Status(
        state=new.state,
        since=millis(new.since),
        connections=new.connections,
        last_activity=millis(new.last_activity),
        last_login=login,
    )
