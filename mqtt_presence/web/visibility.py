"""Visibility of statuses, and of addresses and history. The one module that decides, pure.

Operators see everything. An operator sends a token of that scope, or the password of a user in the setting
`operator`. Where neither is configured, requests from this machine are an operator's. Requests that a reverse
proxy on this machine passes on are not, nor those of another site's page.

A token of the scope `status`, or the password of any user, opens the statuses as all users see them by MQTT.
"""

import base64
import enum
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mqtt_presence.mqtt.addresses import is_local_name, is_loopback, plain_origin
from mqtt_presence.web.config import WebConfig

_LONGEST_CREDENTIALS = 1024
_PROXIED = ("x-forwarded", "x-real-ip", "x-client-ip", "x-original", "cf-connecting", "true-client-ip")
_PROXIES = frozenset({"forwarded", "via"})


class AccessDecision(enum.Enum):
    """The decision on a request."""

    OPERATOR = "operator"
    STATUS = "status"
    """Statuses only; other credentials may open the rest: 403."""
    UNKNOWN = "unknown"
    """Other credentials may help: 401."""
    FORBIDDEN = "forbidden"
    """Credentials do not help: 403."""


@dataclass(frozen=True, slots=True)
class OperatorLogin:
    """A user name and a password, to be verified against the broker's password file."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Requester:
    """The sender of a request.

    Args:
        address: the address of the network connection.
        http_version: the version of the request; browsers send 1.1, some proxies 1.0.
        headers: the headers by lower-case name.

    """

    address: str
    http_version: str
    headers: Mapping[str, str]


def judge(config: WebConfig, requester: Requester) -> AccessDecision | OperatorLogin:
    """Return the decision, or the login to verify first.

    Args:
        config: the configuration of the web server.
        requester: the sender of the request.

    """
    scheme, _, credentials = requester.headers.get("authorization", "").partition(" ")
    scheme = scheme.lower()
    if len(credentials) > _LONGEST_CREDENTIALS:
        return AccessDecision.UNKNOWN
    if scheme == "bearer" and config.tokens:
        return _of_token(config, credentials.strip())
    if scheme == "basic" and takes_passwords(config):
        return _login(credentials) or AccessDecision.UNKNOWN
    if config.tokens or takes_passwords(config):
        return AccessDecision.UNKNOWN
    return AccessDecision.OPERATOR if _is_from_this_machine(config, requester) else AccessDecision.FORBIDDEN


def after_login(config: WebConfig, login: OperatorLogin, *, right: bool) -> AccessDecision:
    """Return the decision after the password was verified.

    Args:
        config: the configuration of the web server.
        login: the name and the password of the request.
        right: whether the password is correct.

    """
    if not right:
        return AccessDecision.UNKNOWN
    return AccessDecision.OPERATOR if login.user in config.operators else AccessDecision.STATUS


def takes_passwords(config: WebConfig) -> bool:
    """Return whether a password opens the API: the broker has passwords, and a user is an operator.

    On a broker without passwords anybody can use the name of an operator.
    """
    return config.open is False and bool(config.operators)


def _of_token(config: WebConfig, sent: str) -> AccessDecision:
    """Return the decision on a token; all tokens are compared, so that the time has no hint."""
    verdict = AccessDecision.UNKNOWN
    for token in config.tokens:
        if (
            hmac.compare_digest(sent.encode(), token.secret.encode())
            and verdict is not AccessDecision.OPERATOR
        ):
            verdict = AccessDecision.OPERATOR if token.is_operator else AccessDecision.STATUS
    return verdict


def _is_from_this_machine(config: WebConfig, requester: Requester) -> bool:
    """Return whether a program on this machine sent the request, not a proxy for another machine."""
    try:
        name = urlsplit(f"//{requester.headers.get('host', '')}").hostname or ""
    except ValueError:  # a misplaced bracket
        return False
    proxied = any(header in _PROXIES or header.startswith(_PROXIED) for header in requester.headers)
    return (
        config.is_local
        and config.open is not False
        and not config.remote_origins
        and not config.proxy
        and is_loopback(requester.address)
        and is_local_name(name)
        and requester.http_version != "1.0"
        and not proxied
        # A script of another site brings credentials of its own.
        and plain_origin(requester.headers.get("origin", "")) not in config.cors
    )


def _login(credentials: str) -> OperatorLogin | None:
    """Read the credentials of HTTP Basic (RFC 7617, in UTF-8)."""
    try:
        user, colon, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:  # not ASCII, not base64, or not UTF-8 inside
        return None
    return OperatorLogin(user, password) if colon else None
