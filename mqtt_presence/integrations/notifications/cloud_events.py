"""Bodies of webhooks: CloudEvents 1.0 in JSON, one event or a batch. Pure."""

import hashlib
from collections.abc import Sequence
from urllib.parse import quote

import msgspec
from msgspec import Struct

from mqtt_presence.integrations.notifications.notification import Queued
from mqtt_presence.protocol.times import to_iso

ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_BATCH = 100
"""Events of one request."""


class _CloudEvent(Struct, omit_defaults=True):
    id: str
    source: str
    type: str
    subject: str
    time: str
    data: msgspec.Raw
    specversion: str
    datacontenttype: str
    sequence: str | None = None


class Body(Struct, frozen=True):
    """The body of a request, and its id, which a repeated request has too."""

    id: str
    content_type: str
    content: bytes


_encode = msgspec.json.Encoder().encode


def source_of(prefix: str) -> str:
    """Return the source of the events under a prefix of topics: a URI reference."""
    return f"/mqtt-presence/{quote(prefix.removesuffix('/'))}"


def encode_body(source: str, events: Sequence[Queued], *, is_batch: bool) -> Body:
    """Encode the body of a request.

    Args:
        source: see `source_of`.
        events: one or more; not more than one unless `is_batch`.
        is_batch: write a list of events, also of one.

    """
    made = [_made(source, event) for event in events]
    if not is_batch:
        return Body(made[0].id, ONE, _encode(made[0]))
    digest = hashlib.sha256("\n".join(event.id for event in made).encode()).hexdigest()
    return Body(f"batch-{digest[:32]}", BATCH, _encode(made))


def _made(source: str, event: Queued) -> _CloudEvent:
    it = event.notification
    return _CloudEvent(
        id=event.id,
        source=source,
        type=f"mqttpresence.{it.event}.v1",
        subject=it.user_id,
        time=to_iso(it.time),
        data=msgspec.Raw(it.data),
        specversion="1.0",
        datacontenttype="application/json",
        sequence=None if it.version is None else str(it.version),
    )
