"""Publications of an outcome of the rules: status and events as MQTT messages; and their stored form."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from mqtt_presence.errors import PayloadError
from mqtt_presence.protocol.incoming import decode_object
from mqtt_presence.protocol.outgoing import encode_event, encode_status
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import Outcome, Status, UserPresence


class Publication(Struct, frozen=True, array_like=True, gc=False):
    """A message to publish at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Publication]).decode


def encode_presence(user: UserPresence, *, private: bool) -> bytes:
    """Encode the status of a user that has one.

    Args:
        user: the user.
        private: whether to include addresses and user agents.

    """
    assert user.status is not None
    return encode_status(
        user.user_id, user.status, version=user.version, last_seen=user.last_seen, private=private
    )


def status_publication(user: UserPresence, status: Status, topics: Topics, *, private: bool) -> Publication:
    """Return the publication of a user's status.

    Args:
        user: the user.
        status: the user's status.
        topics: the topic names.
        private: whether to include addresses and user agents (setting `publish_private`).

    """
    payload = encode_status(
        user.user_id, status, version=user.version, last_seen=user.last_seen, private=private
    )
    return Publication(topics.status(user.user_id), payload, retain=True)


def outcome_publications(outcome: Outcome, topics: Topics, *, private: bool) -> Iterable[Publication]:
    """Return the publications of an outcome, the status before the events."""
    user = outcome.user
    if outcome.status_changed and user.status is not None:
        yield status_publication(user, user.status, topics, private=private)
    for event in outcome.events:
        yield Publication(topics.event(user.user_id, event.name), encode_event(event, user.version))


def version_of(status: bytes) -> int:
    """Return the version in the payload of a status; -1 without one."""
    try:
        version = decode_object(status).get("version")
    except PayloadError:
        return -1
    return version if isinstance(version, int) else -1


def pack(publications: list[Publication]) -> bytes:
    """Encode publications for the outbox."""
    return _encode(publications)


def unpack(body: bytes) -> list[Publication]:
    """Decode the publications of an outbox entry."""
    return _decode(body)
