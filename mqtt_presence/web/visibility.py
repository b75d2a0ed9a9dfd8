"""Who may see addresses and history: the one place that decides, pure.

Contract section 4: addresses and user agents are nobody's business but the operator's. An operator shows the
token, or the password of a user named in the setting `operator`. Where neither exists, the people of this
machine are the operators of what runs on it: but only they, and a reverse proxy must not lend strangers its
address.
"""

import base64
import enum
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mqtt_presence.mqtt.addresses import is_local_name, is_loopback
from mqtt_presence.web.config import WebConfig

_LONGEST_CREDENTIALS = 1024
_PROXIED = ("x-forwarded", "x-real-ip", "x-client-ip", "x-original", "cf-connecting", "true-client-ip")
_PROXIES = frozenset({"forwarded", "via"})


class Verdict(enum.Enum):
    """What is to be done with a request for what only operators may see."""

    OPERATOR = "operator"
    UNKNOWN = "unknown"
    """It may try again with credentials: 401."""
    FORBIDDEN = "forbidden"
    """Credentials would not help: 403."""


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password that are still to be verified with the broker's password file."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Requester:
    """What is known of whoever asks.

    Args:
        peer: the address of the connection.
        http_version: of the request; browsers speak 1.1, some proxies 1.0.
        headers: by lower-case name.

    """

    peer: str
    http_version: str
    headers: Mapping[str, str]


def judge(config: WebConfig, requester: Requester) -> Verdict | Login:
    """Decide, or say whose password is to be verified first.

    Args:
        config: the server's.
        requester: who asks.

    """
    scheme, _, credentials = requester.headers.get("authorization", "").partition(" ")
    scheme = scheme.lower()
    if len(credentials) > _LONGEST_CREDENTIALS:
        return Verdict.UNKNOWN
    if scheme == "bearer" and config.token:
        right = hmac.compare_digest(credentials.strip().encode(), config.token.encode())
        return Verdict.OPERATOR if right else Verdict.UNKNOWN
    if scheme == "basic" and takes_passwords(config):
        return _login(credentials) or Verdict.UNKNOWN
    if config.token or takes_passwords(config):
        return Verdict.UNKNOWN
    return Verdict.OPERATOR if _is_at_home(config, requester) else Verdict.FORBIDDEN


def after_login(config: WebConfig, login: Login, *, right: bool) -> Verdict:
    """Decide once the password has been verified.

    Args:
        config: the server's.
        login: what was shown.
        right: it is the user's password.

    """
    if not right:
        return Verdict.UNKNOWN
    return Verdict.OPERATOR if login.user in config.operators else Verdict.FORBIDDEN


def takes_passwords(config: WebConfig) -> bool:
    """Say whether a password opens the API: there are some, and somebody is an operator.

    Where the broker is open a name proves nothing, so `operator` opens nothing there.
    """
    return config.open is False and bool(config.operators)


def _is_at_home(config: WebConfig, requester: Requester) -> bool:
    """Say whether somebody on this machine asks, and not a proxy for somebody elsewhere."""
    try:
        name = urlsplit(f"//{requester.headers.get('host', '')}").hostname or ""
    except ValueError:  # a bracket where none may be
        return False
    proxied = any(header in _PROXIES or header.startswith(_PROXIED) for header in requester.headers)
    return (
        config.is_local
        and config.open is not False
        and not config.strangers
        and not config.proxy
        and is_loopback(requester.peer)
        and is_local_name(name)
        and requester.http_version != "1.0"
        and not proxied
    )


def _login(credentials: str) -> Login | None:
    """Read the credentials of HTTP Basic (RFC 7617, in UTF-8)."""
    try:
        user, colon, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:  # no base64, no ASCII at all, or no UTF-8 in it
        return None
    return Login(user, password) if colon else None
