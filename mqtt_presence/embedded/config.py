"""The settings of the embedded broker, and which of them cannot be."""

from dataclasses import dataclass, field
from pathlib import Path

from mqtt_presence.access.passwords import PasswordFile
from mqtt_presence.access.rights import BRIDGE_USER
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import is_loopback
from mqtt_presence.protocol.topics import Topics, require_name


@dataclass(frozen=True, slots=True)
class EmbeddedConfig:
    """Settings of the embedded broker.

    Args:
        host: the address to listen on.
        port: the TCP port; 0 takes any free one.
        ws_port: the WebSocket port; None listens on none, 0 takes any free one.
        prefix: what stands before every topic (contract section 1).
        open: let anyone in under the name they give, without a password.
        insecure: allow ``open`` beyond loopback.
        password_file: the users and their passwords, needed unless ``open``.
        operators: the users who may read ``events/#``.
        bridge_user: the name the bridge logs in with.
        bridge_password: the secret it must always give; empty: nobody can log in as the bridge.
        connect_timeout_s: seconds a new connection has for its CONNECT.
        max_packet_size: the largest packet taken, in bytes; a longer one ends the connection.
        max_connections: clients of one user connected at once; None: any number.

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
    max_packet_size: int = 256 * 1024
    max_connections: int | None = None


def check(config: EmbeddedConfig) -> PasswordFile | None:
    """Refuse settings that cannot work or would surprise; return the password file if there is one.

    Raises:
        ConfigError: a setting is wrong, or would open the broker to the network without passwords.

    """
    Topics(config.prefix)
    require_name("bridge_user", config.bridge_user)
    if config.open and not config.insecure and not is_loopback(config.host):
        raise ConfigError(
            f"host={config.host!r} is reachable from other machines and open=True asks no password of anyone:"
            " set a password_file and open=False, or insecure=True if that is what you want"
        )
    if config.open:
        return None
    if config.password_file is None:
        raise ConfigError("open=False needs a password_file (mqtt-presence passwd <user> writes one)")
    passwords = PasswordFile(config.password_file)
    passwords.load()
    return passwords
