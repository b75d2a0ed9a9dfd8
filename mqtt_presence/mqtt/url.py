"""The broker's URL, with address and user, in the form that bridge, clients and command line accept."""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

from mqtt_presence.errors import ConfigError

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
DEFAULT_PATH = "/mqtt"
_NO_HOST = re.compile(r"""[\x00-\x20/?#@\[\]\\"<>^`{|}\x7f]""")
_FORM = "mqtt[s]|ws[s]://user:password@host:port/path"


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """The parts of a broker's URL. The password is left out of `str()` and `repr()`.

    Args:
        scheme: ``mqtt``, ``mqtts``, ``ws`` or ``wss``.
        host: a name or an address; IPv6 without brackets.
        port: the TCP port; by default 1883, 8883, 80 or 443.
        path: of the WebSocket, by default ``/mqtt``; empty for ``mqtt`` and ``mqtts``.
        username: the user, percent-decoded; None: anonymous.
        password: percent-decoded; None: the URL has no password.

    """

    scheme: str
    host: str
    port: int
    path: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def tls(self) -> bool:
        """Whether the scheme is ``mqtts`` or ``wss``."""
        return self.scheme in {"mqtts", "wss"}

    @property
    def websockets(self) -> bool:
        """Whether the scheme is ``ws`` or ``wss``."""
        return self.scheme in {"ws", "wss"}

    def __str__(self) -> str:
        """Return the URL with the user and without the password."""
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else quote(self.host)
        user = f"{quote(self.username, safe='')}@" if self.username is not None else ""
        return f"{self.scheme}://{user}{host}:{self.port}{self.path}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URL of the form ``mqtt[s]|ws[s]://user:password@host:port/path``.

        Raises:
            ConfigError: the URL is malformed; the message names the wrong part and never shows the password.

        """
        if not text.isprintable() or " " in text:
            raise ConfigError("the broker URL has a space or a control character: percent-encode it")
        if "://" not in text:
            raise ConfigError(f"the broker URL has no scheme: write {_FORM}")
        try:
            parts = urlsplit(text)
        except ValueError:
            # The message of urllib may quote the password.
            raise ConfigError("the broker URL has a malformed host: write [::1] for IPv6") from None
        if parts.scheme not in DEFAULT_PORTS:
            raise ConfigError(f"the broker URL must begin with {', '.join(f'{s}://' for s in DEFAULT_PORTS)}")
        if parts.query or parts.fragment:
            raise ConfigError(
                "the broker URL must not have ? or #: percent-encode them (%3F, %23) in a password"
            )
        username, password = _credentials(parts)
        return cls(
            scheme=parts.scheme,
            host=_host(parts),
            port=_port(parts),
            path=_path(parts),
            username=username,
            password=password,
        )


def _host(parts: SplitResult) -> str:
    host = _decode("host", parts.hostname or "")
    if not host:
        raise ConfigError(f"the broker URL has no host: write {_FORM}")
    if _NO_HOST.search(host):
        raise ConfigError("the host of the broker URL has a character that no host has")
    if ":" not in host:
        return host.lower()
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ConfigError("the host of the broker URL is no IPv6 address: write [::1]") from None


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        # The text is not shown: after an unencoded / in the password, urllib takes a part of it for the port.
        raise ConfigError(
            "the port of the broker URL must be 1 to 65535 (a / in a password is written %2F, an @ is %40)"
        )
    return DEFAULT_PORTS[parts.scheme] if port is None else port


def _path(parts: SplitResult) -> str:
    if parts.scheme in {"ws", "wss"}:
        return parts.path or DEFAULT_PATH
    if parts.path not in {"", "/"}:
        raise ConfigError(
            "the broker URL must not have a path after mqtt[s]://host:port: only ws[s]:// has one "
            "(a / in a password is written %2F)"
        )
    return ""


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    username = _decode("user", parts.username) if parts.username else None
    password = _decode("password", parts.password) if parts.password is not None else None
    if username is None and password is not None:
        raise ConfigError("the broker URL has a password but no user (MQTT 3.1.1 §3.1.2.9)")
    return username, password


def _decode(part: str, text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise ConfigError(f"the {part} of the broker URL is not UTF-8 or has a NUL once percent-decoded")
    return decoded
