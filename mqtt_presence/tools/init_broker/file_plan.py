"""What a ready set of broker files is to be like, and the files it consists of. No I/O."""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from mqtt_presence.access.rights import BRIDGE_USER
from mqtt_presence.errors import ConfigError
from mqtt_presence.protocol.topics import require_name

MAX_COMMON_NAME = 64
"""The longest common name of a certificate (RFC 5280, ub-common-name)."""

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")


@dataclass(frozen=True, slots=True)
class File:
    """A file of the set.

    Args:
        name: its path within the directory.
        data: what is in it.
        secret: only its owner may read it.
        of_broker: the broker must be able to read it.

    """

    name: str
    data: bytes = field(repr=False)
    secret: bool
    of_broker: bool = False


@dataclass(frozen=True, slots=True)
class Tls:
    """That there is to be TLS.

    Args:
        port: of MQTT over TLS.
        ws_port: of WebSocket over TLS; None: none.
        hosts: the names and addresses by which clients know the broker; this machine's are added.
        client_certificates: they count instead of passwords.

    """

    port: int = 8883
    ws_port: int | None = 8884
    hosts: tuple[str, ...] = ()
    client_certificates: bool = False

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not _is_host(host):
                raise ConfigError(
                    f"host={host!r} must be the name or address by which clients reach the broker"
                )


@dataclass(frozen=True, slots=True)
class Plan:
    """How the broker is to be.

    Args:
        directory: where all files go, absolute.
        users: who gets a password, beside the bridge and the operators.
        operators: users who may also read events.
        prefix: what comes before every topic, as `Topics.prefix` has it.
        address: where to listen without TLS; empty: everywhere.
        port: the TCP port there.
        ws_port: the WebSocket port there; None: none.
        tls: None: none.
        run_as: the account that root shall run the broker as; None: nobody but its own user starts it.

    """

    directory: Path
    users: tuple[str, ...] = ()
    operators: tuple[str, ...] = ("operator",)
    prefix: str = ""
    address: str = "127.0.0.1"
    port: int = 1883
    ws_port: int | None = 9001
    tls: Tls | None = None
    run_as: str | None = None

    def __post_init__(self) -> None:
        if not str(self.directory).isprintable():
            raise ConfigError(
                f"dir={str(self.directory)!r} has a character that configuration files cannot hold"
            )
        for what, names in (("user", self.users), ("operator", self.operators)):
            for name in names:
                self._check_name(what, name)
        if self.address and not _is_address(self.address):
            # mosquitto starts without the port of a WebSocket listener that has a host name.
            raise ConfigError(
                f"listen={self.address!r} must be an address of this machine, such as 127.0.0.1"
            )
        ports = [port for port in self.ports.values() if port is not None]
        for name, port in self.ports.items():
            if port is not None and not 1 <= port <= 65_535:
                raise ConfigError(f"{name}={port} must be 1 to 65535")
            if port is not None and ports.count(port) > 1:
                raise ConfigError(f"{name}={port} is given to two listeners: choose another")

    @property
    def is_ipv4(self) -> bool:
        """Whether there is one address to listen on without TLS, and that of IPv4."""
        return self.address != "" and ipaddress.ip_address(self.address).version == 4

    @property
    def ports(self) -> dict[str, int | None]:
        """The ports by the name of their option; None: there is none."""
        plain = {"port": self.port, "ws-port": self.ws_port}
        if self.tls is None:
            return plain
        return plain | {"tls-port": self.tls.port, "wss-port": self.tls.ws_port}

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody but the bridge, each once: the operators first."""
        return tuple(dict.fromkeys((*self.operators, *self.users)))

    def _check_name(self, what: str, name: str) -> None:
        require_name(what, name)
        if name == BRIDGE_USER:
            raise ConfigError(f"{what}={name} is the bridge's own name: choose another")
        if ":" in name or name.startswith("#") or name != name.strip():
            raise ConfigError(f"{what}={name!r} must not contain :, begin with # or have blanks at its ends")
        if self.tls is not None and self.tls.client_certificates and len(name.encode()) > MAX_COMMON_NAME:
            raise ConfigError(
                f"{what}={name!r} is too long for a certificate: {MAX_COMMON_NAME} bytes at most"
            )


def _is_host(text: str) -> bool:
    return _is_address(text) or (len(text) <= 253 and _HOST.fullmatch(text) is not None)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
