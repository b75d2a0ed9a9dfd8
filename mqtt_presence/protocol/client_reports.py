"""The embedded broker's reports of its clients: one JSON object in each message, for the bridge only.

The broker numbers its reports, and sends the list of all connected clients at each subscription of the
bridge: a lost report is noticed, and the list repairs it.
"""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from mqtt_presence.rules.model import Cause

CLIENTS_OF_A_MESSAGE = 500


class ReportedClient(Struct, frozen=True, gc=False):
    """A connected client."""

    client: str
    user: str
    address: str
    id: int
    """The number of its network connection, never used again."""


class ReportedEnd(Struct, frozen=True, gc=False):
    """The end of a client's network connection."""

    client: str
    user: str
    id: int
    cause: Cause


class ClientReport(Struct, frozen=True, gc=False, omit_defaults=True):
    """One message: a connect, an end, or a part of the list."""

    number: int
    connected: ReportedClient | None = None
    ended: ReportedEnd | None = None
    clients: tuple[ReportedClient, ...] | None = None
    first: bool = False
    last: bool = False


_encode = msgspec.json.Encoder().encode
decode_client_report = msgspec.json.Decoder(ClientReport).decode


def encode_connected(number: int, client: ReportedClient) -> bytes:
    """Return the payload of a report that a client has connected."""
    return _encode(ClientReport(number, connected=client))


def encode_ended(number: int, client: ReportedClient, cause: Cause) -> bytes:
    """Return the payload of a report that a client's network connection has ended."""
    return _encode(ClientReport(number, ended=ReportedEnd(client.client, client.user, client.id, cause)))


def encode_list(number: int, clients: Sequence[ReportedClient]) -> Iterator[bytes]:
    """Return the payloads of the list of connected clients.

    Args:
        number: of the latest report.
        clients: in any order.

    """
    for start in range(0, max(1, len(clients)), CLIENTS_OF_A_MESSAGE):
        end = start + CLIENTS_OF_A_MESSAGE
        yield _encode(
            ClientReport(
                number, clients=tuple(clients[start:end]), first=start == 0, last=end >= len(clients)
            )
        )
