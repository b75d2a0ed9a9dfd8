"""The plan for a set of broker files, and the files themselves. No I/O."""

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
        data: its contents.
        secret: readable by its owner only.
        of_broker: readable by the broker.

    """

    name: str
    data: bytes = field(repr=False)
    secret: bool
    of_broker: bool = False


@dataclass(frozen=True, slots=True)
class Tls:
    """The TLS listeners of the broker.

    Args:
        port: of MQTT over TLS.
        ws_port: of WebSocket over TLS; None for no listener.
        hosts: the names and addresses by which clients know the broker; this machine's are added.
        client_certificates: identify clients by certificates instead of passwords.

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
class FilePlan:
    """The wanted configuration of the broker.

    Args:
        directory: the absolute path for all files.
        users: the users with a password, besides the bridge and the operators.
        operators: users who may also read events.
        prefix: the beginning of every topic, as in `Topics.prefix`.
        address: of the listeners without TLS; empty for all addresses.
        port: the TCP port without TLS.
        ws_port: the WebSocket port without TLS; None for no listener.
        tls: None for no TLS listeners.
        run_as: the account that a broker started by root switches to; None without such a switch.

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
            # With a host name, mosquitto starts without opening the port of a WebSocket listener.
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
        """Whether the listeners without TLS have one address, an IPv4 one."""
        return self.address != "" and ipaddress.ip_address(self.address).version == 4

    @property
    def ports(self) -> dict[str, int | None]:
        """The ports by the name of their option; None for no listener."""
        plain = {"port": self.port, "ws-port": self.ws_port}
        if self.tls is None:
            return plain
        return plain | {"tls-port": self.tls.port, "wss-port": self.tls.ws_port}

    @property
    def users_and_operators(self) -> tuple[str, ...]:
        """All users but the bridge, the operators first."""
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
