"""The settings of the embedded broker, and their check."""

from dataclasses import dataclass, field
from pathlib import Path

from mqtt_presence.access.passwords import PasswordFile
from mqtt_presence.access.rights import BRIDGE_USER, Profiles
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import is_loopback
from mqtt_presence.protocol.topics import Topics, require_name

MAX_PACKET_SIZE = 256 * 1024
"""Bytes in a packet, where no device profile needs more."""


@dataclass(frozen=True, slots=True)
class EmbeddedConfig:
    """Settings of the embedded broker.

    Args:
        host: the address to listen on. port: the TCP port; 0 takes any free one. ws_port: the WebSocket port;
        0 takes any free one, None opens no WebSocket port. prefix: the beginning of every topic
        (docs/protocol.md, "Topics"). open: accept every client under the name that it gives, without a
        password. insecure: allow ``open`` beyond loopback. password_file: the users and their passwords,
        needed unless ``open``. operators: users with the right to read ``events/#``. bridge_user: the name
        the bridge logs in with. bridge_password: the bridge's secret, needed in open mode too; empty: no
        client can log in as the bridge. connect_timeout_s: seconds that a new network connection has for its
        CONNECT. max_packet_size: bytes in a packet; a larger packet ends the connection. max_connections:
        clients of one user connected at once; None: no limit. discovery_prefix: that of Home Assistant; None:
        Home Assistant is not used. profiles: the device profiles, whose topics every client may publish to;
        None: there are none.

    """

    host: str = "127.0.0.1"
    port: int = 1883
    ws_port: int | None = None
    prefix: str = ""
    open: bool = True
    insecure: bool = False
    password_file: Path | None = None
    operators: frozenset[str] = frozenset()
    bridge_user: str = BRIDGE_USER
    bridge_password: str = field(default="", repr=False)
    connect_timeout_s: float = 10.0
    max_packet_size: int = MAX_PACKET_SIZE
    max_connections: int | None = None
    discovery_prefix: str | None = None
    profiles: Profiles | None = None


def check(config: EmbeddedConfig) -> PasswordFile | None:
    """Check the settings; return the password file if there is one.

    Raises:
        ConfigError: a setting is wrong, or would open the broker to the network without passwords.

    """
    Topics(config.prefix)
    require_name("bridge_user", config.bridge_user)
    if config.open and not config.insecure and not is_loopback(config.host):
        raise ConfigError(
            f"host={config.host!r} is reachable from other machines and open=True needs no password:"
            " set a password_file and open=False, or insecure=True if you want that"
        )
    if config.open:
        return None
    if config.password_file is None:
        raise ConfigError("open=False needs a password_file (mqtt-presence passwd <user> writes one)")
    passwords = PasswordFile(config.password_file)
    passwords.load()
    return passwords
