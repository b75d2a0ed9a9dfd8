"""JSON of statuses received by a client, in the format of `status/<user>`."""

from datetime import datetime

import msgspec
from msgspec import Struct

from mqtt_presence.client import Change
from mqtt_presence.protocol import client_messages


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
    return msgspec.json.encode(new.to_dict(private=private))


def millis(moment: datetime | None) -> int | None:
    """Return a time in epoch milliseconds; None for None."""
    return None if moment is None else client_messages.millis(moment)
