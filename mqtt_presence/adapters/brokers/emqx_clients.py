"""EMQX's list of connected clients, by its HTTP API (`GET /api/v5/clients`); after its documentation."""

import base64
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from mqtt_presence.adapters.port import Connected, plain_address
from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.protocol.topics import is_name
from mqtt_presence.rules.model import ClientId, UserId

PAGE = 1000
_MOST_PAGES = 1000
_MOST_BYTES = 16 * 1024 * 1024
_TIMEOUT_S = 10.0
_NO_NAME = "undefined"  # Erlang's word


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key is for this host alone."""

    def redirect_request(self, *_: object) -> None:
        """Return nothing, which makes the redirect an error."""


_OPENER = urllib.request.build_opener(_NoRedirect)


class _Client(Struct):
    clientid: str
    username: str | None = None
    ip_address: str | None = None
    connected: bool = True
    connected_at: datetime | None = None


class _Meta(Struct):
    hasnext: bool = False


class _Page(Struct):
    data: list[_Client]
    meta: _Meta


_decode = msgspec.json.Decoder(_Page).decode


class EmqxClients:
    """Asks EMQX for its connected clients.

    Args:
        url: `http[s]://key:secret@host:port`.

    Raises:
        ConfigError: the URL is wrong; the message has no secret.

    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not host or parts.username is None:
            raise ConfigError(
                "implicit_list must be http[s]://key:secret@host:port of EMQX's HTTP API, or dynamic-security"
            )
        place = f"[{host}]" if ":" in host else host
        self._base = urlunsplit((parts.scheme, place if port is None else f"{place}:{port}", "", "", ""))
        secret = f"{parts.username}:{parts.password or ''}".encode()
        self._authorization = f"Basic {base64.b64encode(secret).decode()}"

    def read(self) -> Sequence[Connected]:
        """Return all connected clients.

        Raises:
            BrokerError: the broker does not answer, or not in the documented form.

        """
        found: list[Connected] = []
        for number in range(1, _MOST_PAGES + 1):
            page = self._page(number)
            found += [client for one in page.data if (client := _connected(one)) is not None]
            if not page.meta.hasnext:
                return found
        raise BrokerError("EMQX's list of clients does not end")

    def _page(self, number: int) -> _Page:
        address = f"{self._base}/api/v5/clients?conn_state=connected&limit={PAGE}&page={number}"
        request = urllib.request.Request(  # noqa: S310 - http and https only
            address, headers={"Authorization": self._authorization}
        )
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
                return _decode(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            error.close()
            raise BrokerError(f"EMQX refuses its list of clients: {error.code} {error.reason}") from None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise BrokerError(f"EMQX's list of clients cannot be read: {error}") from None


def _connected(client: _Client) -> Connected | None:
    at = client.connected_at
    if not client.connected or at is None or at.tzinfo is None or not is_name(client.clientid):
        return None
    user = None if client.username in {None, "", _NO_NAME} else client.username
    if user is not None and not is_name(user):
        return None
    address = None if client.ip_address is None else plain_address(client.ip_address)
    return Connected(
        ClientId(client.clientid),
        None if user is None else UserId(user),
        address,
        round(at.timestamp() * 1000),
    )
